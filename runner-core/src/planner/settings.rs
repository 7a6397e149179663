//! What the planner has to know beside the job.

use std::time::Duration;

use crate::cache::CacheScope;
use crate::plan::{HeaderLine, ScriptLanguage, Transfer};
use crate::secret::Secret;

/// Settings of the runner that a plan depends on.
///
/// All but the two slots are the same for every job of a runner.
#[derive(Clone, Debug)]
pub struct PlanSettings {
    /// Name of the runner, for the header. Default: empty.
    pub runner_name: String,
    /// First characters of the runner's token, for the header, `CI_RUNNER_SHORT_TOKEN` and shared
    /// build directories. Default: empty; the header's second line is left out then.
    pub short_token: String,
    /// Which manager this is, for the header. Default: empty.
    pub system_id: String,
    /// Host name of the manager, for `Running on … via …`. Default: empty, which leaves out the `via …`.
    pub manager_host: String,
    /// Name of the program in the header. Default: `podwright`.
    pub release_name: String,
    /// Version in the header and in `CI_RUNNER_VERSION`. Default: this crate's.
    pub release_version: String,
    /// Commit the program was built from, for the header and `CI_RUNNER_REVISION`.
    /// Default: `unknown`.
    pub release_revision: String,
    /// `os/arch` of the manager in Go's words, for `CI_RUNNER_EXECUTABLE_ARCH`.
    /// Default: that of this build.
    pub platform: String,
    /// Absolute root of all checkouts. Default: `/builds`.
    pub builds_dir: String,
    /// Absolute root of local caches. Default: `/cache`.
    pub cache_dir: String,
    /// The builds root is a volume that other jobs use at the same time, so each slot gets a
    /// directory of its own. Default: false.
    pub builds_shared: bool,
    /// Jobs may choose their directory with `GIT_CLONE_PATH` (`custom_build_dir`). Default: true.
    pub custom_build_dir: bool,
    /// Number of the job among those that run now on this runner (`CI_CONCURRENT_ID`).
    /// Default: 0.
    pub slot: u32,
    /// The same among jobs of its project (`CI_CONCURRENT_PROJECT_ID`). Default: 0.
    pub project_slot: u32,
    /// Entries `KEY=value` of the runner's `environment`. They come before the job's variables,
    /// so the job's win. Default: none.
    pub environment: Vec<Secret>,
    /// Commands before those of each user step, in the same shell. Default: none.
    pub pre_build_script: Option<String>,
    /// Commands after those of each user step, in the same shell. Default: none.
    pub post_build_script: Option<String>,
    /// Commands in the helper before the job's own hook and before the work on the sources.
    /// Default: none.
    pub pre_get_sources_script: Option<String>,
    /// Commands in the helper when the sources are there, after the job's own hook. Default: none.
    pub post_get_sources_script: Option<String>,
    /// What the job's commands are written in. Default: the shell's language.
    pub language: ScriptLanguage,
    /// Feature flags that the runner's configuration sets; they win over the job's. Default: none.
    pub feature_flags: Vec<(String, bool)>,
    /// Longest trace, in bytes. Default: 4 MiB.
    pub output_limit: u64,
    /// How long a process may take to end after TERM. Default: 10 s.
    pub grace: Duration,
    /// How long the agent keeps trace and verdict for a manager. Default: 1 h.
    pub hold: Duration,
    /// User agent of git's requests. Default: `podwright <version> <os>/<arch>`.
    pub git_user_agent: String,
    /// URL that takes the place of the one the job's sources have (`clone_url`). Default: none.
    pub clone_url: Option<String>,
    /// PEM of a CA to trust in addition to the system's, for git, transfers and
    /// `CI_SERVER_TLS_CA_FILE`. Default: none.
    pub tls_ca: Option<String>,
    /// Client certificate and key for the source, both PEM (`CI_SERVER_TLS_CERT_FILE` and
    /// `_KEY_FILE`). Default: none.
    pub tls_client: Option<(String, Secret)>,
    /// `CI_DEBUG_TRACE` has no effect but a warning. Default: false.
    pub debug_trace_disabled: bool,
    /// Longest time for `prepare_script`; zero or more than the job's timeout: the job's.
    /// Default: none.
    pub prepare_timeout: Option<Duration>,
    /// Longest time for all attempts to get the sources; same rule. Default: none.
    pub get_sources_timeout: Option<Duration>,
    /// When the job came, in milliseconds since the Unix epoch, for the summary. Default: unknown.
    pub received_ms: Option<u64>,
    /// A summary at the end of each trace, unless the job's `PODWRIGHT_JOB_SUMMARY` is false.
    /// Default: true.
    pub summary: bool,
    /// Largest cache archive that goes to the store, in bytes (`MaxUploadedArchiveSize`); 0: no limit.
    /// Default: 0.
    pub cache_limit: u64,
    /// What the executor is called in the log (`Preparing the "kubernetes" executor`). Default: empty;
    /// there is no such section then.
    pub executor: String,
    /// Image of jobs that name none, for the log. Default: empty.
    pub default_image: String,
    /// Lines of the executor in that section, e.g. `Using Kubernetes namespace: ci`; `{image}` is
    /// replaced by the job's image. Without a section they end the header. Default: none.
    pub executor_lines: Vec<String>,
}

impl Default for PlanSettings {
    fn default() -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let platform = platform();
        Self {
            runner_name: String::new(),
            short_token: String::new(),
            system_id: String::new(),
            manager_host: String::new(),
            release_name: "podwright".to_owned(),
            release_version: version.to_owned(),
            release_revision: "unknown".to_owned(),
            git_user_agent: format!("podwright {version} {platform}"),
            platform,
            builds_dir: "/builds".to_owned(),
            cache_dir: "/cache".to_owned(),
            builds_shared: false,
            custom_build_dir: true,
            slot: 0,
            project_slot: 0,
            environment: Vec::new(),
            pre_build_script: None,
            post_build_script: None,
            pre_get_sources_script: None,
            post_get_sources_script: None,
            language: ScriptLanguage::Shell,
            feature_flags: Vec::new(),
            output_limit: 4 << 20,
            grace: Duration::from_secs(10),
            hold: Duration::from_secs(3600),
            clone_url: None,
            tls_ca: None,
            tls_client: None,
            debug_trace_disabled: false,
            prepare_timeout: None,
            get_sources_timeout: None,
            received_ms: None,
            summary: true,
            cache_limit: 0,
            executor: String::new(),
            default_image: String::new(),
            executor_lines: Vec::new(),
        }
    }
}

/// The platform of this build as Go names it; jobs compare with those names.
fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

/// Where archives come from and go to, asked of the
/// [`ArtifactStore`](crate::artifact::ArtifactStore) beforehand.
#[derive(Clone, Debug, Default)]
pub struct Transfers {
    /// One for each of the job's dependencies that has a file name, in their order.
    pub downloads: Vec<Transfer>,
    /// One for each of the job's artifacts, in their order. `None`: the store does not take it.
    pub uploads: Vec<Option<Transfer>>,
    /// What the log says about what was asked beforehand, e.g. for secrets.
    pub preface: Vec<HeaderLine>,
    /// What the job's caches may reach. `None`: there is no cache store.
    pub cache: Option<CacheScope>,
}
