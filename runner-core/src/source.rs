//! Where jobs come from and where their log and verdict go.
//!
//! ```text
//!   poll ──Offer──► accept ──► append, append, … (touch when there is nothing) ──► finish
//!                     │             │
//!                     └─────────────┴── Reply: go on, cancel, abort
//! ```
//!
//! A whole source, whose queue is a list and whose logs are in memory:
//!
//! ```
//! use std::collections::VecDeque;
//! use std::sync::Mutex;
//!
//! use async_trait::async_trait;
//! use bytes::Bytes;
//! use runner_core::ids::{JobId, Offset, SourceId};
//! use runner_core::job::Job;
//! use runner_core::source::{
//!     Appended, Conclusion, Finished, JobSource, Offer, Polled, Reply, SourceError, Ticket,
//! };
//!
//! #[derive(Default)]
//! struct List {
//!     waiting: Mutex<VecDeque<(u64, String)>>,
//!     log: Mutex<Vec<u8>>,
//!     verdict: Mutex<Option<bool>>,
//! }
//!
//! #[async_trait]
//! impl JobSource for List {
//!     fn id(&self) -> SourceId {
//!         SourceId("list".into())
//!     }
//!
//!     // No `await` between taking a job and returning it: a dropped future loses none.
//!     async fn poll(&self) -> Result<Polled, SourceError> {
//!         let next = self.waiting.lock().unwrap().pop_front();
//!         Ok(next.map_or_else(Polled::nothing, |(id, command)| {
//!             let job = Job::new(JobId(id), "a job", [command]);
//!             Polled::job(Offer::new(job, Ticket(id.to_string().into())))
//!         }))
//!     }
//!
//!     async fn append(
//!         &self,
//!         _ticket: &Ticket,
//!         from: Offset,
//!         chunks: Vec<Bytes>,
//!     ) -> Result<Appended, SourceError> {
//!         let mut log = self.log.lock().unwrap();
//!         // Said twice, or out of turn: the manager goes on from where this list stands.
//!         let has = Offset(log.len() as u64);
//!         if from != has {
//!             return Ok(Appended::Elsewhere { has, reply: Reply::default() });
//!         }
//!         chunks.iter().for_each(|chunk| log.extend_from_slice(chunk));
//!         Ok(Appended::Stored(Reply::default()))
//!     }
//!
//!     async fn finish(&self, _ticket: &Ticket, end: &Conclusion) -> Result<Finished, SourceError> {
//!         *self.verdict.lock().unwrap() = Some(end.outcome.is_success());
//!         Ok(Finished::Done)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), SourceError> {
//! use runner_core::outcome::Outcome;
//!
//! let list = List::default();
//! list.waiting.lock().unwrap().push_back((7, "make check".into()));
//! let offer = list.poll().await?.offer.expect("there is a job");
//! let line = Bytes::from_static(b"hello\n");
//! list.append(&offer.ticket, Offset::ZERO, vec![line.clone()]).await?;
//! // The answer was lost, so it is said again; it is stored once.
//! list.append(&offer.ticket, Offset::ZERO, vec![line]).await?;
//! let end = Conclusion { outcome: Outcome::Exited(0), trace: None };
//! list.finish(&offer.ticket, &end).await?;
//! assert_eq!(*list.log.lock().unwrap(), b"hello\n");
//! assert_eq!(*list.verdict.lock().unwrap(), Some(true));
//! # Ok(())
//! # }
//! ```
//!
//! It would lose the jobs that a manager took and never accepted. A queue that must not lets them wait in
//! between (`examples/embedded-service`); `runner_testkit::conformance::source` finds it out.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{Offset, SourceId};
use crate::job::Job;
use crate::outcome::{Outcome, TraceSummary};
use crate::secret::Secret;
use crate::session::SessionKey;

/// Opaque bytes with which any manager can speak for a job: for GitLab its id, its token and the URL.
///
/// It is kept with the job (in Kubernetes: in a Secret), so it may hold secrets and must stay small
/// (below 64 KiB).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticket(pub Secret);

/// A job that a source hands out.
#[derive(Clone, Debug)]
pub struct Offer {
    /// What to run.
    pub job: Job,
    /// How to speak for it later.
    pub ticket: Ticket,
}

impl Offer {
    /// This job, spoken for by this ticket.
    #[must_use]
    pub fn new(job: Job, ticket: Ticket) -> Self {
        Self { job, ticket }
    }
}

/// What became of a request for a job.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Polled {
    /// The job, if there was one.
    pub offer: Option<Offer>,
    /// When to ask again.
    pub next: NextPoll,
    /// The source was too busy to answer at once: the manager sends fewer requests side by side.
    pub throttled: bool,
    /// What the source says about its queue, for metrics.
    pub queue: QueueFacts,
}

impl Polled {
    /// A job.
    #[must_use]
    pub fn job(offer: Offer) -> Self {
        Self { offer: Some(offer), ..Self::default() }
    }

    /// No job now.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }
}

/// When to ask a source again that had no job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextPoll {
    /// At the runner's usual pace.
    #[default]
    Later,
    /// At once: the request was held back and something has changed meanwhile.
    Now,
}

/// How long the queue is, as far as a source says so when it hands out a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueFacts {
    /// How long the job has waited.
    pub waited: Option<Duration>,
    /// How many jobs of its project run (`project_jobs_running_on_instance_runners_count`), in the
    /// source's words: a number, or `+Inf`.
    pub project_jobs_running: String,
    /// Jobs in the queue.
    pub size: Option<u64>,
    /// Jobs that were looked at before this one.
    pub depth: Option<u64>,
    /// The trace (in OpenTelemetry's sense) that the job is part of.
    pub trace: Option<TraceContext>,
}

/// A place in a distributed trace, as W3C's trace context has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Which trace. Never 0.
    pub trace: u128,
    /// The span above. Never 0.
    pub parent: u64,
}

impl TraceContext {
    /// From hexadecimal digits, 32 and 16 of them; `None` for anything else, and for zeros.
    #[must_use]
    pub fn parse(trace: &str, parent: &str) -> Option<Self> {
        let digits = |text: &str, count: usize| {
            text.len() == count && text.bytes().all(|digit| digit.is_ascii_hexdigit())
        };
        if !digits(trace, 32) || !digits(parent, 16) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let parent = u64::from_str_radix(parent, 16).ok().filter(|id| *id != 0)?;
        Some(Self { trace, parent })
    }
}

/// What the source wants to happen to a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Directive {
    /// Go on.
    #[default]
    Continue,
    /// Stop the commands, run `after_script`, report.
    Cancel,
    /// Stop everything at once; the source no longer listens.
    Abort,
}

/// What every answer of a source may carry besides its own meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// What it wants to happen.
    pub directive: Directive,
    /// How long to wait before the next piece of trace. `None`: as before.
    pub interval: Option<Duration>,
}

impl From<Directive> for Reply {
    /// What is to happen, at the same pace as before.
    fn from(directive: Directive) -> Self {
        Self { directive, interval: None }
    }
}

/// What became of a piece of trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// All of it is stored.
    Stored(Reply),
    /// None of it: the source has the trace up to this offset; go on from there.
    Elsewhere {
        /// How much of the trace the source has.
        has: Offset,
        /// The rest of the answer.
        reply: Reply,
    },
}

/// What became of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// The source has everything; the job may be forgotten.
    Done,
    /// It is still working; say it again after the interval.
    Pending {
        /// How long to wait. `None`: the usual interval.
        interval: Option<Duration>,
    },
    /// The trace it has is not the one described; send all of it again and then the verdict.
    TraceRejected,
}

/// The last word on a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// How it ended.
    pub outcome: Outcome,
    /// The whole trace as the source should have it. `None`: it cannot be proven, so no checksum
    /// rather than a wrong one.
    pub trace: Option<TraceSummary>,
}

/// Why a source did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What to do about it.
    pub kind: SourceErrorKind,
    /// What happened, for the operator.
    pub message: String,
    /// Not before this time has passed, where the source said so.
    pub retry_after: Option<Duration>,
    /// The cause, where there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Kinds of [`SourceError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// No answer, or "not now": worth another try.
    Unavailable,
    /// It does not accept these credentials: another try will not help soon.
    Forbidden,
    /// It answered something that cannot be understood or used.
    Protocol,
}

impl SourceError {
    /// An error of this kind.
    pub fn new(kind: SourceErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// A queue of jobs, and the place where their logs and verdicts are wanted.
///
/// Three methods are a source: [`poll`](JobSource::poll), [`append`](JobSource::append) and
/// [`finish`](JobSource::finish). The others have defaults that fit a queue without the ability.
///
/// All methods may be called side by side for different jobs; calls for one job come one after the
/// other. The manager repeats `append` and `finish` after an error, so both must bear being said
/// twice: bytes at an offset that the source already has are the same bytes.
///
/// # Cancel safety
/// Any of the futures may be dropped: a stopping manager does so. `poll` must lose no job then; for the
/// others it is as if the answer had been lost, and they are said again, maybe by another manager.
#[async_trait]
pub trait JobSource: Send + Sync + 'static {
    /// Who this is. Managers with the same id may finish each other's jobs.
    fn id(&self) -> SourceId;

    /// Waits for a job, but not for ever (a minute at most). A request that takes longer than two
    /// seconds counts as held back because there is nothing: it no longer keeps a place free, so a
    /// job that it brings after all may have to wait for one.
    ///
    /// Dropping the future must not lose a job: the source either takes an unacknowledged job back
    /// (see [`accept`](JobSource::accept)) or hands it out atomically.
    ///
    /// # Errors
    /// When the queue cannot be asked.
    async fn poll(&self) -> Result<Polled, SourceError>;

    /// Says that the job is going to run. Before this the source may give it to someone else.
    ///
    /// # Errors
    /// When the source could not be told. The manager asks again for [`RelaySettings::give_up`] and
    /// then leaves the job to the source: nothing runs without a yes.
    ///
    /// [`RelaySettings::give_up`]: crate::manager::RelaySettings::give_up
    async fn accept(&self, _ticket: &Ticket) -> Result<Reply, SourceError> {
        Ok(Reply::default())
    }

    /// The key with which people may look into the job, where the source has handed one out.
    fn session(&self, _ticket: &Ticket) -> Option<SessionKey> {
        None
    }

    /// Stores trace bytes, the first of which is at offset `from`.
    ///
    /// # Errors
    /// When they could not be stored; the manager tries again later.
    async fn append(
        &self,
        ticket: &Ticket,
        from: Offset,
        chunks: Vec<Bytes>,
    ) -> Result<Appended, SourceError>;

    /// Says that the job still runs, when there has been nothing to append for a while.
    ///
    /// # Errors
    /// When the source could not be told; the manager tries again later.
    async fn touch(&self, _ticket: &Ticket) -> Result<Reply, SourceError> {
        Ok(Reply::default())
    }

    /// Takes the verdict. All of the trace has been stored before, as far as it could be had.
    ///
    /// # Errors
    /// When the source could not be told; the manager tries again later, for an hour by default.
    async fn finish(
        &self,
        ticket: &Ticket,
        conclusion: &Conclusion,
    ) -> Result<Finished, SourceError>;
}
