//! What GitLab is told about sessions: where a person's browser can reach a job, by way of GitLab.

use std::fmt;

use runner_core::session::SessionKey;
use serde::Serialize;

/// A session that the next job may have. GitLab keeps it with the job it hands out.
#[derive(Clone, Debug)]
pub struct SessionOffer {
    /// Whole address of the session, `https://host:port/session/<id>`. GitLab appends `/exec`, and
    /// makes `wss` of it.
    pub url: String,
    /// The certificate in PEM, which is all that GitLab trusts for this session.
    pub certificate: String,
    /// Id, and the token that GitLab sends as the `Authorization` header.
    pub key: SessionKey,
}

/// Makes an offer for each request for a job; most are never heard of again.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use runner_core::session::SessionKey;
/// use runner_core::source::JobSource;
/// use runner_gitlab::{GitLabSettings, GitLabSource, SessionOffer, SessionOffers};
/// use runner_testkit::gitlab::{GitLab, JobSpec};
///
/// #[derive(Debug, Default)]
/// struct Desk(AtomicU64);
///
/// impl SessionOffers for Desk {
///     fn offer(&self) -> SessionOffer {
///         let id = format!("s{}", self.0.fetch_add(1, Ordering::Relaxed));
///         // Of a real one nobody can guess the token.
///         let token = format!("token-of-{id}").into();
///         SessionOffer {
///             url: format!("https://runner.example:8093/session/{id}"),
///             certificate: "-----BEGIN CERTIFICATE-----\n…".into(),
///             key: SessionKey { id, token, ports: Vec::new() },
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let _ = rustls::crypto::ring::default_provider().install_default();
/// let gitlab = GitLab::start().await?;
/// let job = gitlab.enqueue(JobSpec::new("unit").script(["sleep 60"]));
/// let mut settings = GitLabSettings::new(gitlab.url(), gitlab.runner_token(), "s_0123456789ab");
/// settings.sessions = Some(Arc::new(Desk::default()));
/// let source = GitLabSource::new(settings)?;
/// let offer = source.poll().await?.offer.expect("there is a job");
/// // The ticket knows the key, so any manager that has the job can let people in.
/// let key = source.session(&offer.ticket).expect("it was offered");
/// assert!(job.session().expect("GitLab knows it").url.ends_with(&key.id));
/// # Ok(())
/// # }
/// ```
pub trait SessionOffers: fmt::Debug + Send + Sync + 'static {
    /// A new one each time.
    fn offer(&self) -> SessionOffer;
}

/// `session` of `jobs/request`.
#[derive(Debug, Serialize)]
pub(crate) struct SessionInfo<'a> {
    url: &'a str,
    certificate: &'a str,
    authorization: &'a str,
}

impl<'a> From<&'a SessionOffer> for SessionInfo<'a> {
    fn from(offer: &'a SessionOffer) -> Self {
        let SessionOffer { url, certificate, key } = offer;
        Self { url, certificate, authorization: key.token.expose() }
    }
}
