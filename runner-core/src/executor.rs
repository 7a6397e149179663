//! Where jobs run.
//!
//! ```text
//!   reserve ──► JobHandle (Reserved) ── start ──► (Started) ── events ──► Ended ── dispose
//!                     ▲                               ▲
//!   recover ──────────┴───────────────────────────────┘     (after a manager died)
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{JobId, Offset};
use crate::job::Job;
use crate::outcome::{Outcome, StageReport, TraceSummary};
use crate::plan::Plan;
use crate::session::Door;
use crate::source::Ticket;
use crate::wire::{AnswerFrame, AskFrame};

/// Everything an executor has to know about a job.
#[derive(Debug)]
pub struct JobRequest<'a> {
    /// Image, services, registries, variables for settings.
    pub job: &'a Job,
    /// What runs.
    pub plan: &'a Plan,
    /// Kept with the job for the next manager.
    pub ticket: &'a Ticket,
    /// Names the job's session, where it has one: [`Executor::look_up`] finds the job by it.
    pub session: Option<&'a str>,
}

impl<'a> JobRequest<'a> {
    /// A job without a session.
    #[must_use]
    pub fn new(job: &'a Job, plan: &'a Plan, ticket: &'a Ticket) -> Self {
        Self { job, plan, ticket, session: None }
    }
}

/// How far a job has come, as far as its handle knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobPhase {
    /// Written down, but nothing runs yet.
    Reserved,
    /// Started, or about to: it must be followed to its end.
    Started,
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum JobEvent {
    /// It waits, e.g. for a node or an image; in words for the job's author.
    Waiting {
        /// Why.
        reason: String,
    },
    /// Its start has come this far. For metrics; not every executor says it.
    Reached(Milestone),
    /// Its own program runs and speaks.
    Running,
    /// A stage has begun.
    StageStarted {
        /// The stage's name.
        name: String,
    },
    /// A stage is over.
    StageFinished(StageReport),
    /// A piece of the job's own trace. Pieces come in order and without gaps from the offset last
    /// given to [`JobHandle::follow`].
    Trace {
        /// Where it begins.
        offset: Offset,
        /// Its bytes.
        bytes: Bytes,
    },
    /// The job's own program wants something that only a manager has; answered with
    /// [`JobHandle::answer`]. An unanswered one comes again to the next manager.
    Asked(AskFrame),
    /// The job's own program is done, but there is more trace than was asked for: ask for all of it
    /// now rather than at the next turn. Sent at most once.
    Finishing,
    /// It is over, and every trace byte that can be had has been handed out. The last event.
    Ended(JobEnd),
    /// Another manager has the job: touch nothing any more. The last event.
    Superseded,
}

/// How far the start of a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Milestone {
    /// It has a place, e.g. a node.
    Placed,
    /// All of its images are there and it runs.
    Pulled,
}

/// How a job ended, with what there is of its trace.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEnd {
    /// How.
    pub outcome: Outcome,
    /// The job's own trace, when it is known to be complete. `None`: bytes may be missing, e.g.
    /// because the node is lost.
    pub trace: Option<TraceSummary>,
    /// What the stages came to, as far as known.
    pub stages: Vec<StageReport>,
    /// Whether the job's own trace says how it ended. If not, the manager adds a line that does.
    pub explained: bool,
    /// For the operator: what was seen, in the infrastructure's terms.
    pub detail: Option<String>,
}

/// How to stop a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// The running command ends, `after_script` and the stages for failures run.
    Cancel,
    /// Everything ends now.
    Abort,
}

impl JobEnd {
    /// An end whose cause the job's own trace does not say, so the manager does.
    ///
    /// `trace` is of *all* bytes that were handed out, from offset 0 on; `None` where some may be
    /// missing: the source is sent no checksum then rather than a wrong one.
    #[must_use]
    pub fn new(outcome: Outcome, trace: Option<TraceSummary>) -> Self {
        Self { outcome, trace, stages: Vec::new(), explained: false, detail: None }
    }

    /// The same with what an operator should know.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}

/// What a manager has added to a job's trace, and to how it ended, that must survive the manager.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remarks {
    /// Bytes before the job's own trace.
    pub before: Bytes,
    /// Bytes after it, with the offset in the job's own trace where they were put.
    pub after: Option<(Offset, Bytes)>,
    /// The outcome that was decided when `after` was written.
    pub outcome: Option<Outcome>,
}

/// Why an executor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ExecutorError {
    /// What to do about it.
    pub kind: ExecutorErrorKind,
    /// What happened, for the operator.
    pub message: String,
    /// Not before this time has passed, where the other side said so.
    pub retry_after: Option<Duration>,
    /// The cause, where there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Kinds of [`ExecutorError`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecutorErrorKind {
    /// No answer, or "not now": worth another try.
    Unavailable,
    /// This job cannot run here; the outcome says why in the author's words.
    Refused(Outcome),
    /// Another manager has the job. Stop at once and touch nothing.
    Superseded,
}

impl ExecutorError {
    /// An error of this kind.
    pub fn new(kind: ExecutorErrorKind, message: impl Into<String>) -> Self {
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

/// A place where jobs run.
///
/// The smallest one there can be: its jobs say one line and are done. (They run nothing, so nothing of
/// them has to survive the manager; `examples/own-executor` is one whose jobs do.)
///
/// ```
/// use async_trait::async_trait;
/// use runner_core::executor::{
///     Executor, ExecutorError, JobEnd, JobEvent, JobHandle, JobPhase, JobRequest, Remarks, Stop,
/// };
/// use runner_core::ids::{JobId, Offset};
/// use runner_core::outcome::{Outcome, TraceSummary};
/// use runner_core::source::Ticket;
///
/// struct Parrot;
///
/// struct Said {
///     id: JobId,
///     ticket: Ticket,
///     line: Vec<u8>,
///     position: usize,
///     until: usize,
///     remarks: Remarks,
/// }
///
/// #[async_trait]
/// impl Executor for Parrot {
///     async fn reserve<'a>(
///         &self,
///         request: JobRequest<'a>,
///     ) -> Result<Box<dyn JobHandle>, ExecutorError> {
///         Ok(Box::new(Said {
///             id: request.job.id,
///             ticket: request.ticket.clone(),
///             line: format!("{} says hello\n", request.job.name).into_bytes(),
///             position: 0,
///             until: 0,
///             remarks: Remarks::default(),
///         }))
///     }
///
///     async fn recover(&self) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError> {
///         Ok(Vec::new())
///     }
/// }
///
/// #[async_trait]
/// impl JobHandle for Said {
///     fn id(&self) -> JobId {
///         self.id
///     }
///
///     fn ticket(&self) -> Ticket {
///         self.ticket.clone()
///     }
///
///     fn place(&self) -> String {
///         "a cage".into()
///     }
///
///     fn phase(&self) -> JobPhase {
///         JobPhase::Reserved
///     }
///
///     fn remarks(&self) -> Remarks {
///         self.remarks.clone()
///     }
///
///     async fn start(&mut self) -> Result<(), ExecutorError> {
///         Ok(())
///     }
///
///     async fn event(&mut self) -> JobEvent {
///         let end = self.line.len().min(self.until);
///         if self.position < end {
///             let piece = self.line[self.position..end].to_vec();
///             let offset = Offset(self.position as u64);
///             self.position = end;
///             return JobEvent::Trace { offset, bytes: piece.into() };
///         }
///         if end < self.line.len() {
///             // There is more, and nobody has asked for it: `follow` is what happens next.
///             return std::future::pending().await;
///         }
///         let trace = TraceSummary::of(&self.line);
///         JobEvent::Ended(JobEnd::new(Outcome::Exited(0), Some(trace)))
///     }
///
///     async fn follow(&mut self, from: Offset, until: Offset) {
///         (self.position, self.until) = (from.0 as usize, until.0 as usize);
///     }
///
///     async fn stop(&mut self, _stop: Stop) -> Result<(), ExecutorError> {
///         Ok(())
///     }
///
///     async fn remark(&mut self, remarks: Remarks) -> Result<(), ExecutorError> {
///         self.remarks = remarks;
///         Ok(())
///     }
///
///     async fn dispose(&mut self) -> Result<(), ExecutorError> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), ExecutorError> {
/// # use runner_core::{job::Job, planner::{PlanSettings, Transfers, plan}};
/// let (job, ticket) = (Job::new(JobId(1), "parrot", ["true"]), Ticket("1".into()));
/// let plan = plan(&job, &PlanSettings::default(), Transfers::default()).expect("a plain job");
/// let mut handle = Parrot.reserve(JobRequest::new(&job, &plan, &ticket)).await?;
/// handle.start().await?;
/// handle.follow(Offset::ZERO, Offset(4096)).await;
/// assert!(matches!(handle.event().await, JobEvent::Trace { .. }));
/// assert!(matches!(handle.event().await, JobEvent::Ended(end) if end.outcome.is_success()));
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
/// `abandoned`, `room`, `crowded` and [`JobHandle::event`] are dropped and called again all the time. The
/// others are dropped only when the whole manager is.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Writes the job down so that any manager can take it over. Nothing runs yet.
    ///
    /// # Errors
    /// `Refused` when the job cannot run here at all; `Unavailable` when it could not be written.
    async fn reserve<'a>(
        &self,
        request: JobRequest<'a>,
    ) -> Result<Box<dyn JobHandle>, ExecutorError>;

    /// Claims the jobs that other managers of the same source have left behind by now. Called when
    /// a manager starts, and whenever [`abandoned`](Executor::abandoned) says so.
    ///
    /// # Errors
    /// When it cannot be found out which there are; the caller tries again later.
    async fn recover(&self) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError>;

    /// Waits until there may be more for [`recover`](Executor::recover) to claim, because another
    /// manager has ended or seems to have died. Cancel safe.
    ///
    /// Default: never, which is right where only one manager runs at a time.
    async fn abandoned(&self) {
        std::future::pending().await
    }

    /// Waits until there is room for another job: no job is asked for before. Cancel safe.
    ///
    /// Default: there always is.
    async fn room(&self) {}

    /// Waits until there is no room for another job: a request for one that is under way is given up,
    /// and the source gives the job that it may have brought to somebody else. Cancel safe.
    ///
    /// Default: never.
    async fn crowded(&self) {
        std::future::pending().await
    }

    /// The job of this session, whichever manager has it, and the way into it. `None`: there is none,
    /// or it cannot be found out.
    ///
    /// Default: none, which is right where only one manager runs at a time.
    async fn look_up(&self, _session: &str) -> Option<(Ticket, Arc<dyn Door>)> {
        None
    }

    /// How many jobs of the same source other managers have in their hands, as far as that is known:
    /// a runner's limit counts them too. It may be some seconds old.
    ///
    /// Default: none.
    fn elsewhere(&self) -> usize {
        0
    }

    /// The manager ends: whatever it still holds is for others, at once. Takes a few seconds at most.
    ///
    /// Default: nothing.
    async fn retire(&self) {}
}

/// One job in an executor's hands.
///
/// Dropping a handle leaves the job to the next manager; nothing is stopped and nothing deleted.
#[async_trait]
pub trait JobHandle: Send {
    /// The job's number.
    fn id(&self) -> JobId;

    /// How to speak for it at the source.
    fn ticket(&self) -> Ticket;

    /// How the operator finds it, e.g. `namespace/pod`.
    fn place(&self) -> String;

    /// Where a person finds the job at its source ([`Job::url`]), kept for managers that adopt it and
    /// may have to say what they could not deliver. Default: it is not known.
    fn url(&self) -> Option<String> {
        None
    }

    /// The way into the job for people. Default: there is none.
    fn door(&self) -> Option<Arc<dyn Door>> {
        None
    }

    /// How far it was when the handle was made, or since [`start`](JobHandle::start).
    fn phase(&self) -> JobPhase;

    /// What managers have said in its trace so far.
    fn remarks(&self) -> Remarks;

    /// Makes it run, or finds it running. The manager calls it once for each handle before it asks
    /// for events, also for a job that was [`Started`](JobPhase::Started) when it was recovered; and
    /// again after an error. A job that runs already must not run a second time.
    ///
    /// # Errors
    /// `Refused` when it cannot run; `Unavailable` when it is not known whether it does.
    async fn start(&mut self) -> Result<(), ExecutorError>;

    /// Waits for the next event. Cancel safe: a dropped future loses nothing.
    ///
    /// It never fails: what cannot be reached for good becomes [`JobEvent::Ended`] with the cause.
    async fn event(&mut self) -> JobEvent;

    /// Hands out trace bytes from `from` on, and not beyond `until` until told so. Bytes that are
    /// not asked for stay where they are: this is the only flow control there is.
    async fn follow(&mut self, from: Offset, until: Offset);

    /// Stops the job. It goes on being followed: the end is still an event.
    ///
    /// # Errors
    /// When the job could not be told yet; the executor keeps trying by itself.
    async fn stop(&mut self, stop: Stop) -> Result<(), ExecutorError>;

    /// Answers [`JobEvent::Asked`]. An answer that gets lost is asked for again.
    ///
    /// Default: nothing, for executors whose jobs ask nothing.
    async fn answer(&mut self, _answer: AnswerFrame) {}

    /// Stores what the manager is about to say in the trace, before it says it.
    ///
    /// # Errors
    /// When it could not be stored; `Superseded` when another manager has the job.
    async fn remark(&mut self, remarks: Remarks) -> Result<(), ExecutorError>;

    /// Removes every trace of the job from the executor. The source has acknowledged the verdict.
    ///
    /// # Errors
    /// When something is left; it may be called again.
    async fn dispose(&mut self) -> Result<(), ExecutorError>;
}
