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
        Ok(raw) => with_images(raw, |name| std::env::var(name).ok()),
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

/// Podwright's image says in its environment what it is called, since a container cannot find that out: jobs get agent
/// and helper from the manager's own image where the configuration names none, and so a manager is installed by changing
/// one image. A `helper_image_flavor` asks for GitLab Runner's helper.
fn with_images(mut raw: RawSettings, variable: impl Fn(&str) -> Option<String>) -> RawSettings {
    let image = |name: &str| variable(name).filter(|image| !image.is_empty());
    if raw.agent_image.is_empty()
        && let Some(image) = image("PODWRIGHT_AGENT_IMAGE")
    {
        raw.agent_image = image;
    }
    if raw.helper_image.is_empty()
        && raw.helper_image_flavor.is_empty()
        && let Some(image) = image("PODWRIGHT_HELPER_IMAGE")
    {
        raw.helper_image = image;
    }
    raw
}

#[cfg(test)]
mod tests {
    use runner_k8s::RawSettings;

    use super::with_images;

    #[test]
    fn the_managers_own_image_serves_jobs_where_the_configuration_names_none() {
        let environment = |name: &str| Some(format!("{}:1", name.to_lowercase()));
        let images = |raw: RawSettings| {
            let raw = with_images(raw, environment);
            (raw.agent_image, raw.helper_image)
        };
        let named = |agent: &str, helper: &str| (agent.to_owned(), helper.to_owned());

        let none = RawSettings::default();
        assert_eq!(images(none), named("podwright_agent_image:1", "podwright_helper_image:1"));
        let both = RawSettings {
            agent_image: "agent".into(),
            helper_image: "helper".into(),
            ..RawSettings::default()
        };
        assert_eq!(images(both), named("agent", "helper"));
        let flavor = RawSettings { helper_image_flavor: "ubuntu".into(), ..RawSettings::default() };
        assert_eq!(images(flavor), named("podwright_agent_image:1", ""));
        let empty = with_images(RawSettings::default(), |_| Some(String::new()));
        assert_eq!((empty.agent_image, empty.helper_image), named("", ""));
    }
}
