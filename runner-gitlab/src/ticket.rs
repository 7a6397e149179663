//! What it takes to speak for one job, small enough to be kept beside it.

use runner_core::ids::JobId;
use runner_core::secret::Secret;
use runner_core::session::{SessionKey, SessionPort};
use runner_core::source::{SourceError, SourceErrorKind, Ticket};
use serde::{Deserialize, Serialize};

use crate::token::digest;
use crate::url::ApiBase;

/// Written by this build, and the only one it reads.
const VERSION: u32 = 1;

/// The content of a [`Ticket`]: any manager with settings for the same GitLab can use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobTicket {
    version: u32,
    /// The job.
    pub(crate) id: JobId,
    /// Its own token, which GitLab wants to see with every word about it.
    pub(crate) token: Secret,
    /// A digest of the instance's address. A job token never goes to a GitLab that did not make it.
    instance: String,
    /// What this GitLab knows beyond the basic three, as far as it matters here.
    #[serde(default)]
    pub(crate) failure_reasons: Vec<String>,
    /// The trace holds what the job's shell does, so GitLab shows it to fewer people.
    #[serde(default)]
    pub(crate) debug_trace: bool,
    /// With what people may look into it: the next manager lets them in with the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<Session>,
}

/// A [`SessionKey`] in a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    id: String,
    token: Secret,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<SessionPort>,
}

impl From<SessionKey> for Session {
    fn from(key: SessionKey) -> Self {
        Self { id: key.id, token: key.token, ports: key.ports }
    }
}

impl From<Session> for SessionKey {
    fn from(session: Session) -> Self {
        Self { id: session.id, token: session.token, ports: session.ports }
    }
}

impl JobTicket {
    pub(crate) fn new(
        base: &ApiBase,
        id: JobId,
        token: Secret,
        failure_reasons: Vec<String>,
        debug_trace: bool,
    ) -> Self {
        let instance = digest(&[base.instance()]);
        Self { version: VERSION, id, token, instance, failure_reasons, debug_trace, session: None }
    }

    pub(crate) fn with_session(mut self, session: Option<SessionKey>) -> Self {
        self.session = session.map(Session::from);
        self
    }

    pub(crate) fn seal(&self) -> Ticket {
        // A struct of strings, numbers and flags always has a JSON form.
        Ticket(Secret::new(serde_json::to_string(self).unwrap_or_default()))
    }

    /// Reads a ticket back and makes sure that it is this GitLab's.
    pub(crate) fn open(ticket: &Ticket, base: &ApiBase) -> Result<Self, SourceError> {
        let unusable = |what: String| SourceError::new(SourceErrorKind::Protocol, what);
        // The parser's message could quote the ticket, so it is left out.
        let ticket: Self = serde_json::from_str(ticket.0.expose())
            .map_err(|_| unusable("this is not a ticket for a GitLab job".to_owned()))?;
        if ticket.version != VERSION {
            return Err(unusable(format!(
                "the ticket of job {} has version {}, this program knows {VERSION}",
                ticket.id, ticket.version
            )));
        }
        if ticket.instance != digest(&[base.instance()]) {
            return Err(unusable(format!(
                "the ticket of job {} belongs to another GitLab than {}",
                ticket.id,
                base.instance()
            )));
        }
        Ok(ticket)
    }
}

#[cfg(test)]
mod tests {
    use runner_core::ids::JobId;
    use runner_core::secret::Secret;
    use runner_core::source::Ticket;

    use super::JobTicket;
    use crate::url::ApiBase;

    fn base(url: &str) -> ApiBase {
        ApiBase::parse(url).unwrap()
    }

    fn ticket() -> JobTicket {
        let reasons = vec!["runner_interrupted".to_owned()];
        JobTicket::new(&base("https://h/"), JobId(7), Secret::new("glcbt-1"), reasons, true)
    }

    #[test]
    fn any_manager_with_the_same_gitlab_can_use_a_ticket() {
        let sealed = ticket().seal();
        assert_eq!(JobTicket::open(&sealed, &base("https://H:443/ci")).unwrap(), ticket());
        assert!(sealed.0.expose().len() < 1024);
    }

    #[test]
    fn a_ticket_of_another_gitlab_is_refused() {
        let error = JobTicket::open(&ticket().seal(), &base("https://other")).unwrap_err();
        assert!(error.message.contains("another GitLab"), "{error}");
    }

    #[test]
    fn a_ticket_that_cannot_be_read_is_refused_without_quoting_it() {
        for text in ["", "{", "hunter2", r#"{"version":1,"id":"hunter2"}"#] {
            let error =
                JobTicket::open(&Ticket(Secret::new(text)), &base("https://h")).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_ticket_of_a_later_version_is_refused() {
        let sealed = ticket().seal().0.expose().replace("\"version\":1", "\"version\":2");
        let error = JobTicket::open(&Ticket(Secret::new(sealed)), &base("https://h")).unwrap_err();
        assert!(error.message.contains("version 2"), "{error}");
    }
}
