//! The pages of `docs/` and of the repository's root, and the book made of them: nothing leads nowhere.
//!
//! With `PODWRIGHT_BOOK=DIRECTORY` (`.ci/run book`) the built book is looked at too.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// All pages, by their path in the repository.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut directories = vec![root(), root().join("docs")];
    let examples = fs::read_dir(root().join("examples")).unwrap();
    directories.extend(examples.map(|entry| entry.unwrap().path()));
    for directory in directories {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|name| name == "md")));
    }
    pages.sort();
    pages
}

/// A page without its blocks of code.
fn prose(page: &Path) -> String {
    let text = fs::read_to_string(page).unwrap();
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Where a page's links lead: `[text](here)`.
fn targets(prose: &str) -> Vec<&str> {
    let links = prose.split("](").skip(1);
    links.filter_map(|rest| Some(rest.split_once(')')?.0)).collect()
}

/// The anchors of a page's headings, as GitLab, GitHub and mdBook make them.
fn anchors(page: &Path) -> BTreeSet<String> {
    let text = prose(page);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_between_pages_leads_to_a_file_and_to_a_heading_of_it() {
    let mut broken = Vec::new();
    for page in pages() {
        let prose = prose(&page);
        for target in targets(&prose) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() { page.clone() } else { page.with_file_name(path) };
            let is_page = file.extension().is_some_and(|name| name == "md");
            if !file.exists() || is_page && !anchor.is_empty() && !anchors(&file).contains(anchor) {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_is_in_the_book_once() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let mut listed = targets(&summary);
    let count = listed.len();
    listed.sort_unstable();
    listed.dedup();
    assert_eq!(listed.len(), count, "a page is listed twice");
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let names = docs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| name.ends_with(".md") && name != "SUMMARY.md").collect();
    names.sort_unstable();
    assert_eq!(names, listed);
}

/// The attribute's values in a page of the book.
fn values<'a>(html: &'a str, attribute: &str) -> Vec<&'a str> {
    let parts = html.split(attribute).skip(1);
    parts.filter_map(|rest| Some(rest.split_once('"')?.0)).collect()
}

#[test]
fn every_link_of_the_book_leads_to_a_page_and_to_a_place_in_it() {
    let Some(book) = std::env::var_os("PODWRIGHT_BOOK").map(PathBuf::from) else {
        eprintln!("not looked at: PODWRIGHT_BOOK names no book (`.ci/run book` builds one)");
        return;
    };
    let mut ids = BTreeMap::new();
    let mut html = BTreeMap::new();
    for entry in fs::read_dir(&book).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // All pages in one, with the links of each: looked at by themselves.
        if name.ends_with(".html") && name != "print.html" {
            let text = fs::read_to_string(&path).unwrap();
            let found = values(&text, " id=\"").into_iter().map(str::to_owned);
            ids.insert(name.clone(), found.collect::<BTreeSet<_>>());
            html.insert(name, text);
        }
    }
    assert!(html.len() > 15, "{} pages in {}", html.len(), book.display());
    let (mut broken, mut seen) = (Vec::new(), 0);
    for (name, text) in &html {
        for target in values(text, " href=\"").into_iter().chain(values(text, " src=\"")) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { name } else { file };
            let fits = match ids.get(file) {
                Some(ids) => anchor.is_empty() || ids.contains(anchor),
                None => book.join(file).exists() && !file.ends_with(".md"),
            };
            if !fits {
                broken.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(seen > 100, "only {seen} links were found: the book looks different than it did");
    assert!(broken.is_empty(), "{broken:#?}");
}

const MADE: &str = "<!-- made of faults.md by `PODWRIGHT_UPDATE_DOCS=1 cargo test -p runner-bin --test documentation` -->";

/// The fault tests' table, from the other end: what somebody sees, and what may have led to it.
fn by_last_line(faults: &str) -> String {
    let mut causes: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for line in faults.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [what, reason, _, last] = cells[..] else { continue };
        let fails = !matches!(reason, "success" | "none is wanted" | "Failure reason" | "---");
        if fails && !reason.starts_with('-') {
            causes.entry((last, reason)).or_default().push(what);
        }
    }
    let mut table =
        String::from("| The log ends with | Failure reason | What may have happened |\n");
    table.push_str("|---|---|---|\n");
    for ((last, reason), causes) in causes {
        table.push_str(&format!("| {last} | {reason} | {} |\n", causes.join("; ")));
    }
    table
}

#[test]
fn the_list_of_symptoms_is_the_table_of_faults_from_the_other_end() {
    let file = root().join("docs/troubleshooting.md");
    let faults = fs::read_to_string(root().join("docs/faults.md")).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let (before, _) = text.split_once(MADE).expect("the page says where its made part begins");
    let table = by_last_line(&faults);
    assert!(table.lines().count() > 10, "{table}");
    let wanted = format!("{before}{MADE}\n\n{table}");
    if std::env::var_os("PODWRIGHT_UPDATE_DOCS").is_some() {
        fs::write(&file, &wanted).unwrap();
        return;
    }
    assert!(text == wanted, "docs/troubleshooting.md is not made of docs/faults.md any more");
}
