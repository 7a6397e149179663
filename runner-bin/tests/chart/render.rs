//! Renderings: the committed ones and `helm template`'s.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub(crate) fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart")
}

/// The committed rendering of a file of values.
pub(crate) fn rendered(name: &str) -> Vec<Value> {
    documents(&std::fs::read_to_string(file(name, "rendered.yaml")).unwrap())
}

fn file(name: &str, kind: &str) -> PathBuf {
    chart().join("ci").join(format!("{name}.{kind}"))
}

/// The objects of a YAML text of several.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let parts = text.split("\n---\n").map(|part| part.trim_start_matches("---\n"));
    parts
        .map(|part| serde_saphyr::from_str::<Value>(part).unwrap())
        .filter(|value| !value.is_null())
        .collect()
}

/// `helm template`, or what it says is wrong.
pub(crate) fn helm(
    program: &str,
    release: &str,
    namespace: &str,
    arguments: &[&str],
) -> Result<String, String> {
    let output = Command::new(program)
        .args(["template", release])
        .arg(chart())
        .args(["--namespace", namespace])
        .args(arguments)
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn the_committed_renderings_are_what_helm_makes() {
    let Some(program) = crate::variable("PODWRIGHT_HELM") else { return };
    for name in crate::FILES {
        let values = file(name, "yaml");
        let text = helm(&program, "pool", "ci", &["--values", values.to_str().unwrap()]).unwrap();
        let path = file(name, "rendered.yaml");
        if std::env::var("PODWRIGHT_UPDATE_RENDERED").is_ok_and(|value| !value.is_empty()) {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap();
        assert!(committed == text, "{} is stale: PODWRIGHT_UPDATE_RENDERED=1", path.display());
    }
}

#[test]
fn helm_finds_nothing_wrong_with_the_chart() {
    let Some(program) = crate::variable("PODWRIGHT_HELM") else { return };
    for name in crate::FILES {
        let output = Command::new(&program)
            .args(["lint", "--strict"])
            .arg(chart())
            .arg("--values")
            .arg(file(name, "yaml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
