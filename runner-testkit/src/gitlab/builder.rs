//! How the stand-in is set up.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::server::{GitLab, Settings};

/// Settings of a [`GitLab`]. Made by [`GitLab::builder`].
///
/// ```
/// use std::time::Duration;
///
/// use runner_testkit::gitlab::{GitLab, GitLabBuilder};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// // An instance where nobody watches logs, and whose answers take their time.
/// let far_away: GitLabBuilder =
///     GitLab::builder().trace_interval(Some(60)).latency(Duration::from_millis(80));
/// let gitlab = far_away.runner_token("glrt-of-mine").start().await?;
/// assert_eq!(gitlab.runner_token(), "glrt-of-mine");
/// assert!(gitlab.url().starts_with("http://127.0.0.1:"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct GitLabBuilder {
    pub(super) settings: Settings,
    pub(super) runner_token: String,
    pub(super) bind: SocketAddr,
    pub(super) external_url: Option<String>,
    pub(super) tls: bool,
}

impl GitLabBuilder {
    pub(super) fn new() -> Self {
        Self {
            settings: Settings {
                latency: Duration::ZERO,
                trace_interval: Some(3),
                long_poll: Duration::from_secs(50),
                commit_deadline: Duration::from_secs(120),
                pending_verdicts: 0,
                trace_limit: 100 * 1024 * 1024,
                artifact_limit: 100 * 1024 * 1024,
                object_storage: false,
                registration_token: "GR1348941testkit".into(),
            },
            runner_token: "glrt-testkit0000000000000".into(),
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            external_url: None,
            tls: false,
        }
    }

    /// Waits so long before each answer. Default: not at all.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.settings.latency = latency;
        self
    }

    /// `X-GitLab-Trace-Update-Interval` in seconds, `None` for no such header. Default: 3, as when
    /// somebody watches the log.
    pub fn trace_interval(mut self, seconds: Option<u64>) -> Self {
        self.settings.trace_interval = seconds;
        self
    }

    /// How long a poll is parked. Default: 50 s, as Workhorse does.
    pub fn long_poll(mut self, time: Duration) -> Self {
        self.settings.long_poll = time;
        self
    }

    /// How long a runner may take to acknowledge a job. Default: 2 min.
    pub fn commit_deadline(mut self, time: Duration) -> Self {
        self.settings.commit_deadline = time;
        self
    }

    /// How often a verdict is answered 202 before it is taken, with intervals of 1, 2, 4 … s.
    /// Default: 0; a real GitLab mostly does it once or twice.
    pub fn pending_verdicts(mut self, times: u32) -> Self {
        self.settings.pending_verdicts = times;
        self
    }

    /// Longest trace in bytes; a longer one ends the job. Default: 100 MiB.
    pub fn trace_limit(mut self, bytes: u64) -> Self {
        self.settings.trace_limit = bytes;
        self
    }

    /// Largest upload in bytes; larger ones are 413. Default: 100 MiB.
    pub fn artifact_limit(mut self, bytes: u64) -> Self {
        self.settings.artifact_limit = bytes;
        self
    }

    /// Redirects downloads with `direct_download=true` to another origin. Default: no.
    pub fn object_storage(mut self) -> Self {
        self.settings.object_storage = true;
        self
    }

    /// The runner token that is known from the start.
    pub fn runner_token(mut self, token: impl Into<String>) -> Self {
        self.runner_token = token.into();
        self
    }

    /// The token with which runners may be registered.
    pub fn registration_token(mut self, token: impl Into<String>) -> Self {
        self.settings.registration_token = token.into();
        self
    }

    /// Address to listen on. Default: a free port of 127.0.0.1.
    pub fn bind(mut self, addr: SocketAddr) -> Self {
        self.bind = addr;
        self
    }

    /// The URL that payloads name, where clients reach the server by another one than it has.
    pub fn external_url(mut self, url: impl Into<String>) -> Self {
        self.external_url = Some(url.into());
        self
    }

    /// HTTPS, with a certificate of a throw-away authority; see [`GitLab::ca_pem`].
    #[cfg(feature = "tls")]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(self) -> io::Result<GitLab> {
        GitLab::with(self)
    }
}
