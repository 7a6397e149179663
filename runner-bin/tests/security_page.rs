//! `docs/security.md` names tests; they are there.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::path::{Path, PathBuf};

fn sources(directory: &Path, out: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_claim_of_the_security_page_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let mut named = 0;
    for word in page.split('`').skip(1).step_by(2) {
        let Some((krate, test)) =
            word.split_once("::").filter(|(krate, _)| krate.starts_with("runner-"))
        else {
            continue;
        };
        let mut text = String::new();
        for part in ["src", "tests"] {
            let directory = root.join(krate).join(part);
            if directory.is_dir() {
                sources(&directory, &mut text);
            }
        }
        assert!(text.contains(&format!("fn {test}(")), "{krate} has no test {test}");
        named += 1;
    }
    for path in page.split('`').skip(1).step_by(2).filter(|word| word.starts_with("fuzz/")) {
        assert!(root.join(path).is_file(), "there is no {path}");
    }
    assert!(named > 40, "{named} tests are named");
}

#[test]
fn every_question_that_the_security_page_answers_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let (_, jobs) = page.split_once("## What a hostile job can do").unwrap();
    let (jobs, _) = jobs.split_once("\n## ").unwrap();
    let answers: Vec<_> = jobs.split("\n**").skip(1).collect();
    assert!(answers.len() >= 8, "{} questions", answers.len());
    for answer in answers {
        let question = answer.lines().next().unwrap_or_default();
        assert!(answer.contains("`runner-"), "no test shows the answer to **{question}");
    }
}
