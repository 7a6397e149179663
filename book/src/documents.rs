//! The Markdown documents of the repository as they lie there: each relative link leads to a file that exists, each anchor to
//! a heading, each path in the text (`` `runner-core/src/job.rs` ``) to a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// How documents are read: as GitHub, GitLab and mdBook do.
pub(crate) const OPTIONS: Options =
    Options::ENABLE_TABLES.union(Options::ENABLE_STRIKETHROUGH).union(Options::ENABLE_FOOTNOTES);

/// What one document has that others, or the check, need.
#[derive(Default)]
struct Document {
    /// Destinations with their lines.
    links: Vec<(String, usize)>,
    /// Pieces of code in the text, with their lines.
    code: Vec<(String, usize)>,
    /// Addresses of its headings, as browsers of repositories make them.
    anchors: Vec<String>,
}

/// Checks every document that git knows; returns the broken links, one line each.
///
/// # Errors
///
/// When `root` is no git work tree or a document cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let listed = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z"])
        .output()
        .context("git does not run")?;
    if !listed.status.success() {
        bail!("git ls-files in {}: {}", root.display(), String::from_utf8_lossy(&listed.stderr));
    }
    let files: Vec<String> =
        String::from_utf8_lossy(&listed.stdout).split_terminator('\0').map(str::to_owned).collect();
    let mut documents = BTreeMap::new();
    // A file that was removed and not yet committed is listed, and is none.
    for name in files.iter().filter(|name| name.ends_with(".md") && root.join(name).exists()) {
        let text = std::fs::read_to_string(root.join(name)).with_context(|| name.clone())?;
        documents.insert(name.clone(), read(&text));
    }
    let tops: Vec<&str> =
        files.iter().filter_map(|name| name.split_once('/')).map(|(top, _)| top).collect();
    let mut broken = Vec::new();
    for (name, document) in &documents {
        for (link, line) in &document.links {
            if let Some(why) = broken_link(root, &documents, name, link) {
                broken.push(format!("{name}:{line}: {link}: {why}"));
            }
        }
        for (code, line) in &document.code {
            let top = code.split('/').next().filter(|top| *top != code);
            if top.is_some_and(|top| tops.contains(&top)) && looks_like_a_path(code) {
                let missing = expand(code).into_iter().find(|path| !root.join(path).exists());
                broken.extend(
                    missing.map(|path| format!("{name}:{line}: `{path}`: there is no such file")),
                );
            }
        }
    }
    Ok(broken)
}

/// Why a link of the document `from` leads nowhere.
fn broken_link(
    root: &Path,
    documents: &BTreeMap<String, Document>,
    from: &str,
    link: &str,
) -> Option<String> {
    let (path, fragment) = split(link);
    if is_elsewhere(link) {
        let known =
            ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme));
        return (!known).then(|| "not an address".to_owned());
    }
    let target = match path {
        "" => from.to_owned(),
        path => match resolve(from, path) {
            Some(target) => target,
            None => return Some("leads out of the repository".to_owned()),
        },
    };
    if !root.join(&target).exists() {
        return Some(format!("there is no {target}"));
    }
    let anchor = fragment.strip_prefix('#')?;
    let document = documents.get(&target)?;
    (!document.anchors.iter().any(|known| known == anchor))
        .then(|| format!("{target} has no heading `{anchor}`"))
}

/// Takes from a document what is checked.
fn read(text: &str) -> Document {
    let mut document = Document::default();
    let mut heading: Option<String> = None;
    for (event, range) in Parser::new_ext(text, OPTIONS).into_offset_iter() {
        let line = || text[..range.start].matches('\n').count() + 1;
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                document.links.push((dest_url.to_string(), line()));
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&heading.take().unwrap_or_default());
                let same = document.anchors.iter().filter(|known| **known == anchor).count();
                document.anchors.push(if same == 0 { anchor } else { format!("{anchor}-{same}") });
            }
            Event::Text(words) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&words);
                }
                // mdBook's own: `{{#include FILE}}`.
                for include in words.split("{{#include ").skip(1) {
                    let file = include.split([':', '}']).next().unwrap_or_default().trim();
                    document.links.push((file.to_owned(), line()));
                }
            }
            Event::Code(words) => {
                document.code.push((words.to_string(), line()));
                if let Some(heading) = &mut heading {
                    heading.push_str(&words);
                }
            }
            _ => {}
        }
    }
    document
}

/// The address of a heading, as GitHub, GitLab and mdBook make it.
fn anchor(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

/// Path and fragment (with its `#`) of a link.
pub(crate) fn split(link: &str) -> (&str, &str) {
    link.split_at(link.find('#').unwrap_or(link.len()))
}

fn is_elsewhere(link: &str) -> bool {
    let path = split(link).0;
    path.starts_with("//") || path.split('/').next().is_some_and(|start| start.contains(':'))
}

/// The path in the repository of what `link` in the file `from` means; `None` for other sites and what lies outside.
pub(crate) fn resolve(from: &str, link: &str) -> Option<String> {
    if is_elsewhere(link) || link.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Not a command, not a pattern, not a name with a hole in it.
fn looks_like_a_path(code: &str) -> bool {
    code.chars().all(|c| c.is_ascii_alphanumeric() || "/._-{},".contains(c))
        && !code.contains("...")
}

/// `a/{b,c}/{d,e}.rs` in full.
fn expand(path: &str) -> Vec<String> {
    let (Some(open), Some(close)) = (path.find('{'), path.find('}')) else {
        return vec![path.to_owned()];
    };
    if close < open {
        return vec![path.to_owned()];
    }
    let (before, after) = (&path[..open], &path[close + 1..]);
    path[open + 1..close]
        .split(',')
        .flat_map(|part| expand(&format!("{before}{}{after}", part.trim())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said about a repository of `a.md` and `docs/b.md`, which has a heading `Here & there`.
    fn broken(a: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("a.md", a);
        write("docs/b.md", "# Here & there\n");
        write("src/lib.rs", "");
        for arguments in [["init", "--quiet", "."], ["add", "--all", "."]] {
            assert!(
                Command::new("git").current_dir(&root).args(arguments).status().unwrap().success()
            );
        }
        check(root.path()).unwrap()
    }

    #[test]
    fn good_links_are_silent() {
        let text = "# A\n[x](docs/b.md#here--there) [y](#a) [z](docs) [w](https://x.example/) `src/{lib,lib}.rs` `src/*.md`";
        assert_eq!(broken(text), Vec::<String>::new());
    }

    #[test]
    fn each_way_to_lead_nowhere_is_named_with_its_line() {
        for (text, said) in [
            ("\n[x](docs/c.md)", "a.md:2: docs/c.md: there is no docs/c.md"),
            ("[x](docs/b.md#where)", "a.md:1: docs/b.md#where: docs/b.md has no heading `where`"),
            ("[x](#b)", "a.md:1: #b: a.md has no heading `b`"),
            ("[x](../b.md)", "a.md:1: ../b.md: leads out of the repository"),
            ("![x](docs/b.png)", "a.md:1: docs/b.png: there is no docs/b.png"),
            ("[x][y]\n\n[y]: docs/c.md", "a.md:1: docs/c.md: there is no docs/c.md"),
            ("[x](htps://x.example)", "a.md:1: htps://x.example: not an address"),
            ("see `src/{lib,main}.rs`", "a.md:1: `src/main.rs`: there is no such file"),
            ("{{#include docs/c.md}}", "a.md:1: docs/c.md: there is no docs/c.md"),
        ] {
            assert_eq!(broken(text), [said], "{text}");
        }
    }

    #[test]
    fn code_is_not_read_as_links() {
        assert_eq!(
            broken("`[x](nowhere.md)`\n\n```\n[x](nowhere.md)\n```\n"),
            Vec::<String>::new()
        );
    }
}
