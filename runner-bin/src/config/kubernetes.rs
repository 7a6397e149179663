//! `[runners.kubernetes]`: the meaning of its values is `runner-k8s`'s business; here they get their
//! lines.

use runner_k8s::{KubernetesSettings, RawSettings};
use toml::Table;

use super::findings::{Findings, Severity};
use super::lines::{line_of, parse_path};

/// Reads and checks the table at `path`, which has only keys and types that are known; `None`: it
/// cannot be used.
pub(super) fn read(
    text: &str,
    path: &str,
    table: Table,
    findings: &mut Findings,
) -> Option<KubernetesSettings> {
    let line = |key: &str| nearest_line(text, &format!("{path}.{key}"));
    let raw: RawSettings = match table.try_into() {
        Ok(raw) => raw,
        Err(error) => {
            let error: toml::de::Error = error;
            let message = format!("`{path}`: {}", error.message());
            findings.push(Severity::Error, line(""), message);
            return None;
        }
    };
    match KubernetesSettings::resolve(&raw) {
        Ok(settings) => {
            // What has no effect was said when the keys were read.
            for warning in settings.warnings.iter().filter(|warning| !warning.is_without_effect) {
                let message = format!("`{path}.{}`: {}", warning.key, warning.message);
                findings.push(Severity::Warning, line(&warning.key), message);
            }
            Some(settings)
        }
        Err(errors) => {
            for error in errors.0 {
                let message = format!("`{path}.{}`: {}", error.key, error.message);
                findings.push(Severity::Fault, line(&error.key), message);
            }
            None
        }
    }
}

/// The line of a key, or of the table in which it is missing.
fn nearest_line(text: &str, path: &str) -> Option<usize> {
    let mut steps = parse_path(path);
    while !steps.is_empty() {
        if let Some(line) = line_of(text, &steps) {
            return Some(line);
        }
        steps.pop();
    }
    None
}
