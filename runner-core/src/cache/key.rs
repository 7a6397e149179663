//! Names of caches, as GitLab Runner makes them: both find each other's.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A cache's key with the names that follow from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheKey {
    /// What people see.
    pub human: String,
    /// The directory of the local archive, below the project's cache directory.
    pub local: String,
    /// The local archive's directory in the other form, from before `FF_HASH_CACHE_KEYS` changed.
    pub local_alternate: String,
    /// The object, below the scope of the job's project.
    pub object: String,
    /// The object in the other form.
    pub alternate: String,
}

/// How keys become names (`FF_HASH_CACHE_KEYS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyForm {
    /// As they are, as far as a path allows.
    #[default]
    Plain,
    /// As a digest: any key will do.
    Hashed,
}

/// Why a key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cache key {0:?} could not be sanitized")]
pub struct KeyError(pub String);

impl CacheKey {
    /// The names of a key that has been expanded.
    ///
    /// # Errors
    /// When nothing of it is left after [`sanitize`] (plain form only), or it is empty.
    pub fn new(raw: &str, form: KeyForm) -> Result<Self, KeyError> {
        let human = match form {
            KeyForm::Plain => sanitize(raw),
            KeyForm::Hashed => Some(raw.to_owned()).filter(|raw| !raw.is_empty()),
        }
        .ok_or_else(|| KeyError(raw.to_owned()))?;
        let digest: String = Sha256::digest(&human).iter().map(|b| format!("{b:02x}")).collect();
        let sharded = format!("{}/{digest}", &digest[..2]);
        // A key that is no path may still be somebody's object in plain form.
        let plain = sanitize(&human).unwrap_or_else(|| digest.clone());
        Ok(match form {
            KeyForm::Plain => Self {
                local: human.clone(),
                local_alternate: digest,
                object: human.clone(),
                alternate: sharded,
                human,
            },
            KeyForm::Hashed => Self {
                local: digest,
                local_alternate: plain.clone(),
                object: sharded,
                alternate: plain,
                human,
            },
        })
    }
}

/// The key as a path that leads nowhere else. `None`: nothing is left.
///
/// `%2f` and `%2e` are read as `/` and `.`, `\` as `/`; `.`, `..` and doubled slashes vanish; blanks
/// at the end of the last component go, and with them a component of nothing else.
pub fn sanitize(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(char) = rest.chars().next() {
        let escape = rest.get(..3).map(str::to_ascii_lowercase);
        let (read, length) = match escape.as_deref() {
            Some("%2f") => ('/', 3),
            Some("%2e") => ('.', 3),
            _ if char == '\\' => ('/', 1),
            _ => (char, char.len_utf8()),
        };
        text.push(read);
        rest = &rest[length..];
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    while let Some(last) = parts.pop() {
        match last.trim_end() {
            "" | "." => {}
            // Only without its blanks it is a way up.
            ".." => drop(parts.pop()),
            last => {
                parts.push(last);
                return Some(parts.join("/"));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::{CacheKey, KeyForm, sanitize};

    #[rstest]
    #[case("plain", "plain")]
    #[case("../foo/bar", "foo/bar")]
    #[case("//foo/bar", "foo/bar")]
    #[case("./foo/bar", "foo/bar")]
    #[case("foo\\bar", "foo/bar")]
    #[case("foo / \\o", "foo / /o")]
    #[case("foo/ / /", "foo")]
    #[case("foo/bar  ", "foo/bar")]
    #[case("a/foo/.. ", "a")]
    #[case("foo/.\u{b}", "foo")]
    #[case("%2e%2e%2e", "...")]
    #[case("%2E%2e/%2Fx%2fy", "x/y")]
    #[case("foo/bar/../x", "foo/x")]
    #[case("%5cx", "%5cx")]
    #[case("  lead", "  lead")]
    #[case("日本/キー", "日本/キー")]
    #[case("a \"quoted\" $(id) `id`", "a \"quoted\" $(id) `id`")]
    fn stages_64_keys_become_paths(#[case] raw: &str, #[case] expected: &str) {
        assert_eq!(sanitize(raw).as_deref(), Some(expected));
    }

    #[rstest]
    #[case("")]
    #[case(".. ")]
    #[case("..")]
    #[case("/")]
    #[case(" ")]
    #[case("foo/bar/../..")]
    #[case("%2e%2e")]
    fn stages_64_of_some_keys_nothing_is_left(#[case] raw: &str) {
        assert_eq!(sanitize(raw), None);
        let error = CacheKey::new(raw, KeyForm::Plain).unwrap_err();
        assert_eq!(error.to_string(), format!("cache key {raw:?} could not be sanitized"));
    }

    #[test]
    fn stages_65_both_forms_name_each_others_objects() {
        let digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let plain = CacheKey::new("foo", KeyForm::Plain).unwrap();
        let hashed = CacheKey::new("foo", KeyForm::Hashed).unwrap();
        assert_eq!((plain.object.as_str(), plain.local.as_str()), ("foo", "foo"));
        assert_eq!(plain.alternate, format!("2c/{digest}"));
        assert_eq!((hashed.object, hashed.alternate), (plain.alternate, plain.object));
        assert_eq!((hashed.local.as_str(), hashed.local_alternate.as_str()), (digest, "foo"));
        assert_eq!(hashed.human, "foo");
        // In hashed form any key will do.
        assert!(CacheKey::new("..", KeyForm::Hashed).is_ok());
    }

    proptest! {
        #[test]
        fn no_key_leads_out(raw in ".{0,40}") {
            if let Some(key) = sanitize(&raw) {
                prop_assert!(!key.starts_with('/'));
                prop_assert!(key.split('/').all(|part| !matches!(part, "" | "." | "..")));
                prop_assert_eq!(sanitize(&key), Some(key.clone()));
            }
        }
    }
}
