//! `docs/stages-checklist.md` and `docs/kubernetes-checklist.md` name tests that exist, and every row has
//! one or says why not. (The manager's list has only the rows that are special.)

#![expect(clippy::unwrap_used, reason = "helpers of a test, which clippy does not take for one")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A page, what its tests' names begin with before the row's number, and how many rows it has.
struct Page {
    file: &'static str,
    prefix: &'static str,
    rows: usize,
}

const STAGES: Page = Page { file: "docs/stages-checklist.md", prefix: "stages_", rows: 120 };
const KUBERNETES: Page = Page { file: "docs/kubernetes-checklist.md", prefix: "k8s_", rows: 96 };

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Names of all functions in Rust files of the workspace's crates.
fn functions() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open: Vec<PathBuf> = fs::read_dir(workspace())
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .flat_map(|path| [path.join("src"), path.join("tests")])
        .collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().flatten().map(|entry| entry.path()));
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let found = text.split("fn ").skip(1).filter_map(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
                Some(rest[..end].to_owned())
            });
            names.extend(found);
        }
    }
    names
}

/// The rows that a test's name carries: `stages_46_47_of_something` → 46, 47, and `k8s_01_k8s_21_…`.
fn rows_of(test: &str, prefix: &str) -> Vec<usize> {
    let word = prefix.trim_end_matches('_');
    let Some(rest) = test.strip_prefix(prefix) else { return Vec::new() };
    let numbers = rest.split('_').filter(|part| *part != word).map_while(|part| part.parse().ok());
    numbers.collect()
}

/// Number, behaviour, tests, remark.
type Row = (usize, String, Vec<String>, String);

fn row(line: &str) -> Option<Row> {
    // A `|` inside of a cell is written `\|`.
    let line = line.replace("\\|", "\u{0}");
    let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
    let [number, behaviour, tests, remark] = cells.as_slice() else { return None };
    let tests = tests.split(", ").map(|name| name.trim().trim_matches('`').to_owned());
    let tests = tests.filter(|name| !name.is_empty()).collect();
    Some((number.parse().ok()?, (*behaviour).to_owned(), tests, remark.trim().to_owned()))
}

impl Page {
    fn path(&self) -> PathBuf {
        workspace().join(self.file)
    }
}

/// Puts all tests that carry a row's number into that row.
fn write(page: &Page, functions: &BTreeSet<String>) {
    let mut by_row: BTreeMap<usize, Vec<&String>> = BTreeMap::new();
    for test in functions {
        for number in rows_of(test, page.prefix) {
            by_row.entry(number).or_default().push(test);
        }
    }
    let text = fs::read_to_string(page.path()).unwrap();
    let lines = text.lines().map(|line| {
        let Some((number, behaviour, tests, remark)) = row(line) else { return line.to_owned() };
        let numbered = by_row.get(&number).into_iter().flatten().map(|test| (*test).clone());
        let others = tests.into_iter().filter(|test| rows_of(test, page.prefix).is_empty());
        let names: Vec<_> = numbered.chain(others).map(|test| format!("`{test}`")).collect();
        let line = format!("| {number} | {behaviour} | {} | {remark} |", names.join(", "));
        line.replace('\u{0}', "\\|")
    });
    let text: String = lines.map(|line| line + "\n").collect();
    fs::write(page.path(), text).unwrap();
}

#[test]
fn every_row_of_the_checklist_has_tests_that_exist_or_a_reason() {
    check(&STAGES);
}

#[test]
fn every_row_of_the_list_about_kubernetes_has_tests_that_exist_or_a_reason() {
    check(&KUBERNETES);
}

fn check(page: &Page) {
    let functions = functions();
    if std::env::var_os("PODWRIGHT_WRITE_DOCS").is_some() {
        write(page, &functions);
    }
    let text = fs::read_to_string(page.path()).unwrap();
    let rows: Vec<_> = text.lines().filter_map(row).collect();
    let numbers: Vec<_> = rows.iter().map(|row| row.0).collect();
    assert_eq!(numbers, (1..=page.rows).collect::<Vec<_>>());
    let mut faults = Vec::new();
    for (number, _, tests, remark) in &rows {
        if tests.is_empty() && remark.is_empty() {
            faults.push(format!("row {number} has neither a test nor a reason"));
        }
        for test in tests.iter().filter(|test| !functions.contains(*test)) {
            faults.push(format!("row {number} names {test}, which does not exist"));
        }
    }
    // A test that says that it shows a row stands there.
    for test in &functions {
        for number in rows_of(test, page.prefix) {
            let listed = rows.iter().any(|row| row.0 == number && row.2.contains(test));
            if !listed {
                faults
                    .push(format!("{test} is not in row {number}; PODWRIGHT_WRITE_DOCS=1 adds it"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_people_complain_about_has_tests_that_exist_in_each_row() {
    let functions = functions();
    let text = fs::read_to_string(workspace().join("docs/known-complaints.md")).unwrap();
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 10, "{} rows", rows.len());
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let named: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test in {row}");
        for test in named {
            assert!(functions.contains(test), "{test} does not exist: {row}");
        }
    }
}
