//! Image pulls that fail.

use runner_core::outcome::InfraKind;

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

    use super::pull_kind;

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
}
