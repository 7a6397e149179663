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
    assert!(named > 20, "{named} tests are named");
}
