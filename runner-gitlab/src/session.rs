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
