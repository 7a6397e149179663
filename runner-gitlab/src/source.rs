//! The source itself: which request for which wish.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use parking_lot::Mutex;
use runner_core::causes::causes;
use runner_core::ids::{Offset, SourceId};
use runner_core::session::SessionKey;
use runner_core::source::{
    Appended, Conclusion, Finished, JobSource, NextPoll, Offer, Polled, Reply, SourceError,
    SourceErrorKind, Ticket,
};
use serde::Serialize;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::client::{Client, Content, Credential, JOB_TOKEN, RUNNER_TOKEN, Request};
use crate::health::{Health, Record};
use crate::info::Info;
use crate::payload::{self, Identity, PayloadError};
use crate::reason::{Ending, Reason, relevant};
use crate::reply;
use crate::retry::Endpoint;
use crate::session::{SessionInfo, SessionOffer};
use crate::settings::{GitLabSettings, SettingsError, Timeouts};
use crate::ticket::JobTicket;
use crate::token::source_id;
use crate::trace::{LARGEST_PIECE, Piece, SMALLEST_PIECE};
use crate::url::ApiBase;

/// One runner of one GitLab.
pub struct GitLabSource {
    settings: GitLabSettings,
    base: ApiBase,
    client: Client,
    info: Info,
    health: Mutex<Record>,
    /// `X-GitLab-Last-Update`: with it GitLab parks a request until something is new.
    last_update: Mutex<Option<String>>,
}

#[derive(Serialize)]
struct JobRequest<'a> {
    info: &'a Info,
    token: &'a str,
    system_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_update: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionInfo<'a>>,
}

#[derive(Serialize)]
struct Update<'a> {
    info: &'a Info,
    token: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    output: Output,
    #[serde(skip_serializing_if = "is_zero")]
    exit_code: i32,
}

#[derive(Default, Serialize)]
struct Output {
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytesize: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(code: &i32) -> bool {
    *code == 0
}

impl fmt::Debug for GitLabSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GitLabSource")
            .field("url", &self.settings.url)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

impl GitLabSource {
    /// A source with these settings. Nothing is sent yet.
    ///
    /// # Errors
    /// When the settings cannot work, or no rustls crypto provider is installed.
    pub fn new(settings: GitLabSettings) -> Result<Self, SettingsError> {
        if settings.token.expose().trim().is_empty() {
            return Err(SettingsError::Token("is empty"));
        }
        let base = ApiBase::parse(&settings.url)?;
        let client = Client::new(&settings, &base)?;
        let info = Info::of(&settings);
        let health = Mutex::new(Record::new(settings.health, Instant::now()));
        Ok(Self { settings, base, client, info, health, last_update: Mutex::new(None) })
    }

    /// Whether GitLab accepts this runner, for metrics and health checks.
    pub fn health(&self) -> Health {
        self.health.lock().snapshot(Instant::now())
    }

    /// Asks again at the usual pace, whatever was refused before: the configuration was loaded anew.
    pub fn forget_refusals(&self) {
        self.health.lock().healthy(Instant::now());
    }

    pub(crate) fn base(&self) -> &ApiBase {
        &self.base
    }

    pub(crate) fn tls_ca(&self) -> Option<String> {
        self.client.tls().ca.clone()
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.settings.timeouts
    }

    fn open(&self, ticket: &Ticket) -> Result<JobTicket, SourceError> {
        JobTicket::open(ticket, &self.base)
    }

    async fn request_job(&self, session: Option<&SessionOffer>) -> Result<Answer, SourceError> {
        let last_update = self.last_update.lock().clone();
        let body = JobRequest {
            info: &self.info,
            token: self.settings.token.expose(),
            system_id: &self.settings.system_id,
            last_update: last_update.as_deref(),
            session: session.map(SessionInfo::from),
        };
        self.client
            .send(Request {
                endpoint: Endpoint::RequestJob,
                method: Method::POST,
                url: self.base.request_job(),
                credential: Some(Credential { header: RUNNER_TOKEN, token: &self.settings.token }),
                content: Content::Json(json(&body)),
                answer_limit: Some(self.settings.payload_limit),
            })
            .await
    }

    async fn update(
        &self,
        endpoint: Endpoint,
        ticket: &JobTicket,
        state: &'static str,
        ending: Option<(Ending, Output)>,
    ) -> Result<Answer, SourceError> {
        let (ending, output) = match ending {
            Some((ending, output)) => (Some(ending), output),
            None => (None, Output::default()),
        };
        let reason = ending.and_then(|ending| ending.reason);
        let body = Update {
            info: &self.info,
            token: ticket.token.expose(),
            state,
            failure_reason: reason.map(|reason| reason.for_gitlab(&ticket.failure_reasons)),
            checksum: output.checksum.clone(),
            output,
            exit_code: ending.map_or(0, |ending| ending.exit_code),
        };
        self.client
            .send(Request {
                endpoint,
                method: Method::PUT,
                url: self.base.job(ticket.id),
                credential: Some(Credential { header: JOB_TOKEN, token: &ticket.token }),
                content: Content::Json(json(&body)),
                answer_limit: None,
            })
            .await
    }

    /// Says that a job which cannot be read has failed, so that nobody waits for it. GitLab Runner
    /// only writes a line into its own log, and the job hangs until GitLab gives it up.
    async fn fail_unreadable(&self, error: PayloadError) -> SourceError {
        let refusal = SourceError::new(SourceErrorKind::Protocol, error.to_string());
        let text = error.to_string();
        let Some(Identity { id, token }) = error.identity else { return refusal };
        let ticket = JobTicket::new(&self.base, id, token, Vec::new(), false);
        let line =
            Bytes::from(format!("\x1b[31;1mERROR: Job failed (system failure): {text}\x1b[0;m\n"));
        let told = async {
            self.update(Endpoint::AcceptJob, &ticket, "running", None).await?;
            let summary = runner_core::outcome::TraceSummary::of(&line);
            if let Some(piece) = Piece::cut(&[line], Offset::ZERO, Offset::ZERO, LARGEST_PIECE) {
                self.patch(&ticket, &piece).await?;
            }
            let ending = Ending { reason: Some(Reason::SystemFailure), exit_code: 0 };
            let output = output(Some(summary));
            self.update(Endpoint::FinishJob, &ticket, "failed", Some((ending, output))).await
        };
        if let Err(error) = told.await {
            tracing::warn!(error = causes(&error), job = %id, "could not fail a job that cannot be understood");
        }
        refusal
    }

    async fn patch(&self, ticket: &JobTicket, piece: &Piece) -> Result<Answer, SourceError> {
        self.client
            .send(Request {
                endpoint: Endpoint::PatchTrace,
                method: Method::PATCH,
                url: self.base.trace(ticket.id, ticket.debug_trace),
                credential: Some(Credential { header: JOB_TOKEN, token: &ticket.token }),
                content: Content::Trace(piece),
                answer_limit: None,
            })
            .await
    }
}

fn json(body: &impl Serialize) -> Bytes {
    // Structs of strings, numbers and flags always have a JSON form.
    Bytes::from(serde_json::to_vec(body).unwrap_or_default())
}

fn output(trace: Option<runner_core::outcome::TraceSummary>) -> Output {
    Output {
        checksum: trace.map(|trace| format!("crc32:{:08x}", trace.crc32)),
        bytesize: trace.map(|trace| trace.length.0).filter(|bytes| *bytes > 0),
    }
}

#[async_trait]
impl JobSource for GitLabSource {
    fn id(&self) -> SourceId {
        source_id(&self.base, self.settings.runner_id, &self.settings.token)
    }

    async fn poll(&self) -> Result<Polled, SourceError> {
        let may_ask = self.health.lock().may_ask(Instant::now());
        if let Err(wait) = may_ask {
            let mut error = SourceError::new(
                SourceErrorKind::Forbidden,
                "GitLab has refused this runner's token several times; it is left alone for a while. \
                 Check that the runner still exists and its token is the one in the settings",
            );
            error.retry_after = Some(wait);
            return Err(error);
        }
        let session = self.settings.sessions.as_ref().map(|sessions| sessions.offer());
        let answer = self.request_job(session.as_ref()).await?;
        let now = Instant::now();
        let throttled = answer.attempts > 1;
        let mut polled = Polled::nothing();
        match answer.status {
            403 => {
                self.health.lock().refused();
                let mut error = answer.error(SourceErrorKind::Forbidden, "the request for a job");
                error.retry_after = self.health.lock().may_ask(now).err();
                return Err(error);
            }
            204 => {
                self.health.lock().healthy(now);
                match answer.header("X-GitLab-Last-Update").filter(|stamp| !stamp.is_empty()) {
                    Some(stamp) => *self.last_update.lock() = Some(stamp.to_owned()),
                    // A request that was held back is answered without a stamp, because a job has
                    // come for somebody or because the time was over. The old stamp tells GitLab
                    // which: the next request is answered at once, or held back again.
                    None if self.last_update.lock().is_some() => polled.next = NextPoll::Now,
                    None => {}
                }
            }
            201 => {
                self.health.lock().healthy(now);
                polled = self.offer(answer, session).await?;
            }
            _ => {
                self.health.lock().healthy(now);
                return Err(answer.error(SourceErrorKind::Unavailable, "the request for a job"));
            }
        }
        polled.throttled = throttled;
        Ok(polled)
    }

    fn session(&self, ticket: &Ticket) -> Option<SessionKey> {
        // A ticket that cannot be used is complained about elsewhere.
        self.open(ticket).ok()?.session.map(SessionKey::from)
    }

    async fn accept(&self, ticket: &Ticket) -> Result<Reply, SourceError> {
        let ticket = self.open(ticket)?;
        let answer = self.update(Endpoint::AcceptJob, &ticket, "running", None).await?;
        reply::updated(&answer, format_args!("the acceptance of job {}", ticket.id))
    }

    async fn append(
        &self,
        ticket: &Ticket,
        from: Offset,
        chunks: Vec<Bytes>,
    ) -> Result<Appended, SourceError> {
        let ticket = self.open(ticket)?;
        let (mut at, mut limit) = (from, LARGEST_PIECE);
        let mut last = Reply::default();
        while let Some(piece) = Piece::cut(&chunks, from, at, limit) {
            let answer = self.patch(&ticket, &piece).await?;
            if answer.status == 413 && limit > SMALLEST_PIECE {
                // A proxy in between takes less than GitLab does.
                limit /= 4;
                continue;
            }
            let asked = format_args!("a piece of trace of job {}", ticket.id);
            match reply::appended(&answer, piece.from, asked)? {
                Appended::Stored(reply) => (at, last) = (piece.end(), reply),
                elsewhere @ Appended::Elsewhere { .. } => return Ok(elsewhere),
                // A later meaning: nothing is known to be stored.
            }
        }
        Ok(Appended::Stored(last))
    }

    async fn touch(&self, ticket: &Ticket) -> Result<Reply, SourceError> {
        let ticket = self.open(ticket)?;
        let answer = self.update(Endpoint::UpdateJob, &ticket, "running", None).await?;
        reply::updated(&answer, format_args!("the sign of life of job {}", ticket.id))
    }

    async fn finish(
        &self,
        ticket: &Ticket,
        conclusion: &Conclusion,
    ) -> Result<Finished, SourceError> {
        let ticket = self.open(ticket)?;
        let ending = Ending::of(&conclusion.outcome);
        let state = if ending.reason.is_none() { "success" } else { "failed" };
        let output = output(conclusion.trace);
        let answer =
            self.update(Endpoint::FinishJob, &ticket, state, Some((ending, output))).await?;
        reply::finished(&answer, format_args!("the verdict of job {}", ticket.id))
    }
}

impl GitLabSource {
    async fn offer(
        &self,
        answer: Answer,
        session: Option<SessionOffer>,
    ) -> Result<Polled, SourceError> {
        if answer.truncated {
            let error = PayloadError {
                identity: payload::parse(&answer.body).err().and_then(|error| error.identity),
                reason: format!("it is longer than {} bytes", self.settings.payload_limit),
            };
            return Err(self.fail_unreadable(error).await);
        }
        match payload::parse(&answer.body) {
            Ok(mut received) => {
                if let Some(sources) = &mut received.job.sources {
                    sources.correlation_id = Some(answer.request_id.clone());
                }
                let Identity { id, token } = received.identity;
                let reasons = relevant(&received.job.features.failure_reasons);
                let debug = received.debug_trace && !self.settings.debug_trace_disabled;
                let ports = received.ports;
                let key = session.map(|session| SessionKey { ports, ..session.key });
                let ticket =
                    JobTicket::new(&self.base, id, token, reasons, debug).with_session(key).seal();
                let mut polled = Polled::job(Offer { job: received.job, ticket });
                polled.queue = received.queue;
                Ok(polled)
            }
            Err(error) => Err(self.fail_unreadable(error).await),
        }
    }
}
