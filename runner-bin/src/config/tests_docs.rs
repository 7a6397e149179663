//! `docs/settings.md` is what the tables say of themselves.

use std::fmt::Write as _;
use std::path::Path;

use super::raw::RawConfig;
use super::shape::{Field, Shape};

/// Set it to have the file written.
const UPDATE: &str = "PODWRIGHT_UPDATE_DOCS";

const HEAD: &str = "\
# Settings

Every key of `config.toml`. This file is made from the text beside each key in the source
(`PODWRIGHT_UPDATE_DOCS=1 cargo test -p runner-bin --lib config`); editors get the same from
`podwright config schema`, and `podwright config check FILE` says what is wrong with a file.

Keys are GitLab Runner's and mean what they mean there, unless they say that they are Podwright's own.
What is *without effect* is accepted, so that a file of GitLab Runner's can be used as it is.

Durations are written as in Go, `1h30m`, or as nanoseconds. Quantities are Kubernetes': `500m`, `2`, `1Gi`;
an empty one and zero are not set. `KUBERNETES_*` are variables by which a job changes a setting; a
*ceiling* is the most it may ask for, and without a ceiling, or a regular expression that lets the
value through, the variable has no effect. `podwright pod preview` shows what comes of it all.
";

/// A table that is still to be described: its path, and the first line about it.
struct Pending {
    path: String,
    about: String,
    fields: &'static [Field],
}

fn render() -> String {
    let mut out = HEAD.to_owned();
    let about = "The file itself.".to_owned();
    let mut seen: Vec<(&'static [Field], String)> = Vec::new();
    let mut pending = vec![Pending { path: String::new(), about, fields: RawConfig::FIELDS }];
    while let Some(Pending { path, about, fields }) = pending.pop() {
        let title = if path.is_empty() { "Top level".to_owned() } else { format!("`{path}`") };
        let _ = writeln!(out, "\n## {title}\n\n{about}\n");
        if let Some((_, first)) = seen.iter().find(|(known, _)| std::ptr::eq(*known, fields)) {
            let _ = writeln!(out, "The same keys as in `{first}`.");
            continue;
        }
        seen.push((fields, path.clone()));
        out.push_str("| Key | Value | Default | Meaning |\n|---|---|---|---|\n");
        let mut inner = Vec::new();
        for field in fields {
            let shape = (field.shape)();
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {} |",
                field.key,
                value(shape, field),
                default(field),
                meaning(field)
            );
            let place = if path.is_empty() { String::new() } else { format!("{path}.") };
            let place = format!("{place}{}", field.key);
            let table = match shape {
                Shape::Table(fields) => Some((format!("[{place}]"), fields)),
                Shape::List(of) => match of() {
                    Shape::Table(fields) => Some((format!("[[{place}]]"), fields)),
                    _ => None,
                },
                _ => None,
            };
            if let Some((_, fields)) = table.filter(|_| field.ignored.is_none()) {
                inner.push(Pending { path: place, about: meaning(field), fields });
            }
        }
        pending.extend(inner.into_iter().rev());
    }
    out
}

fn value(shape: Shape, field: &Field) -> String {
    let words = |list: &[&str]| {
        let quoted: Vec<_> = list.iter().map(|word| format!("`{word}`")).collect();
        quoted.join(", ")
    };
    if !field.allowed.is_empty() {
        return words(field.allowed);
    }
    let kind = match shape {
        Shape::Text | Shape::Secret => "text",
        Shape::Integer => "integer",
        Shape::Number => "number",
        Shape::Flag => "`true`, `false`",
        Shape::Duration => "duration",
        Shape::Date => "date and time",
        Shape::OneOrMany => "text or list",
        Shape::List(of) => match of() {
            Shape::Table(_) => "tables, below",
            Shape::Integer => "list of integers",
            _ => "list",
        },
        Shape::Map(_) => "table",
        Shape::Table(_) => "table, below",
        Shape::Foreign => "table",
    };
    match field.known {
        [] => kind.to_owned(),
        known => format!("{kind}: {}", words(known)),
    }
}

fn default(field: &Field) -> String {
    match field.default {
        "" => String::new(),
        default => format!("`{default}`"),
    }
}

fn meaning(field: &Field) -> String {
    let mut text = field.about.trim().replace('|', "\\|");
    if let Some(why) = field.ignored {
        let _ = write!(text, " *Without effect: {why}.*");
    }
    if field.restart {
        text.push_str(" *A change takes effect with the next start.*");
    }
    text
}

fn keys_without_text(fields: &'static [Field], path: &str, out: &mut Vec<String>) {
    for field in fields {
        let key = format!("{path}.{}", field.key);
        if field.about.trim().len() < 3 {
            out.push(key.clone());
        }
        match (field.shape)() {
            Shape::Table(inner) => keys_without_text(inner, &key, out),
            Shape::List(of) => {
                if let Shape::Table(inner) = of() {
                    keys_without_text(inner, &key, out);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn every_key_has_a_text() {
    let mut missing = Vec::new();
    keys_without_text(RawConfig::FIELDS, "", &mut missing);
    assert!(missing.is_empty(), "keys without a text: {missing:#?}");
}

#[test]
fn the_page_about_settings_is_what_the_tables_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    let rendered = render();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&file, &rendered).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = rendered.lines().zip(written.lines()).find(|(one, other)| one != other);
    assert!(
        rendered == written,
        "docs/settings.md is not what the tables say; run the tests with {UPDATE}=1: {differs:?}"
    );
}
