//! What may be derived from a runner token: a short form to print and the id of the source.

use runner_core::ids::SourceId;
use runner_core::secret::Secret;
use sha2::{Digest, Sha256};

use crate::url::ApiBase;

/// How much of a token is shown (GitLab's own interface shows as much).
const SHORT_LENGTH: usize = 9;

/// The part of a token that may be printed, e.g. in the job's header and in metrics.
///
/// The type prefix (`glrt-`, `glrtr-`, `glcbt-`, `GR` and seven hex digits) and a partition (`t1_`)
/// are left out, then nine characters follow (`gitlab-api.md` 7.5).
#[must_use]
pub fn short_token(token: &str) -> String {
    let rest = ["glrt-", "glrtr-", "glcbt-"]
        .iter()
        .find_map(|prefix| token.strip_prefix(prefix))
        .or_else(|| legacy(token))
        .unwrap_or(token);
    let rest = ["t1_", "t2_", "t3_"].iter().find_map(|p| rest.strip_prefix(p)).unwrap_or(rest);
    rest.chars().take(SHORT_LENGTH).collect()
}

/// Whether the token belongs to a runner that was made in GitLab's interface (`glrt-…`). Such a
/// runner has managers; it is never registered, only verified.
#[must_use]
pub fn is_created_runner_token(token: &str) -> bool {
    token.starts_with("glrt-")
}

/// What follows the prefix of a legacy registration token, e.g. `GR1348941`.
fn legacy(token: &str) -> Option<&str> {
    let rest = token.strip_prefix("GR")?;
    let (digits, rest) = rest.split_at_checked(7)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(rest)
}

/// Managers with the same URL and runner may finish each other's jobs; the id tells neither. The
/// runner is known by its number, which stays when the token is renewed, else by its token.
pub(crate) fn source_id(base: &ApiBase, runner: u64, token: &Secret) -> SourceId {
    let number = runner.to_string();
    let parts: &[&str] = match runner {
        0 => &[base.instance(), token.expose()],
        _ => &[base.instance(), "runner", &number],
    };
    SourceId(format!("gitlab-{}", digest(parts)))
}

/// 128 bits of SHA-256 over these parts, as hex. The parts cannot run into each other.
pub(crate) fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hex(&hasher.finalize()[..16])
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use runner_core::secret::Secret;

    use super::{short_token, source_id};
    use crate::url::ApiBase;

    #[rstest]
    #[case("glrt-abcdefghijklm", "abcdefghi")]
    #[case("glrt-t1_abcdefghijklm", "abcdefghi")]
    #[case("glrt-t3_abcdefghijklm", "abcdefghi")]
    #[case("t2_abcdefghijklm", "abcdefghi")]
    #[case("glrtr-abcdefghijklm", "abcdefghi")]
    #[case("glcbt-64_abcdefghij", "64_abcdef")]
    #[case("GR1348941abcdefghijk", "abcdefghi")]
    #[case("GRxxxxxxxabc", "GRxxxxxxx")]
    #[case("abc", "abc")]
    #[case("", "")]
    #[case("GR13489é", "GR13489é")]
    fn api_65_the_short_token_leaves_out_every_prefix(#[case] token: &str, #[case] short: &str) {
        assert_eq!(short_token(token), short);
    }

    #[test]
    fn the_source_id_follows_url_and_token_and_tells_neither() {
        let id = |url: &str, token: &str| {
            source_id(&ApiBase::parse(url).unwrap(), 0, &Secret::new(token)).0
        };
        let one = id("https://gitlab.example.com", "glrt-hunter2");
        assert_eq!(one, id("https://GITLAB.example.com:443/ci/", "glrt-hunter2"));
        assert_ne!(one, id("https://gitlab.example.com", "glrt-hunter3"));
        assert_ne!(one, id("https://gitlab.example.org", "glrt-hunter2"));
        assert!(!one.contains("hunter2") && !one.contains("example"));
        let base = ApiBase::parse("https://gitlab.example.com").unwrap();
        let numbered = |runner, token| source_id(&base, runner, &Secret::new(token)).0;
        assert_eq!(
            numbered(7, "glrt-old"),
            numbered(7, "glrt-new"),
            "a renewed token is the same runner"
        );
        assert_ne!(numbered(7, "glrt-old"), numbered(8, "glrt-old"));
        // It becomes the value of a label.
        assert!(one.len() <= 63 && one.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
    }
}
