//! Images, users and pull policies.

use super::mistakes::Mistakes;
use super::raw::RawSettings;

/// When the kubelet asks the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// When the node has no such image.
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// From GitLab Runner's or Kubernetes' spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "always" | "Always" => Some(Self::Always),
            "if-not-present" | "IfNotPresent" => Some(Self::IfNotPresent),
            "never" | "Never" => Some(Self::Never),
            _ => None,
        }
    }

    /// As the Kubernetes API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Where GitLab Runner's helper images are.
const HELPER_REPOSITORY: &str = "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper";

/// The image of `helper`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperImage {
    /// `helper_image`; `$VAR` allowed.
    Named(String),
    /// GitLab Runner's.
    Default {
        /// `helper_image_flavor`; `$VAR` allowed.
        flavor: String,
        /// Architecture in Kubernetes' words, where the node selector names none.
        arch: String,
    },
}

impl HelperImage {
    /// The reference for nodes of this architecture, with variables in it.
    #[must_use]
    pub fn reference(&self, arch: Option<&str>) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::Default { flavor, arch: own } => {
                let arch = match arch.unwrap_or(own) {
                    "amd64" => "x86_64",
                    "armv6l" | "armv7l" => "arm",
                    "aarch64" => "arm64",
                    other => other,
                };
                let prefix = match flavor.as_str() {
                    "" | "alpine" => String::new(),
                    flavor => format!("{flavor}-"),
                };
                // GitLab Runner uses the tag of its own version, which we have none of. Only `git`
                // is taken from the image, so any will do.
                format!("{HELPER_REPOSITORY}:{prefix}{arch}-latest")
            }
        }
    }
}

pub(super) fn helper_image(raw: &RawSettings) -> HelperImage {
    if !raw.helper_image.is_empty() {
        return HelperImage::Named(raw.helper_image.clone());
    }
    let arch = match std::env::consts::ARCH {
        arch if raw.helper_image_autoset_arch_and_os => arch,
        _ => "amd64",
    };
    HelperImage::Default { flavor: raw.helper_image_flavor.clone(), arch: arch.to_owned() }
}

pub(super) fn policies(mistakes: &mut Mistakes, key: &str, entries: Vec<&str>) -> Vec<PullPolicy> {
    let mut out = Vec::new();
    for entry in entries {
        match PullPolicy::parse(entry) {
            Some(policy) => out.push(policy),
            None => mistakes.value(key, entry, "always, if-not-present, never"),
        }
    }
    out
}

/// `allowed_users` and `allowed_groups`.
pub(super) fn ids(mistakes: &mut Mistakes, key: &str, entries: &[String]) -> Vec<u32> {
    let mut out = Vec::new();
    for entry in entries {
        match entry.parse() {
            Ok(id) => out.push(id),
            // GitLab Runner's rule. It would be safer to stop, but a list of names has always meant
            // "nobody by name", and still does.
            Err(_) => mistakes.warn(key, format!("{entry:?} is not a number and matches nobody")),
        }
    }
    out
}
