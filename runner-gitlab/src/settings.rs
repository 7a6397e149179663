//! What a [`GitLabSource`](crate::GitLabSource) has to be told, with GitLab Runner's defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runner_core::ids::SourceId;
use runner_core::secret::Secret;

use crate::calls::{CallObserver, NoCallObserver};
use crate::info::{Features, ReleaseInfo};
use crate::session::SessionOffers;
use crate::token::source_id;
use crate::url::ApiBase;

/// Everything about one runner of one GitLab. Build it with [`GitLabSettings::new`] and change what
/// differs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GitLabSettings {
    /// `[[runners]] url`: `http` or `https`, a relative path is kept, a trailing `/` or `/ci` is not.
    pub url: String,
    /// `[[runners]] token`: the runner's authentication token.
    pub token: Secret,
    /// Which of the managers that share the token this is: `s_` or `r_` and twelve characters.
    pub system_id: String,
    /// What this program calls itself.
    pub release: ReleaseInfo,
    /// Name of the executor that GitLab shows. Default: `kubernetes`.
    pub executor: String,
    /// Name of the shell that GitLab shows. Default: `bash`.
    pub shell: String,
    /// What jobs may ask for. Default: what Podwright can do.
    pub features: Features,
    /// Labels of this manager (`[labels]` and `[runners.labels]`, already merged). Default: none.
    pub labels: BTreeMap<String, String>,
    /// `debug_trace_disabled`: traces are never marked as debug traces. Default: false.
    pub debug_trace_disabled: bool,
    /// Certificates.
    pub tls: TlsSettings,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// What to do about "not now".
    pub retry: RetrySettings,
    /// When to leave a GitLab alone that refuses the token.
    pub health: HealthSettings,
    /// `connection_max_age`: connections older than this take no new requests, so that a load
    /// balancer in between can move them. Default: 15 min. `None`: never.
    pub connection_max_age: Option<Duration>,
    /// `[[runners]] id`: the runner's number in GitLab; 0: unknown. With it a manager recognises
    /// jobs of an earlier one although the token has been renewed meanwhile.
    pub runner_id: u64,
    /// Is told of every call. Default: nobody.
    pub observer: Arc<dyn CallObserver>,
    /// Where people can look into jobs. Default: nowhere.
    pub sessions: Option<Arc<dyn SessionOffers>>,
    /// Longest answer to `jobs/request` that is read. Default: 256 MiB, far above any real job.
    pub payload_limit: usize,
}

impl GitLabSettings {
    /// Settings with all defaults.
    pub fn new(
        url: impl Into<String>,
        token: impl Into<Secret>,
        system_id: impl Into<String>,
    ) -> Self {
        Self {
            url: url.into(),
            token: token.into(),
            system_id: system_id.into(),
            release: ReleaseInfo::default(),
            executor: "kubernetes".to_owned(),
            shell: "bash".to_owned(),
            features: Features::default(),
            labels: BTreeMap::new(),
            debug_trace_disabled: false,
            tls: TlsSettings::default(),
            timeouts: Timeouts::default(),
            retry: RetrySettings::default(),
            health: HealthSettings::default(),
            connection_max_age: Some(Duration::from_secs(15 * 60)),
            runner_id: 0,
            observer: Arc::new(NoCallObserver),
            sessions: None,
            payload_limit: 256 << 20,
        }
    }

    /// What a source with these settings would call itself ([`JobSource::id`]), without making one.
    ///
    /// [`JobSource::id`]: runner_core::source::JobSource::id
    ///
    /// # Errors
    /// When `url` is not an address of a GitLab.
    pub fn source_id(&self) -> Result<SourceId, SettingsError> {
        Ok(source_id(&ApiBase::parse(&self.url)?, self.runner_id, &self.token))
    }

    /// Whether a source of these settings can stand in for one of the others: everything is equal but
    /// who looks on ([`observer`](Self::observer), [`sessions`](Self::sessions)), which cannot be compared.
    pub fn is_same_source(&self, other: &Self) -> bool {
        // Without `..`: a new setting has to be decided about here.
        let Self {
            url,
            token,
            system_id,
            release,
            executor,
            shell,
            features,
            labels,
            debug_trace_disabled,
            tls,
            timeouts,
            retry,
            health,
            connection_max_age,
            runner_id,
            observer: _,
            sessions: _,
            payload_limit,
        } = self;
        *url == other.url
            && *token == other.token
            && *system_id == other.system_id
            && *release == other.release
            && *executor == other.executor
            && *shell == other.shell
            && *features == other.features
            && *labels == other.labels
            && *debug_trace_disabled == other.debug_trace_disabled
            && *tls == other.tls
            && *timeouts == other.timeouts
            && *retry == other.retry
            && *health == other.health
            && *connection_max_age == other.connection_max_age
            && *runner_id == other.runner_id
            && *payload_limit == other.payload_limit
    }
}

/// Certificate files. They are read again when they change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// `tls-ca-file`: PEM of authorities to trust in addition to the system's. A file that is not
    /// there, or holds no certificate, is a warning, as in GitLab Runner.
    pub ca_file: Option<PathBuf>,
    /// `tls-cert-file`: PEM of a client certificate; used only together with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// `tls-key-file`: PEM of its key.
    pub key_file: Option<PathBuf>,
    /// Where `<host>.crt`, `<host>.auth.crt` and `<host>.auth.key` are looked for when the files
    /// above are not set. Default: nowhere.
    pub certs_dir: Option<PathBuf>,
}

/// Deadlines of one try. All of them are wall-clock times from the first byte sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Until there is a connection, TLS included. Default: 30 s.
    pub connect: Duration,
    /// `POST jobs/request`, which GitLab holds back for 50 s by default. Default: 10 min.
    pub poll: Duration,
    /// `PUT jobs/:id` and `PATCH jobs/:id/trace`. Default: 2 min. GitLab Runner waits up to an hour,
    /// and cannot notice a cancel meanwhile; GitLab itself ends a request after one minute.
    pub update: Duration,
    /// `[runners.artifact] upload_timeout`: one try to hand over an archive. Default: 1 h.
    pub upload: Duration,
    /// One try to fetch an archive. Default: 1 h.
    pub download: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            poll: Duration::from_secs(10 * 60),
            update: Duration::from_secs(2 * 60),
            upload: Duration::from_secs(60 * 60),
            download: Duration::from_secs(60 * 60),
        }
    }
}

/// Back-off between tries of one call, where GitLab names no time itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// The first wait. Default: 100 ms. It doubles from try to try.
    pub first: Duration,
    /// The longest wait. Default: 60 s.
    pub longest: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(60) }
    }
}

/// When GitLab is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// `unhealthy_requests_limit`: refusals in a row until then. Default, and what 0 means: 3.
    pub limit: u32,
    /// `unhealthy_interval`: for how long, counted from the last healthy answer. Default: 60 min.
    pub interval: Duration,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self { limit: 3, interval: Duration::from_secs(60 * 60) }
    }
}

/// Why no source could be made of these settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// `url` is not an address of a GitLab.
    #[error("the runner's url {url:?} cannot be used: {reason}")]
    Url {
        /// What was given, without credentials.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `token` is empty or cannot be sent.
    #[error("the runner's token {0}; set the authentication token that GitLab shows for it")]
    Token(&'static str),
    /// A value cannot be sent in a header.
    #[error("the release information contains characters that cannot be sent in a header")]
    UserAgent,
    /// The process has no TLS implementation.
    #[error("no rustls crypto provider is installed; install one first thing in main")]
    NoCryptoProvider,
    /// The HTTP client could not be built.
    #[error("the HTTP client for GitLab could not be set up")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}
