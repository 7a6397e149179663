//! `[runners.kubernetes]`: the keys are `runner-k8s`'s business; here they only get their lines.

use runner_k8s::{KubernetesSettings, RawSettings};
use toml::{Table, Value};

use super::findings::{Findings, Severity, nearest};
use super::lines::{line_of, parse_path};

/// Reads and checks the table at `path`; `None`: it cannot be used.
pub(super) fn read(
    text: &str,
    path: &str,
    table: Table,
    findings: &mut Findings,
) -> Option<KubernetesSettings> {
    let line = |key: &str| line_of(text, &parse_path(&format!("{path}.{key}")));
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(Value::Table(table), &mut track);
    let raw: Result<RawSettings, toml::de::Error> =
        serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
    for key in unknown {
        let known = nearest(&key, RawSettings::KEYS.iter().copied());
        let meant = known.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        let message = format!("`{path}.{key}` is not known and has no effect{meant}");
        findings.push(Severity::Warning, line(&key), message);
    }
    let raw = match raw {
        Ok(raw) => raw,
        Err(error) => {
            let key = track.path().to_string();
            let message = format!("`{path}.{key}`: {}", error.message());
            findings.push(Severity::Error, line(&key), message);
            return None;
        }
    };
    match KubernetesSettings::resolve(&raw) {
        Ok(settings) => {
            for warning in &settings.warnings {
                let at = line_of(text, &parse_path(path));
                findings.push(Severity::Warning, at, format!("`{path}`: {warning}"));
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
