//! Names, labels and annotations of a job's objects, by the rules of Kubernetes and of GitLab
//! Runner. Pure; the same job always gets the same names.

use runner_core::ids::{JobId, SourceId};
use sha2::{Digest, Sha256};

/// Label: whose jobs these are, [`source_hash`].
pub const SOURCE_LABEL: &str = "podwright.dev/source";
/// Label: the job's number.
pub const JOB_LABEL: &str = "podwright.dev/job";
/// Label: what a Secret is for, `record`, `plan` or `pull`; of a sign of
/// life, `manager`.
pub const ROLE_LABEL: &str = "podwright.dev/role";
/// Label of a record: who has claimed it, [`manager_hash`].
pub const MANAGER_LABEL: &str = "podwright.dev/manager";
/// Label of a pod that has no job yet.
pub const WARM_LABEL: &str = "podwright.dev/warm";
/// Label of a record: a hash of the job's session.
pub const SESSION_LABEL: &str = "podwright.dev/session";
/// Label of every object: `podwright`.
pub const MANAGED_LABEL: &str = "app.kubernetes.io/managed-by";

/// Longest label value and longest name of a pod that may become a host name.
const LONGEST: usize = 63;

/// Who runs jobs: a `[[runners]]` entry in a manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerIdentity {
    /// Whose jobs.
    pub source: SourceId,
    /// The runner's name, for labels.
    pub name: String,
    /// First characters of its token, for names and labels.
    pub short_token: String,
    /// This process, different for each start: whose claim a job is. See [`manager_id`].
    pub manager: String,
}

impl RunnerIdentity {
    /// A runner of this name whose jobs come from this source, in a process that has just started.
    /// Labels and names of pods show the name in the place of a token.
    ///
    /// ```
    /// use runner_core::ids::SourceId;
    /// use runner_k8s::RunnerIdentity;
    ///
    /// let source = SourceId("queue.example".into());
    /// let (one, other) =
    ///     (RunnerIdentity::new(source.clone(), "queue"), RunnerIdentity::new(source, "queue"));
    /// // The same jobs, and each notices when the other one is gone.
    /// assert_eq!(one.source, other.source);
    /// assert_ne!(one.manager, other.manager);
    /// ```
    pub fn new(source: SourceId, name: impl Into<String>) -> Self {
        let name = name.into();
        Self { source, short_token: name.clone(), manager: manager_id(&name), name }
    }
}

/// An id for a manager process on this host: `<host>-<8 characters>`, different for each call.
///
/// A process id would not do: in a container that is started again it is the same as before.
#[must_use]
pub fn manager_id(host: &str) -> String {
    use std::hash::{BuildHasher as _, RandomState};
    // Keyed by the system's random numbers; enough to tell one start from another.
    let random = RandomState::new().hash_one(std::process::id());
    format!("{host}-{}", base36(&random.to_be_bytes(), 8))
}

/// Eight characters that differ with each call, for names of objects that belong to no job.
pub(crate) fn unique_suffix() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    base36(&RandomState::new().hash_one(0).to_be_bytes(), 8)
}

/// A manager's id as a label value and a part of names.
#[must_use]
pub fn manager_hash(manager: &str) -> String {
    hex(&Sha256::digest(manager.as_bytes())[..8])
}

/// A session's id as a label value.
pub(crate) fn session_hash(session: &str) -> String {
    hex(&Sha256::digest(session.as_bytes())[..16])
}

/// What a job's objects are called.
#[doc(hidden)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The record.
    pub record: String,
    /// The pod.
    pub pod: String,
}

/// A source's id as a label value: it may be long and of any characters.
#[must_use]
pub fn source_hash(source: &SourceId) -> String {
    hex(&Sha256::digest(source.0.as_bytes())[..8])
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The names of a job's objects. The pod's looks like GitLab Runner's
/// (`runner-<token>-project-<id>-concurrent-<slot>-<8 characters>`), but the characters follow from
/// source and job instead of being random: creating it twice is harmless.
#[doc(hidden)]
#[must_use]
pub fn names(runner: &RunnerIdentity, job: JobId, project: u64, slot: &str) -> Names {
    let source = source_hash(&runner.source);
    let mut suffix = Sha256::new();
    suffix.update(runner.source.0.as_bytes());
    suffix.update([0]);
    suffix.update(job.0.to_be_bytes());
    let suffix = base36(&suffix.finalize(), 8);
    let stem = project_unique_name(&runner.short_token, project, slot);
    // 54 + `-` + 8 = 63.
    let stem = stem[..stem.len().min(54)].trim_end_matches('-');
    Names { record: format!("podwright-{source}-{job}"), pod: format!("{stem}-{suffix}") }
}

fn base36(bytes: &[u8], length: usize) -> String {
    const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    bytes.iter().take(length).map(|byte| char::from(DIGITS[usize::from(byte % 36)])).collect()
}

/// `runner-<short token>-project-<project id>-concurrent-<slot>` as an RFC 1123 label.
pub(crate) fn project_unique_name(short_token: &str, project: u64, slot: &str) -> String {
    let slot = if slot.is_empty() { "0" } else { slot };
    let name = format!("runner-{short_token}-project-{project}-concurrent-{slot}");
    let name: String = name
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')
        .collect();
    let name = name.trim_start_matches('-');
    name[..name.len().min(LONGEST)].trim_end_matches('-').to_owned()
}

/// Any text as a label value: GitLab Runner's rule.
pub(crate) fn label_value(text: &str) -> String {
    let clean = |c: char| match c {
        c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') => c,
        _ => '_',
    };
    let edge = ['-', '_', '.'];
    let text: String = text.chars().map(clean).collect();
    let text = text.trim_matches(edge);
    text[..text.len().min(LONGEST)].trim_matches(edge).to_owned()
}

/// Whether a label key belongs to GitLab Runner itself, so that settings may not set it.
pub(crate) fn is_protected_label(key: &str) -> bool {
    let domain = key.split('/').next().unwrap_or(key).to_ascii_lowercase();
    domain == "runner.gitlab.com"
        || domain.ends_with(".runner.gitlab.com")
        || domain == "podwright.dev"
}

/// Whether this can be the key of a label or an annotation: a name of at most 63 characters, perhaps
/// after a domain and `/`.
pub(crate) fn is_label_key(text: &str) -> bool {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    domain.is_none_or(is_dns_subdomain) && !name.is_empty() && is_label_value(name)
}

/// Whether this can be the value of a label.
pub(crate) fn is_label_value(text: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    text.len() <= LONGEST
        && text.chars().all(|c| edge(c) || matches!(c, '-' | '_' | '.'))
        && text.chars().next().is_none_or(edge)
        && text.chars().next_back().is_none_or(edge)
}

/// Whether this can name a container or host (RFC 1123 label).
pub(crate) fn is_dns_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty()
        && text.len() <= LONGEST
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether this can be a host name (RFC 1123 subdomain).
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

#[cfg(test)]
mod tests {
    use runner_core::ids::{JobId, SourceId};

    use super::{RunnerIdentity, is_dns_label, is_protected_label, label_value, names};

    fn runner(short_token: &str) -> RunnerIdentity {
        RunnerIdentity {
            source: SourceId("https://gitlab.example#abc".into()),
            name: "mine".into(),
            short_token: short_token.into(),
            manager: "m1".into(),
        }
    }

    #[test]
    fn k8s_26_odd_tokens_give_names_that_kubernetes_takes() {
        for token in ["abcdefghi", "_-XyZ/..=", "", "ÄÖÜ", "-----"] {
            let names = names(&runner(token), JobId(u64::MAX), u64::MAX, "12");
            assert!(is_dns_label(&names.pod), "{token}: {names:?}");
            assert!(is_dns_label(&names.record), "{token}: {names:?}");
            assert_eq!(names.pod.rsplit('-').next().map(str::len), Some(8));
        }
    }

    #[test]
    fn the_same_job_has_the_same_names_and_other_jobs_have_others() {
        let one = names(&runner("abc"), JobId(1), 7, "0");
        assert_eq!(one, names(&runner("abc"), JobId(1), 7, "0"));
        assert_ne!(one, names(&runner("abc"), JobId(2), 7, "0"));
        let mut other = runner("abc");
        other.source = SourceId("https://other.example#abc".into());
        assert_ne!(one.record, names(&other, JobId(1), 7, "0").record);
        assert_ne!(one.pod, names(&other, JobId(1), 7, "0").pod);
    }

    #[test]
    fn k8s_24_label_values_are_cleaned_and_cut() {
        assert_eq!(label_value("group/sub project"), "group_sub_project");
        assert_eq!(label_value("-._x._-"), "x");
        assert_eq!(label_value(&format!("{}_-tail", "a".repeat(62))), "a".repeat(62));
        assert_eq!(label_value("ü"), "");
    }

    #[test]
    fn k8s_24_the_runners_own_label_domain_is_protected() {
        for key in ["runner.gitlab.com", "job.runner.gitlab.com/x", "JOB.Runner.GitLab.com/x"] {
            assert!(is_protected_label(key), "{key}");
        }
        assert!(!is_protected_label("notrunner.gitlab.com/x"));
        assert!(!is_protected_label("example.com/runner.gitlab.com"));
    }
}
