//! What a job's variables tell the runner to do.

use std::time::Duration;

use super::settings::PlanSettings;
use super::values::{GoDuration, parse_bool, parse_duration, shown};
use super::variables::VariableSet;
use crate::job::Job;
use crate::plan::{GitStrategy, Nesting};

/// The job's timeout where the source gives none: GitLab's default for a payload without one.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(7200);
/// `RUNNER_AFTER_SCRIPT_TIMEOUT` where there is none.
const DEFAULT_AFTER_SCRIPT: Duration = Duration::from_secs(5 * 60);
const ATTEMPTS: std::ops::RangeInclusive<i64> = 1..=10;

/// Settings of a job, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobSettings {
    pub(super) strategy: GitStrategy,
    pub(super) checkout: bool,
    pub(super) clean_flags: Vec<String>,
    pub(super) fetch_flags: Vec<String>,
    pub(super) clone_flags: Vec<String>,
    pub(super) submodules: SubmoduleStrategy,
    pub(super) submodule_depth: u32,
    pub(super) submodule_paths: Vec<String>,
    pub(super) submodule_update_flags: Vec<String>,
    pub(super) submodule_force_https: bool,
    pub(super) lfs_skip_smudge: bool,
    pub(super) get_sources_attempts: u32,
    pub(super) artifact_download_attempts: u32,
    pub(super) script_timeout: Option<Duration>,
    pub(super) after_script_timeout: Duration,
    pub(super) after_script_ignore_errors: bool,
    pub(super) debug_trace: bool,
    pub(super) debug_services: bool,
    pub(super) summary: bool,
}

/// What `GIT_SUBMODULE_STRATEGY` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubmoduleStrategy {
    None,
    Some(Nesting),
    /// A word that is none; the job would not get what it counts on.
    Unknown,
}

impl JobSettings {
    /// Reads them; what cannot be used leaves the default and a warning. Settings that have no
    /// effect here are checked too, so that an author learns of a slip anywhere.
    pub(super) fn read(
        job: &Job,
        settings: &PlanSettings,
        variables: &VariableSet,
        warnings: &mut Vec<String>,
    ) -> Self {
        let timeout = job_timeout(job);
        let mut reader = Reader { variables, warnings };
        let strategy = reader.strategy(job);
        let checkout = reader.bool("GIT_CHECKOUT", true);
        let get_sources_attempts = reader.attempts("GET_SOURCES_ATTEMPTS");
        let artifact_download_attempts = reader.attempts("ARTIFACT_DOWNLOAD_ATTEMPTS");
        for name in [
            "RESTORE_CACHE_ATTEMPTS",
            "EXECUTOR_JOB_SECTION_ATTEMPTS",
            "SECRETS_RETRIEVAL_ATTEMPTS",
        ] {
            reader.attempts(name);
        }
        let submodule_force_https = reader.bool("GIT_SUBMODULE_FORCE_HTTPS", false);
        let lfs_skip_smudge = reader.bool("GIT_LFS_SKIP_SMUDGE", false);
        let submodules = reader.submodules();
        let depth = job.sources.as_ref().map_or(0, |sources| sources.depth);
        let submodule_depth = reader.depth("GIT_SUBMODULE_DEPTH", depth);
        let script_timeout = reader.timeout("RUNNER_SCRIPT_TIMEOUT", timeout);
        let after_script_timeout =
            reader.timeout("RUNNER_AFTER_SCRIPT_TIMEOUT", timeout).unwrap_or(DEFAULT_AFTER_SCRIPT);
        let after_script_ignore_errors = reader.bool("AFTER_SCRIPT_IGNORE_ERRORS", true);
        let summary = reader.bool("PODWRIGHT_JOB_SUMMARY", settings.summary);
        let mut debug_trace = reader.bool("CI_DEBUG_TRACE", false);
        let mut debug_services = reader.bool("CI_DEBUG_SERVICES", false);
        if debug_trace && settings.debug_trace_disabled {
            debug_trace = false;
            warnings.push("CI_DEBUG_TRACE: usage is disabled on this Runner".to_owned());
        }
        if debug_services && settings.debug_trace_disabled {
            debug_services = false;
            warnings.push("CI_DEBUG_SERVICES: usage is disabled on this Runner".to_owned());
        }
        Self {
            strategy,
            checkout: checkout && !matches!(strategy, GitStrategy::None | GitStrategy::Empty),
            clean_flags: words(variables, "GIT_CLEAN_FLAGS", "-ffdx"),
            fetch_flags: words(variables, "GIT_FETCH_EXTRA_FLAGS", "--prune --quiet"),
            clone_flags: words(variables, "GIT_CLONE_EXTRA_FLAGS", "none"),
            submodules,
            submodule_depth,
            submodule_paths: plain_words(variables, "GIT_SUBMODULE_PATHS"),
            submodule_update_flags: plain_words(variables, "GIT_SUBMODULE_UPDATE_FLAGS"),
            submodule_force_https,
            lfs_skip_smudge,
            get_sources_attempts,
            artifact_download_attempts,
            script_timeout,
            after_script_timeout,
            after_script_ignore_errors,
            debug_trace,
            debug_services,
            // It is a section, and long: without sections the log is better off without it.
            summary: summary && job.features.trace_sections,
        }
    }
}

/// The job's timeout, never zero.
pub(super) fn job_timeout(job: &Job) -> Duration {
    if job.timeout.is_zero() { DEFAULT_TIMEOUT } else { job.timeout }
}

/// A limit from the runner's configuration, where it is one.
pub(super) fn stage_limit(limit: Option<Duration>, job: &Job) -> Option<Duration> {
    limit.filter(|limit| !limit.is_zero() && *limit <= job_timeout(job))
}

/// How the checkout is brought about, given what `GIT_STRATEGY` says; a word that is no strategy
/// counts as none.
pub(super) fn strategy(job: &Job, raw: Option<&str>) -> GitStrategy {
    chosen_strategy(raw).and_then(Result::ok).unwrap_or_else(|| default_strategy(job))
}

fn default_strategy(job: &Job) -> GitStrategy {
    match &job.sources {
        Some(sources) if sources.allow_fetch => GitStrategy::Fetch,
        _ => GitStrategy::Clone,
    }
}

/// `None`: nothing is said. `Err`: what is said is no strategy.
fn chosen_strategy(raw: Option<&str>) -> Option<Result<GitStrategy, &str>> {
    Some(match raw.filter(|raw| !raw.is_empty())? {
        "fetch" => Ok(GitStrategy::Fetch),
        "clone" => Ok(GitStrategy::Clone),
        "none" => Ok(GitStrategy::None),
        "empty" => Ok(GitStrategy::Empty),
        other => Err(other),
    })
}

/// Words between white space; the word `none` alone means no words.
fn words(variables: &VariableSet, name: &str, default: &str) -> Vec<String> {
    match variables.setting(name).filter(|raw| !raw.is_empty()).unwrap_or(default) {
        "none" => Vec::new(),
        raw => raw.split_whitespace().map(str::to_owned).collect(),
    }
}

fn plain_words(variables: &VariableSet, name: &str) -> Vec<String> {
    let raw = variables.setting(name).unwrap_or_default();
    raw.split_whitespace().map(str::to_owned).collect()
}

struct Reader<'a> {
    variables: &'a VariableSet,
    warnings: &'a mut Vec<String>,
}

impl<'a> Reader<'a> {
    fn raw(&self, name: &str) -> Option<&'a str> {
        self.variables.setting(name).filter(|raw| !raw.is_empty())
    }

    fn bool(&mut self, name: &str, default: bool) -> bool {
        let Some(raw) = self.raw(name) else { return default };
        parse_bool(raw).unwrap_or_else(|| {
            self.unusable(name, "bool", raw, &default.to_string());
            default
        })
    }

    fn attempts(&mut self, name: &str) -> u32 {
        let Some(raw) = self.raw(name) else { return 1 };
        let Ok(number) = raw.parse::<i64>() else {
            self.unusable(name, "int", raw, "1");
            return 1;
        };
        let clamped = number.clamp(*ATTEMPTS.start(), *ATTEMPTS.end());
        if clamped != number {
            self.warnings.push(format!(
                "{name}: number of attempts out of the range [1, 10], clamping to: {clamped}"
            ));
        }
        // Within 1 to 10.
        clamped as u32
    }

    fn strategy(&mut self, job: &Job) -> GitStrategy {
        let default = default_strategy(job);
        match chosen_strategy(self.raw("GIT_STRATEGY")) {
            None => default,
            Some(Ok(strategy)) => strategy,
            Some(Err(raw)) => {
                let name = if default == GitStrategy::Fetch { "fetch" } else { "clone" };
                self.unusable("GIT_STRATEGY", "one of [clone fetch none empty]", raw, name);
                default
            }
        }
    }

    fn submodules(&mut self) -> SubmoduleStrategy {
        match self.raw("GIT_SUBMODULE_STRATEGY") {
            None | Some("none") => SubmoduleStrategy::None,
            Some("normal") => SubmoduleStrategy::Some(Nesting::Normal),
            Some("recursive") => SubmoduleStrategy::Some(Nesting::Recursive),
            Some(raw) => {
                let name = "GIT_SUBMODULE_STRATEGY";
                self.unusable(name, "one of [none normal recursive]", raw, "none");
                SubmoduleStrategy::Unknown
            }
        }
    }

    /// A number of commits; less than none means all of them, as `0` does.
    fn depth(&mut self, name: &str, default: u32) -> u32 {
        let Some(raw) = self.raw(name) else { return default };
        let Ok(number) = raw.parse::<i64>() else {
            self.unusable(name, "int", raw, &default.to_string());
            return default;
        };
        u32::try_from(number.clamp(0, i64::from(i32::MAX))).unwrap_or(0)
    }

    /// GitLab Runner compares with what is left of the job's time when the script begins; the plan
    /// is made before, so with all of it. The job's own deadline applies in either case.
    fn timeout(&mut self, name: &str, job: Duration) -> Option<Duration> {
        let raw = self.raw(name)?.trim();
        if raw.is_empty() {
            return None;
        }
        let quoted = super::values::cut(raw);
        match parse_duration(raw) {
            None => self.warnings.push(format!("Ignoring malformed {name} timeout: {quoted}")),
            Some(GoDuration::Backward) => {
                self.warnings.push(format!("Ignoring relative {name} timeout: {quoted}"));
            }
            Some(GoDuration::Forward(limit)) if limit > job => self.warnings.push(format!(
                "{name} timeout: {quoted} is longer than job timeout. Setting to job timeout"
            )),
            Some(GoDuration::Forward(limit)) => return (!limit.is_zero()).then_some(limit),
        }
        None
    }

    fn unusable(&mut self, name: &str, expected: &str, raw: &str, default: &str) {
        self.warnings.push(format!(
            "{name}: expected {expected} got {}, using default value: {default}",
            shown(raw)
        ));
    }
}
