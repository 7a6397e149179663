//! Image pulls that fail.

use runner_core::outcome::InfraKind;

use super::end::End;

/// An image that could not be pulled for a reason that may pass, while the kubelet goes on trying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedPull {
    /// Whose image it is.
    pub container: String,
    /// What the kubelet does now.
    pub phase: PullPhase,
    /// How the job ends if the image does not come.
    pub end: End,
}

/// Where a kubelet is between two pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPhase {
    /// A pull has just failed (`ErrImagePull`).
    Failed,
    /// It waits before the next one, or pulls: 10 s, then 20 s, 40 s, … (`ImagePullBackOff`).
    Pause,
}

/// Where the kubelet is, if it is worth waiting for: the registry cannot be reached, is too busy, or
/// gives a reason that is not known. GitLab Runner fails the job at the first such word (better).
pub(super) fn passing(reason: &str, message: &str) -> Option<PullPhase> {
    let phase = match reason {
        "ErrImagePull" | "RegistryUnavailable" => PullPhase::Failed,
        "ImagePullBackOff" => PullPhase::Pause,
        _ => return None,
    };
    (pull_kind(message) != InfraKind::Configuration).then_some(phase)
}

/// Whether this reason of a waiting container means that its image cannot be had.
pub fn is_pull_failure(reason: &str) -> bool {
    // GitLab Runner knows the first two only, and waits for its timeout on the others (better).
    matches!(
        reason,
        "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed"
    )
}

/// What kind of failure a pull's message tells of: GitLab Runner's groups, network first, because
/// messages about a registry that is away also say what was not found.
pub fn pull_kind(message: &str) -> InfraKind {
    const NETWORK: &[&str] = &[
        "dial tcp",
        "connection refused",
        "no such host",
        "i/o timeout",
        "tls handshake",
        "client.timeout exceeded",
        "request canceled",
        "connection reset",
    ];
    const CONFIGURATION: &[&str] = &[
        "not found",
        "manifest unknown",
        "pull access denied",
        "access to the resource is denied",
        "no basic auth credentials",
        "repository does not exist or may require",
        "unauthorized",
        "authentication required",
        // ErrImageNeverPull: the policy forbids what would be needed.
        "not present with pull policy of never",
    ];
    let message = message.to_lowercase();
    let has = |list: &[&str]| list.iter().any(|text| message.contains(text));
    if has(NETWORK) {
        InfraKind::ExternalDependency
    } else if has(CONFIGURATION) {
        InfraKind::Configuration
    } else {
        InfraKind::ImagePull
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use runner_core::outcome::InfraKind::{Configuration, ExternalDependency, ImagePull};

    use super::{PullPhase, passing, pull_kind};

    #[rstest]
    #[case("dial tcp: lookup registry.invalid: no such host", ExternalDependency)]
    #[case("Get https://r/v2/: net/http: TLS handshake timeout", ExternalDependency)]
    #[case("Client.Timeout exceeded while awaiting headers", ExternalDependency)]
    #[case("dial tcp 1.2.3.4:443: i/o timeout; image not found", ExternalDependency)]
    #[case("read: connection reset by peer", ExternalDependency)]
    #[case("failed to resolve reference: r/x:1: not found", Configuration)]
    #[case("manifest unknown: manifest unknown", Configuration)]
    #[case("pull access denied, repository does not exist or may require", Configuration)]
    #[case("unauthorized: authentication required", Configuration)]
    #[case("no basic auth credentials", Configuration)]
    #[case("toomanyrequests: rate limit", ImagePull)]
    #[case("", ImagePull)]
    fn k8s_17_pull_messages_fall_into_groups(
        #[case] message: &str,
        #[case] kind: runner_core::outcome::InfraKind,
    ) {
        assert_eq!(pull_kind(message), kind, "{message}");
    }

    #[rstest]
    #[case::network("ErrImagePull", "dial tcp: connection refused", Some(PullPhase::Failed))]
    #[case::busy("ErrImagePull", "toomanyrequests: rate limit", Some(PullPhase::Failed))]
    #[case::pause(
        "ImagePullBackOff",
        "Back-off pulling image: i/o timeout",
        Some(PullPhase::Pause)
    )]
    #[case::pause_of_old_kubelets(
        "ImagePullBackOff",
        "Back-off pulling image",
        Some(PullPhase::Pause)
    )]
    #[case::not_there("ErrImagePull", "r/x:1: not found", None)]
    #[case::no_login("ImagePullBackOff", "ErrImagePull: unauthorized", None)]
    #[case::forbidden_by_policy("ErrImageNeverPull", "", None)]
    #[case::not_to_be_trusted("SignatureValidationFailed", "", None)]
    fn only_what_may_pass_is_waited_for(
        #[case] reason: &str,
        #[case] message: &str,
        #[case] phase: Option<PullPhase>,
    ) {
        assert_eq!(passing(reason, message), phase);
    }
}
