//! What a configuration means: checked, with defaults, nothing optional without a meaning.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use runner_cache::CacheSettings;
use runner_core::secret::Secret;
use runner_k8s::KubernetesSettings;

use super::monitoring::QueueTimes;
use crate::logging::sentry::Dsn;

/// A configuration that `run` can work with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// Most jobs at once over all runners.
    pub(crate) concurrent: usize,
    /// Time between two requests for a job of one runner.
    pub(crate) check_interval: Duration,
    /// Least severe log lines that are written.
    pub(crate) log_level: Option<LogLevel>,
    /// How they look.
    pub(crate) log_format: Option<LogFormat>,
    /// Where errors are reported, too.
    pub(crate) sentry_dsn: Option<Dsn>,
    /// Longest age of a connection to GitLab; `None`: any.
    pub(crate) connection_max_age: Option<Duration>,
    /// Where metrics are served; empty: nowhere.
    pub(crate) listen_address: String,
    /// How long to wait for jobs that were told to stop.
    pub(crate) shutdown_timeout: Duration,
    /// What TERM does to running jobs.
    pub(crate) on_terminate: OnTerminate,
    /// Take this manager off GitLab's list when it has drained.
    pub(crate) unregister_on_stop: bool,
    pub(crate) session_server: SessionServerConfig,
    /// In the file's order.
    pub(crate) runners: Vec<RunnerConfig>,
}

/// `[session_server]`; its addresses are not checked yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SessionServerConfig {
    /// Empty: there is none.
    pub(crate) listen_address: String,
    /// Empty: the same.
    pub(crate) advertise_address: String,
    pub(crate) session_timeout: Duration,
    pub(crate) certificate_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
}

impl Default for SessionServerConfig {
    fn default() -> Self {
        Self {
            listen_address: String::new(),
            advertise_address: String::new(),
            session_timeout: Duration::from_secs(1800),
            certificate_file: None,
            key_file: None,
        }
    }
}

/// One `[[runners]]` entry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunnerConfig {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) clone_url: Option<String>,
    pub(crate) token: Secret,
    /// Number in GitLab; 0: unknown.
    pub(crate) id: u64,
    /// When the token is to be renewed.
    pub(crate) token_life: Option<TokenLife>,
    /// The token was read from this file, so it is not ours to renew.
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) tls: TlsFiles,
    /// 0: no limit of its own.
    pub(crate) limit: usize,
    pub(crate) request_concurrency: usize,
    pub(crate) strict_check_interval: bool,
    pub(crate) unhealthy_requests_limit: u32,
    pub(crate) unhealthy_interval: Duration,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) feature_flags: BTreeMap<String, bool>,
    /// Bytes.
    pub(crate) output_limit: u64,
    pub(crate) environment: Vec<Secret>,
    pub(crate) builds_dir: Option<String>,
    pub(crate) cache_dir: Option<String>,
    pub(crate) custom_build_dir: bool,
    pub(crate) shell: String,
    pub(crate) pre_get_sources_script: Option<String>,
    pub(crate) post_get_sources_script: Option<String>,
    pub(crate) job_summary: bool,
    pub(crate) pre_build_script: Option<String>,
    pub(crate) post_build_script: Option<String>,
    pub(crate) prepare_timeout: Option<Duration>,
    pub(crate) get_sources_timeout: Option<Duration>,
    pub(crate) debug_trace_disabled: bool,
    pub(crate) upload_timeout: Duration,
    /// How long the job at the start may take. `None`: there is none.
    pub(crate) boot_verify: Option<Duration>,
    /// How long jobs may wait in GitLab's queue.
    pub(crate) queue_times: QueueTimes,
    /// Where caches go, without what follows from the token. `None`: nowhere.
    pub(crate) cache: Option<CacheSettings>,
    /// `None` together with a fault.
    pub(crate) kubernetes: Option<KubernetesSettings>,
    /// Why this runner cannot be used; others can.
    pub(crate) fault: Option<String>,
}

/// How long a token lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenLife {
    pub(crate) obtained: Timestamp,
    pub(crate) expires: Timestamp,
}

impl RunnerConfig {
    /// A feature flag that counts outside of jobs; off where nothing is said.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// The same with another default.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> bool {
        self.feature_flags.get(name).copied().unwrap_or(default)
    }
}

/// A token that GitLab has just handed out in place of another.
#[derive(Clone, Debug)]
pub(crate) struct Renewed {
    pub(crate) token: Secret,
    pub(crate) obtained: Timestamp,
    /// `None`: never.
    pub(crate) expires: Option<Timestamp>,
}

impl Renewed {
    pub(crate) fn life(&self) -> Option<TokenLife> {
        let obtained = self.obtained;
        self.expires.map(|expires| TokenLife { obtained, expires })
    }
}

impl TokenLife {
    /// When it is renewed: after three quarters of its life.
    pub(crate) fn renew_at(self) -> Timestamp {
        let life = self.expires.duration_since(self.obtained);
        self.obtained.checked_add(life * 3 / 4).unwrap_or(self.expires)
    }
}

/// Certificate files, which are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

impl TlsFiles {
    /// Those that are set.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        [&self.ca, &self.certificate, &self.key].into_iter().flatten().cloned().collect()
    }

    /// Authorities, and certificate with key; what cannot be read is left out.
    pub(crate) fn load(&self) -> (Option<String>, Option<(String, Secret)>) {
        let read = |file: &Option<PathBuf>| {
            file.as_ref().and_then(|file| std::fs::read_to_string(file).ok())
        };
        let client = read(&self.certificate).zip(read(&self.key).map(Secret::new));
        (read(&self.ca), client)
    }
}

/// What TERM and INT do to running jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OnTerminate {
    /// They go on in their pods; the next manager takes them over.
    #[default]
    Leave,
    /// They are failed, as GitLab Runner does.
    Stop,
}

/// Least severe lines that are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogLevel {
    /// GitLab Runner's `panic`, `fatal` and `error`.
    Error,
    /// And warnings.
    Warn,
    /// And what happens.
    #[default]
    Info,
    /// And what is decided.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// From any of GitLab Runner's names.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "panic" | "fatal" | "error" => Self::Error,
            "warn" | "warning" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return None,
        })
    }

    /// The name that a filter knows.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people; GitLab Runner's `runner`.
    #[default]
    Runner,
    /// `key=value`.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// From GitLab Runner's names.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "runner" => Self::Runner,
            "text" => Self::Text,
            "json" => Self::Json,
            _ => return None,
        })
    }
}
