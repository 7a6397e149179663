//! Who wants to know which calls are made.

use std::fmt;
use std::time::Duration;

use crate::retry::Endpoint;

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApiEndpoint {
    /// `POST jobs/request`
    RequestJob,
    /// `PUT jobs/:id`
    UpdateJob,
    /// `PATCH jobs/:id/trace`
    PatchTrace,
    /// `POST runners`
    Register,
    /// `POST runners/verify`
    Verify,
    /// `DELETE runners` and `DELETE runners/managers`
    Unregister,
    /// `POST runners/reset_authentication_token`
    ResetToken,
}

impl ApiEndpoint {
    /// The name in GitLab Runner's metrics; `None`: it does not measure this one.
    #[must_use]
    pub fn metric(self) -> Option<&'static str> {
        match self {
            Self::RequestJob => Some("request_job"),
            Self::UpdateJob => Some("update_job"),
            Self::PatchTrace => Some("patch_trace"),
            Self::ResetToken => Some("reset_token"),
            Self::Register | Self::Verify | Self::Unregister => None,
        }
    }

    /// The path below `/api/v4/`, with `{id}` in place of numbers.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::RequestJob => "jobs/request",
            Self::UpdateJob => "jobs/{id}",
            Self::PatchTrace => "jobs/{id}/trace",
            Self::Register => "runners",
            Self::Verify => "runners/verify",
            Self::Unregister => "runners/managers",
            Self::ResetToken => "runners/reset_authentication_token",
        }
    }
}

impl From<Endpoint> for ApiEndpoint {
    fn from(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::RequestJob => Self::RequestJob,
            Endpoint::AcceptJob | Endpoint::UpdateJob | Endpoint::FinishJob => Self::UpdateJob,
            Endpoint::PatchTrace => Self::PatchTrace,
            Endpoint::Register => Self::Register,
            Endpoint::Verify => Self::Verify,
            Endpoint::Unregister => Self::Unregister,
            Endpoint::ResetToken => Self::ResetToken,
        }
    }
}

/// A call with all its tries.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ApiCall<'a> {
    /// What for.
    pub endpoint: ApiEndpoint,
    /// How, in capitals, e.g. `POST`.
    pub method: &'a str,
    /// The last answer's status; `None`: there was none.
    pub status: Option<u16>,
    /// Time until then, long polls and pauses between tries included.
    pub took: Duration,
    /// How often it was sent.
    pub attempts: u32,
}

/// Is told of every call. Called from the tasks that make them: it must not block.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use runner_gitlab::{ApiCall, CallObserver, GitLabSettings, RunnerApi};
/// use runner_testkit::gitlab::GitLab;
///
/// #[derive(Default)]
/// struct Refusals(AtomicU64);
///
/// impl CallObserver for Refusals {
///     fn call(&self, call: &ApiCall<'_>) {
///         if call.status == Some(403) {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let _ = rustls::crypto::ring::default_provider().install_default();
/// let (gitlab, refusals) = (GitLab::start().await?, Arc::new(Refusals::default()));
/// let mut settings = GitLabSettings::new(gitlab.url(), "glrt-somebody-elses", "s_0123456789ab");
/// settings.observer = Arc::clone(&refusals) as _;
/// assert!(RunnerApi::new(settings)?.verify().await.is_err());
/// assert_eq!(refusals.0.load(Ordering::Relaxed), 1);
/// # Ok(())
/// # }
/// ```
pub trait CallObserver: Send + Sync + 'static {
    /// A call is over.
    fn call(&self, call: &ApiCall<'_>);
}

/// Does not want to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCallObserver;

impl CallObserver for NoCallObserver {
    fn call(&self, _call: &ApiCall<'_>) {}
}

impl fmt::Debug for dyn CallObserver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an observer of calls")
    }
}
