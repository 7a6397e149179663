//! What an [`Executor`] promises.

mod checks;
mod interruptions;
mod reader;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::executor::Executor;
use runner_core::ids::JobId;

use super::report::{Check, Promise, Report, judge};

/// The place that the executor works on, in the hands of the test.
///
/// The kit runs plain shell jobs with the numbers 1 to 99; nothing else may use the place meanwhile.
///
/// ```
/// use std::path::PathBuf;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use async_trait::async_trait;
/// use runner_core::executor::Executor;
/// use runner_core::ids::JobId;
/// use runner_testkit::conformance::{self, ExecutorPromise, Site, Verdict};
/// use runner_testkit::local::LocalExecutor;
///
/// struct Machine {
///     root: PathBuf,
///     agent: Vec<String>,
/// }
///
/// #[async_trait]
/// impl Site for Machine {
///     // A new one at each call: what the last one held in memory is gone with its manager.
///     async fn executor(&self) -> Arc<dyn Executor> {
///         Arc::new(LocalExecutor::new(&self.root, self.agent.clone()))
///     }
///
///     async fn leftovers(&self) -> Vec<String> {
///         let left = LocalExecutor::new(&self.root, self.agent.clone()).leftovers();
///         left.iter().map(|path| path.display().to_string()).collect()
///     }
///
///     async fn destroy(&self, job: JobId) -> bool {
///         LocalExecutor::new(&self.root, self.agent.clone()).destroy(job).is_ok()
///     }
///
///     fn shared_directory(&self) -> Option<PathBuf> {
///         Some(self.root.join("shared"))
///     }
///
///     fn patience(&self) -> Duration {
///         Duration::from_secs(1)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let directory = tempfile::tempdir()?;
/// // `["podwright", "agent"]` keeps all promises. This one runs nothing at all:
/// let agent = vec!["/bin/true".to_owned()];
/// let site = Machine { root: directory.path().to_owned(), agent };
/// let check = conformance::executor_check(&site, ExecutorPromise::TraceIsWhole).await;
/// let Verdict::Broken(seen) = check.verdict else { panic!("nothing ran") };
/// println!("{seen}");
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Site: Send + Sync {
    /// The executor as a manager makes it when it starts. The kit asks again after each "death" of a
    /// manager; what the last one held in memory must not be there any more.
    async fn executor(&self) -> Arc<dyn Executor>;

    /// What is left of jobs, in words. Empty: nothing.
    async fn leftovers(&self) -> Vec<String>;

    /// Destroys what runs this job, its own records included, as the loss of a node would. `false`:
    /// there is no way to; the checks that need it are left out.
    async fn destroy(&self, _job: JobId) -> bool {
        false
    }

    /// A directory that is the same one for jobs and for the test. `None`: there is none; the checks
    /// that need it are left out.
    fn shared_directory(&self) -> Option<PathBuf> {
        None
    }

    /// Longest time for one check. Default: 60 s.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// What an executor promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExecutorPromise {
    /// Every byte, once, in order, and the summary fits.
    TraceIsWhole,
    /// A dropped future of `event` loses nothing.
    EventsAreCancelSafe,
    /// Nothing beyond the offset that was asked for.
    TraceIsNotPushed,
    /// `follow` goes back and forth.
    TraceIsSeekable,
    /// Exit codes are what `waitpid` said.
    ExitCodesAreExact,
    /// No success without proof.
    LostIsNoSuccess,
    /// `Cancel` ends the commands, `after_script` runs.
    CancelStops,
    /// `Abort` ends everything.
    AbortStops,
    /// The plan's timeout ends the job.
    DeadlineStops,
    /// However often it is started, it runs once.
    RunsOnce,
    /// A job that was only written down is found.
    ReservedIsFound,
    /// A running job is found, and goes on where it was.
    RunningIsFound,
    /// The loser of a job can no longer write.
    LoserIsRefused,
    /// What a manager said survives it.
    RemarksSurvive,
    /// `dispose` leaves nothing.
    NothingIsLeft,
    /// `dispose` of a running job ends it and leaves nothing.
    RunningIsRemoved,
}

impl ExecutorPromise {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::TraceIsWhole,
        Self::EventsAreCancelSafe,
        Self::TraceIsNotPushed,
        Self::TraceIsSeekable,
        Self::ExitCodesAreExact,
        Self::LostIsNoSuccess,
        Self::CancelStops,
        Self::AbortStops,
        Self::DeadlineStops,
        Self::RunsOnce,
        Self::ReservedIsFound,
        Self::RunningIsFound,
        Self::LoserIsRefused,
        Self::RemarksSurvive,
        Self::NothingIsLeft,
        Self::RunningIsRemoved,
    ];
}

impl Promise for ExecutorPromise {
    const SUBJECT: &'static str = "executor";
    const TYPE: &'static str = "ExecutorPromise";

    fn text(self) -> &'static str {
        match self {
            Self::TraceIsWhole => "every byte of the trace comes once and in order",
            Self::EventsAreCancelSafe => "an `event` future that is dropped loses nothing",
            Self::TraceIsNotPushed => "no byte comes that was not asked for",
            Self::TraceIsSeekable => "the trace can be had again from any offset",
            Self::ExitCodesAreExact => "the exit code is the one of the job's own process",
            Self::LostIsNoSuccess => "a job whose end nobody saw is not a success",
            Self::CancelStops => "a cancelled job stops, and its after_script runs",
            Self::AbortStops => "an aborted job stops, and its after_script does not run",
            Self::DeadlineStops => "a job stops at its plan's timeout",
            Self::RunsOnce => "a job runs once, however often it is started",
            Self::ReservedIsFound => "a job that was only reserved is found by the next manager",
            Self::RunningIsFound => "a running job is found by the next manager and read on",
            Self::LoserIsRefused => "a manager that lost a job can no longer write to it",
            Self::RemarksSurvive => "what a manager said is there for the next one",
            Self::NothingIsLeft => "nothing is left of a job after `dispose`, also said twice",
            Self::RunningIsRemoved => "`dispose` ends a running job and leaves nothing",
        }
    }
}

/// Looks at all promises of an executor, one after the other.
pub async fn executor(site: &impl Site) -> Report<ExecutorPromise> {
    let mut checks = Vec::with_capacity(ExecutorPromise::ALL.len());
    for promise in ExecutorPromise::ALL {
        checks.push(executor_check(site, promise).await);
    }
    Report { checks }
}

/// Looks at one promise of an executor.
pub async fn executor_check(site: &impl Site, promise: ExecutorPromise) -> Check<ExecutorPromise> {
    let site: &dyn Site = site;
    let check = async {
        match promise {
            ExecutorPromise::TraceIsWhole => checks::trace_is_whole(site).await,
            ExecutorPromise::EventsAreCancelSafe => checks::events_are_cancel_safe(site).await,
            ExecutorPromise::TraceIsNotPushed => checks::trace_is_not_pushed(site).await,
            ExecutorPromise::TraceIsSeekable => checks::trace_is_seekable(site).await,
            ExecutorPromise::ExitCodesAreExact => checks::exit_codes_are_exact(site).await,
            ExecutorPromise::LostIsNoSuccess => interruptions::lost_is_no_success(site).await,
            ExecutorPromise::CancelStops => checks::cancel_stops(site).await,
            ExecutorPromise::AbortStops => checks::abort_stops(site).await,
            ExecutorPromise::DeadlineStops => checks::deadline_stops(site).await,
            ExecutorPromise::RunsOnce => interruptions::runs_once(site).await,
            ExecutorPromise::ReservedIsFound => interruptions::reserved_is_found(site).await,
            ExecutorPromise::RunningIsFound => interruptions::running_is_found(site).await,
            ExecutorPromise::LoserIsRefused => interruptions::loser_is_refused(site).await,
            ExecutorPromise::RemarksSurvive => interruptions::remarks_survive(site).await,
            ExecutorPromise::NothingIsLeft => checks::nothing_is_left(site).await,
            ExecutorPromise::RunningIsRemoved => checks::running_is_removed(site).await,
        }
    };
    judge(promise, site.patience(), check).await
}
