//! Images by name, and how their pulls go.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::super::settings::ImageSpec;

/// The images that the simulated registry knows, and which of them are on the node.
#[derive(Debug, Default)]
pub(in super::super) struct Images {
    specs: HashMap<String, ImageSpec>,
    present: HashSet<String>,
}

/// What has to be done for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Present,
    /// A pull that takes this long, and then fails with a message or not.
    Pull {
        delay: Duration,
        failure: Option<String>,
    },
    /// Waiting reason and message that no pull will change.
    Refused {
        reason: &'static str,
        message: String,
    },
}

impl Images {
    pub(in super::super) fn register(&mut self, name: &str, spec: ImageSpec) {
        if spec.pull.present {
            self.present.insert(name.into());
        } else {
            self.present.remove(name);
        }
        self.specs.insert(name.into(), spec);
    }

    pub(in super::super) fn spec(&self, name: &str) -> Option<&ImageSpec> {
        self.specs.get(name)
    }

    /// What starting a container of this image takes. A failure is used up by this.
    pub(super) fn need(&mut self, name: &str, policy: &str) -> Need {
        if let Some(why) = invalid(name) {
            let message = format!(
                "Failed to apply default image tag {name:?}: couldn't parse image name {name:?}: invalid reference format: {why}"
            );
            return Need::Refused { reason: "InvalidImageName", message };
        }
        let here = self.present.contains(name);
        if here && policy != "Always" {
            return Need::Present;
        }
        if policy == "Never" {
            let message =
                format!("Container image {name:?} is not present with pull policy of Never");
            return Need::Refused { reason: "ErrImageNeverPull", message };
        }
        let Some(spec) = self.specs.get_mut(name) else {
            let failure = format!(
                "rpc error: code = NotFound desc = failed to pull and unpack image {name:?}: failed to resolve image: {name}: not found"
            );
            return Need::Pull { delay: Duration::ZERO, failure: Some(failure) };
        };
        let failure = (!spec.pull.failures.is_empty()).then(|| spec.pull.failures.remove(0));
        Need::Pull { delay: spec.pull.delay, failure }
    }

    pub(super) fn pulled(&mut self, name: &str) {
        self.present.insert(name.into());
    }
}

/// Why this cannot be an image's name, roughly by the rules of references.
fn invalid(name: &str) -> Option<String> {
    let (path, digest) = name.split_once('@').map_or((name, None), |(p, d)| (p, Some(d)));
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (path, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let parts: Vec<&str> = path.split('/').collect();
    let upper = |p: &&str| p.chars().any(|c| c.is_ascii_uppercase());
    // Names in upper case cannot be repositories, so such a first part is taken for a host.
    let host = parts.len() > 1
        && (parts[0].contains(['.', ':']) || parts[0] == "localhost" || upper(&parts[0]));
    let repository = &parts[usize::from(host)..];
    if repository.iter().any(upper) {
        let repository = repository.join("/");
        let name = repository.split(':').next().unwrap_or_default();
        return Some(format!("repository name ({name}) must be lowercase"));
    }
    let bad = repository.iter().any(|p| p.is_empty() || !p.chars().all(word))
        || tag.is_some_and(|t| t.is_empty() || t.len() > 128 || !t.chars().all(word))
        || digest.is_some_and(|d| !d.contains(':'));
    bad.then(|| "invalid reference format".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_are_judged_as_references() {
        for good in [
            "a",
            "a/b:1",
            "127.0.0.1:5000/a/b:x",
            "a@sha256:00",
            "ghcr.io/X".to_lowercase().as_str(),
        ] {
            assert_eq!(invalid(good), None, "{good}");
        }
        for bad in ["UPPER/Case:x:y", "a b", "", "a:", "a//b", "a@x"] {
            assert!(invalid(bad).is_some(), "{bad}");
        }
    }
}
