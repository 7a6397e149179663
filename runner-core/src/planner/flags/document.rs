//! `docs/feature-flags.md` says what the table says, and the table says what the code does.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Effect, FLAGS};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    let mut page = String::from(
        "# Feature flags\n\n\
         The 52 flags of GitLab Runner 19.4 and what each one does in Podwright. They are set where \
         GitLab Runner's are: in `[runners.feature_flags]`, as a job's variable, in `environment` \
         (the first of these that says something counts). All of them are exported to jobs.\n\n\
         *Obeyed*: it does what it says. *Needless*: there is nothing for it to do. *Refused*: it \
         has no effect, and a job that sets it says so at the beginning of its log.\n\n\
         This page is made of `runner-core/src/planner/flags/table.rs`; a test says when it is not \
         (`PODWRIGHT_WRITE_DOCS=1 cargo test -p runner-core document` writes it).\n\n\
         | Flag | Default | | |\n|---|---|---|---|\n",
    );
    for flag in FLAGS {
        let (word, text) = match flag.effect {
            Effect::Obeyed(text) => ("obeyed", text.to_owned()),
            Effect::Needless(text) => ("needless", text.to_owned()),
            Effect::Refused(text) => ("**refused**", format!("{}.", capital(text))),
        };
        let default = if flag.default { "on" } else { "off" };
        page.push_str(&format!("| `{}` | {default} | {word} | {text} |\n", flag.name));
    }
    page
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase).into_iter().flatten();
    first.chain(letters).collect()
}

#[test]
fn the_page_about_feature_flags_says_what_the_table_says() {
    let path = workspace().join("docs/feature-flags.md");
    if std::env::var_os("PODWRIGHT_WRITE_DOCS").is_some() {
        fs::write(&path, page()).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == page(), "PODWRIGHT_WRITE_DOCS=1 writes it anew");
}

#[test]
fn every_obeyed_flag_is_read_somewhere() {
    let mut source = String::new();
    for entry in fs::read_dir(workspace()).unwrap().flatten() {
        collect(&entry.path().join("src"), &mut source);
    }
    let unread: Vec<_> = FLAGS
        .iter()
        .filter(|flag| matches!(flag.effect, Effect::Obeyed(_)))
        .filter(|flag| !source.contains(&format!("\"{}\"", flag.name)))
        .map(|flag| flag.name)
        .collect();
    assert!(unread.is_empty(), "called obeyed, and nobody reads them: {unread:?}");
}

/// All code below a directory, apart from the table and from this page.
fn collect(directory: &Path, source: &mut String) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            if !path.ends_with("planner/flags") && !path.ends_with("tests") {
                collect(&path, source);
            }
        } else if path.extension().is_some_and(|end| end == "rs")
            && !path.ends_with("planner/flags.rs")
        {
            source.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
