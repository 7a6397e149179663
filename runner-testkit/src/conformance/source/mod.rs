//! What a [`JobSource`] promises.

mod checks;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::ids::JobId;
use runner_core::source::JobSource;

use super::report::{Check, Promise, Report, judge};

/// How a job looks to the people who use the CI system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It has not ended.
    Unfinished,
    /// Green.
    Success,
    /// Anything else that is over.
    NoSuccess,
}

/// The other side of the source, in the hands of the test: the CI system's queue and its records.
///
/// A queue in memory, with a mistake that the kit finds: the piece of trace whose answer was lost is stored twice.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use std::sync::{Arc, Mutex};
/// use async_trait::async_trait;
/// # use bytes::Bytes;
/// # use runner_core::ids::{JobId, Offset, SourceId};
/// # use runner_core::job::Job;
/// use runner_core::source::*;
/// use runner_testkit::conformance::{self, Counter, Shown, SourcePromise};
///
/// # #[derive(Default)]
/// # struct Entry { given: bool, trace: Vec<u8>, green: Option<bool> }
/// #[derive(Clone, Default)]
/// struct Mine(Arc<Mutex<BTreeMap<u64, Entry>>>);
///
/// # fn id(ticket: &Ticket) -> u64 { ticket.0.expose().parse().unwrap() }
/// # #[async_trait]
/// impl JobSource for Mine {
///     // … `id`, `poll` and `finish` …
/// #   fn id(&self) -> SourceId { SourceId("mine".into()) }
/// #   async fn poll(&self) -> Result<Polled, SourceError> {
/// #       let mut jobs = self.0.lock().unwrap();
/// #       Ok(match jobs.iter_mut().find(|(_, entry)| !entry.given) {
/// #           None => Polled::nothing(),
/// #           Some((id, entry)) => {
/// #               entry.given = true;
/// #               Polled::job(Offer::new(
/// #                   Job::new(JobId(*id), "any", ["true"]),
/// #                   Ticket(id.to_string().into()),
/// #               ))
/// #           }
/// #       })
/// #   }
///     async fn append(
///         &self,
///         ticket: &Ticket,
///         _from: Offset, // the mistake
///         chunks: Vec<Bytes>,
///     ) -> Result<Appended, SourceError> {
///         let mut jobs = self.0.lock().unwrap();
///         jobs.get_mut(&id(ticket)).unwrap().trace.extend(chunks.concat());
///         Ok(Appended::Stored(Reply::default()))
///     }
/// #   async fn finish(&self, ticket: &Ticket, end: &Conclusion) -> Result<Finished, SourceError> {
/// #       let mut jobs = self.0.lock().unwrap();
/// #       jobs.get_mut(&id(ticket)).unwrap().green.get_or_insert(end.outcome.is_success());
/// #       Ok(Finished::Done)
/// #   }
/// }
///
/// #[async_trait]
/// impl Counter for Mine {
///     async fn source(&self) -> Arc<dyn JobSource> {
///         Arc::new(self.clone())
///     }
///
///     async fn enqueue(&self) -> JobId {
///         let mut jobs = self.0.lock().unwrap();
///         let id = jobs.len() as u64 + 1;
///         jobs.insert(id, Entry::default());
///         JobId(id)
///     }
///
///     async fn trace(&self, job: JobId) -> Vec<u8> {
///         self.0.lock().unwrap()[&job.0].trace.clone()
///     }
///
///     async fn shown(&self, job: JobId) -> Shown {
///         match self.0.lock().unwrap()[&job.0].green {
///             None => Shown::Unfinished,
///             Some(true) => Shown::Success,
///             Some(false) => Shown::NoSuccess,
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let report = conformance::source(&Mine::default()).await;
/// assert!(report.keeps(SourcePromise::TraceIsStored));
/// assert!(report.broken().contains(&SourcePromise::RepetitionIsHarmless));
/// println!("{report}"); // in words, with how to run each check alone
/// # }
/// ```
#[async_trait]
pub trait Counter: Send + Sync {
    /// The source as a manager makes it when it starts. The kit asks again for the "next" manager.
    async fn source(&self) -> Arc<dyn JobSource>;

    /// Puts a job into the queue, any job, and says its number.
    async fn enqueue(&self) -> JobId;

    /// The trace as it is stored now.
    async fn trace(&self, job: JobId) -> Vec<u8>;

    /// How the job looks now.
    async fn shown(&self, job: JobId) -> Shown;

    /// Somebody cancels the running job. `false`: the system has no such thing; the check that needs
    /// it is left out.
    async fn cancel(&self, _job: JobId) -> bool {
        false
    }

    /// Longest time for one check. Default: 60 s.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// What a source promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourcePromise {
    /// Managers that are to share jobs are recognised as such.
    IdIsStable,
    /// One job, one taker.
    JobIsGivenOnce,
    /// A dropped `poll` loses no job.
    PollIsCancelSafe,
    /// Tickets travel to another manager.
    TicketTravels,
    /// Bytes arrive as they are.
    TraceIsStored,
    /// Saying a piece twice stores it once.
    RepetitionIsHarmless,
    /// A gap is not filled with anything.
    GapIsRefused,
    /// Jobs side by side do not mix.
    JobsAreApart,
    /// Only `Exited(0)` is green.
    OnlySuccessIsShownAsSuccess,
    /// Saying the verdict twice changes nothing.
    VerdictIsFinal,
    /// A cancel reaches the manager.
    CancelArrives,
}

impl SourcePromise {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::IdIsStable,
        Self::JobIsGivenOnce,
        Self::PollIsCancelSafe,
        Self::TicketTravels,
        Self::TraceIsStored,
        Self::RepetitionIsHarmless,
        Self::GapIsRefused,
        Self::JobsAreApart,
        Self::OnlySuccessIsShownAsSuccess,
        Self::VerdictIsFinal,
        Self::CancelArrives,
    ];
}

impl Promise for SourcePromise {
    const SUBJECT: &'static str = "source";
    const TYPE: &'static str = "SourcePromise";

    fn text(self) -> &'static str {
        match self {
            Self::IdIsStable => "the next manager's source has the same id",
            Self::JobIsGivenOnce => "a job goes to one of several who ask",
            Self::PollIsCancelSafe => "a `poll` future that is dropped loses no job",
            Self::TicketTravels => "the next manager can speak for a job with its ticket",
            Self::TraceIsStored => "trace bytes are stored as they are, in order",
            Self::RepetitionIsHarmless => "a piece of trace that is said twice is stored once",
            Self::GapIsRefused => "a piece of trace beyond the end is refused, with the end",
            Self::JobsAreApart => "traces of jobs side by side do not mix",
            Self::OnlySuccessIsShownAsSuccess => {
                "a job is shown as a success only after exit code 0"
            }
            Self::VerdictIsFinal => "a verdict that is said twice is the same verdict",
            Self::CancelArrives => "a cancel reaches the manager with the next answer",
        }
    }
}

/// Looks at all promises of a source, one after the other.
pub async fn source(counter: &impl Counter) -> Report<SourcePromise> {
    let mut checks = Vec::with_capacity(SourcePromise::ALL.len());
    for promise in SourcePromise::ALL {
        checks.push(source_check(counter, promise).await);
    }
    Report { checks }
}

/// Looks at one promise of a source.
pub async fn source_check(counter: &impl Counter, promise: SourcePromise) -> Check<SourcePromise> {
    let counter: &dyn Counter = counter;
    let check = async {
        match promise {
            SourcePromise::IdIsStable => checks::id_is_stable(counter).await,
            SourcePromise::JobIsGivenOnce => checks::job_is_given_once(counter).await,
            SourcePromise::PollIsCancelSafe => checks::poll_is_cancel_safe(counter).await,
            SourcePromise::TicketTravels => checks::ticket_travels(counter).await,
            SourcePromise::TraceIsStored => checks::trace_is_stored(counter).await,
            SourcePromise::RepetitionIsHarmless => checks::repetition_is_harmless(counter).await,
            SourcePromise::GapIsRefused => checks::gap_is_refused(counter).await,
            SourcePromise::JobsAreApart => checks::jobs_are_apart(counter).await,
            SourcePromise::OnlySuccessIsShownAsSuccess => checks::only_success(counter).await,
            SourcePromise::VerdictIsFinal => checks::verdict_is_final(counter).await,
            SourcePromise::CancelArrives => checks::cancel_arrives(counter).await,
        }
    };
    judge(promise, counter.patience(), check).await
}
