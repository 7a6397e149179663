//! What a release is made by, as far as it can be tried without making one.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

const WORKFLOWS: [&str; 3] =
    [".gitlab-ci.yml", ".github/workflows/ci.yml", ".github/workflows/release.yml"];

/// Names of recipes that a workflow runs: `just NAME`, and the lists of its matrices.
fn recipes_of(workflow: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in workflow.lines().filter(|line| !line.contains("install")) {
        if let Some((_, rest)) = line.split_once("just ") {
            found.extend(rest.split_whitespace().next().map(str::to_owned));
        }
        let list = line.split_once("recipe: [").or_else(|| line.split_once("RECIPE: ["));
        if let Some((_, list)) = list {
            let names = list.trim_end().trim_end_matches(']').split(',');
            found.extend(names.map(|name| name.trim().to_owned()));
        }
    }
    // The matrices' own variables.
    found.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    found
}

#[test]
fn workflows_run_recipes_that_there_are() {
    let justfile = text("justfile");
    let recipes: BTreeSet<&str> = justfile
        .lines()
        .filter(|line| !line.starts_with([' ', '#', '_']))
        .filter_map(|line| line.split_once(':')?.0.split_whitespace().next())
        .map(|name| name.trim_start_matches('@'))
        .collect();
    for workflow in WORKFLOWS {
        let used = recipes_of(&text(workflow));
        assert!(used.len() >= 4, "{workflow}: {used:?}");
        for name in used {
            assert!(recipes.contains(name.as_str()), "{workflow} runs `just {name}`: {recipes:?}");
        }
    }
}

#[test]
fn both_workflows_do_the_same_before_a_release() {
    let gitlab = recipes_of(&text(WORKFLOWS[0]));
    let github: BTreeSet<String> =
        WORKFLOWS[1..].iter().flat_map(|workflow| recipes_of(&text(workflow))).collect();
    for recipe in ["ci", "msrv", "minimal-versions", "package", "semver", "deny", "advisories"] {
        assert!(gitlab.contains(recipe) && github.contains(recipe), "{gitlab:?} {github:?}");
    }
}

#[test]
fn steps_that_recipes_run_are_there() {
    let steps = text(".ci/run");
    for line in text("justfile").lines() {
        let Some((_, names)) = line.split_once(".ci/run ") else { continue };
        let names = names.split_whitespace().filter(|name| !name.starts_with(['{', '`']));
        for name in names.filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')) {
            assert!(steps.contains(&format!("\nstep_{name}() {{")), "`{line}`: no step {name}");
        }
    }
}

/// What a script of `deploy/release` says about a repository with this changelog.
fn script(name: &str, argument: &str, changelog: &str) -> (bool, String) {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir_all(copy.path().join("deploy/release")).unwrap();
    let path = copy.path().join("deploy/release").join(name);
    fs::copy(root().join("deploy/release").join(name), &path).unwrap();
    fs::write(copy.path().join("CHANGELOG.md"), changelog).unwrap();
    let output = Command::new(path).arg(argument).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_notes_of_a_release_are_its_section_of_the_changelog() {
    let changelog = "# Changelog\n\n## Unreleased\n\n* soon\n\n## 0.2.0\n\n* new\n\n## 0.2.01\n\n* odd\n\n## 0.1.0\n\n* first\n";
    assert_eq!(script("notes", "0.2.0", changelog), (true, "\n* new\n".to_owned()));
    assert_eq!(script("notes", "v0.1.0", changelog), (true, "\n* first\n".to_owned()));
    assert!(!script("notes", "0.3.0", changelog).0);
    assert!(!script("notes", "", changelog).0);
}

#[test]
fn the_toolchain_of_the_workflows_is_the_one_that_the_manifests_state() {
    let manifest = text("Cargo.toml");
    let stated = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    let stated = stated.trim_matches('"');
    for (workflow, words) in [
        (WORKFLOWS[0], format!("image: rust:{stated}-")),
        (WORKFLOWS[1], format!("container: rust:{stated}-")),
        (WORKFLOWS[2], format!("rustup default {stated}\n")),
    ] {
        assert!(text(workflow).contains(&words), "{workflow} has no `{words}`");
    }
    assert!(text("README.md").contains(&format!("Rust {stated} or later")));
}
