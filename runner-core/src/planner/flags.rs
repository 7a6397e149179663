//! GitLab Runner 19.4's feature flags: their defaults, and what a job and a runner make of them.
//!
//! All are resolved and exported to the job, since scripts and tools read them; few have a meaning
//! here.

use super::values::{cut, parse_bool};

/// Name and default, in the order in which they are exported and shown.
pub const FLAGS: &[(&str, bool)] = &[
    ("FF_TEST_FEATURE", false),
    ("FF_NETWORK_PER_BUILD", false),
    ("FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY", false),
    ("FF_USE_DIRECT_DOWNLOAD", true),
    ("FF_USE_FASTZIP", true),
    ("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", false),
    ("FF_ENABLE_BASH_EXIT_CODE_CHECK", false),
    ("FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY", false),
    ("FF_USE_LEGACY_BASH_EVAL", false),
    ("FF_USE_POWERSHELL_PATH_RESOLVER", false),
    ("FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL", false),
    ("FF_SCRIPT_SECTIONS", false),
    ("FF_ENABLE_JOB_CLEANUP", false),
    ("FF_KUBERNETES_HONOR_ENTRYPOINT", false),
    ("FF_POSIXLY_CORRECT_ESCAPES", false),
    ("FF_RESOLVE_FULL_TLS_CHAIN", false),
    ("FF_DISABLE_POWERSHELL_STDIN", false),
    ("FF_USE_POD_ACTIVE_DEADLINE_SECONDS", true),
    ("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", false),
    ("FF_SECRET_RESOLVING_FAILS_IF_MISSING", true),
    ("FF_PRINT_POD_EVENTS", false),
    ("FF_USE_GIT_BUNDLE_URIS", true),
    ("FF_USE_GIT_NATIVE_CLONE", false),
    ("FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR", false),
    ("FF_USE_INIT_WITH_DOCKER_EXECUTOR", false),
    ("FF_LOG_IMAGES_CONFIGURED_FOR_JOB", false),
    ("FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO", true),
    ("FF_CLEAN_UP_FAILED_CACHE_EXTRACT", false),
    ("FF_USE_WINDOWS_JOB_OBJECT", false),
    ("FF_TIMESTAMPS", true),
    ("FF_DISABLE_AUTOMATIC_TOKEN_ROTATION", false),
    ("FF_USE_LEGACY_GCS_CACHE_ADAPTER", false),
    ("FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR", false),
    ("FF_USE_LEGACY_S3_CACHE_ADAPTER", false),
    ("FF_GIT_URLS_WITHOUT_TOKENS", false),
    ("FF_WAIT_FOR_POD_TO_BE_REACHABLE", false),
    ("FF_MASK_ALL_DEFAULT_TOKENS", true),
    ("FF_EXPORT_HIGH_CARDINALITY_METRICS", false),
    ("FF_USE_FLEETING_ACQUIRE_HEARTBEATS", false),
    ("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", true),
    ("FF_USE_ADAPTIVE_REQUEST_CONCURRENCY", true),
    ("FF_USE_GITALY_CORRELATION_ID", true),
    ("FF_USE_GIT_PROACTIVE_AUTH", false),
    ("FF_HASH_CACHE_KEYS", false),
    ("FF_ENABLE_JOB_INPUTS_INTERPOLATION", true),
    ("FF_USE_JOB_ROUTER", false),
    ("FF_SCRIPT_TO_STEP_MIGRATION", false),
    ("FF_USE_PARALLEL_CACHE_TRANSFER", false),
    ("FF_USE_PARALLEL_ARTIFACT_TRANSFER", false),
    ("FF_CONCRETE", false),
    ("FF_SUSPENDABLE_ENVIRONMENTS", false),
    ("FF_USE_NATIVE_CONTAINER_STOP", false),
];

/// Each flag with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    values: Vec<bool>,
}

impl Default for Flags {
    /// All at their defaults.
    fn default() -> Self {
        Self { values: FLAGS.iter().map(|(_, default)| *default).collect() }
    }
}

impl Flags {
    /// Whether the flag is on. A name that is no flag is off.
    pub fn is_on(&self, name: &str) -> bool {
        self.iter().any(|(flag, value)| flag == name && value)
    }

    /// All flags in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        FLAGS.iter().zip(&self.values).map(|((name, _), value)| (*name, *value))
    }

    /// Those that differ from their default, in order.
    pub fn changed(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        FLAGS
            .iter()
            .zip(&self.values)
            .filter(|((_, default), value)| default != *value)
            .map(|((name, _), value)| (*name, *value))
    }

    /// Resolves them: the runner's configuration, then the job's variables (the last of a name),
    /// then the runner's `environment` (ditto), then the default. A value that is no boolean leaves
    /// the default and a warning.
    pub(super) fn resolve(
        configured: &[(String, bool)],
        job: &[(&str, &str)],
        environment: &[(&str, &str)],
        warnings: &mut Vec<String>,
    ) -> Self {
        let last = |list: &[(&str, &str)], name: &str| {
            list.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let mut resolve = |name: &str, default: bool| {
            if let Some((_, value)) = configured.iter().rev().find(|(key, _)| key == name) {
                return *value;
            }
            let Some(raw) = last(job, name).or_else(|| last(environment, name)) else {
                return default;
            };
            parse_bool(&raw).unwrap_or_else(|| {
                warnings.push(format!(
                    "{name}: could not parse feature flag, expected bool, got {}",
                    cut(&raw)
                ));
                default
            })
        };
        Self { values: FLAGS.iter().map(|(name, default)| resolve(name, *default)).collect() }
    }
}

/// Whether this is the name of a flag.
pub(super) fn is_flag(name: &str) -> bool {
    FLAGS.iter().any(|(flag, _)| *flag == name)
}

#[cfg(test)]
mod tests {
    use super::{FLAGS, Flags};

    #[test]
    fn the_table_has_19_4s_flags() {
        assert_eq!(FLAGS.len(), 52);
        assert!(Flags::default().is_on("FF_TIMESTAMPS"));
        assert!(!Flags::default().is_on("FF_SCRIPT_SECTIONS"));
        assert!(!Flags::default().is_on("FF_NO_SUCH_FLAG"));
    }

    #[test]
    fn stages_37_configuration_beats_job_beats_environment_beats_default() {
        let resolve = |configured: &[(String, bool)], job: &[_], environment: &[_]| {
            let mut warnings = Vec::new();
            let flags = Flags::resolve(configured, job, environment, &mut warnings);
            (flags.is_on("FF_TIMESTAMPS"), warnings)
        };
        let off = [("FF_TIMESTAMPS", "0")];
        let on = [("FF_TIMESTAMPS", "true")];
        let configured = [("FF_TIMESTAMPS".to_owned(), true)];
        assert_eq!(resolve(&[], &[], &[]), (true, vec![]));
        assert_eq!(resolve(&[], &[], &off), (false, vec![]));
        assert_eq!(resolve(&[], &on, &off), (true, vec![]));
        assert_eq!(resolve(&[], &[on[0], off[0]], &[]), (false, vec![]));
        assert_eq!(resolve(&configured, &off, &off), (true, vec![]));
        let warning = "FF_TIMESTAMPS: could not parse feature flag, expected bool, got maybe";
        assert_eq!(
            resolve(&[], &[("FF_TIMESTAMPS", "maybe")], &off),
            (true, vec![warning.to_owned()])
        );
    }
}
