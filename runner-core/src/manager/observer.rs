//! Who wants to know how jobs are doing.

use std::time::Duration;

use bytes::Bytes;

use std::sync::Arc;

use crate::executor::Milestone;
use crate::ids::{JobId, Offset, SourceId};
use crate::outcome::{Outcome, StageReport};
use crate::source::QueueFacts;

/// Which job an [`JobUpdate`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobLabel {
    /// The runner's name in the configuration.
    pub runner: String,
    /// The runner's source: names may be used twice.
    pub source: SourceId,
    /// The job.
    pub id: JobId,
    /// Its name, `None` for an adopted job: the name is not needed to finish it.
    pub name: Option<String>,
    /// What else is known of it, `None` for an adopted job.
    pub facts: Option<Arc<JobFacts>>,
}

/// What a source said about a job when it handed it out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobFacts {
    /// Where a person finds it.
    pub url: Option<String>,
    /// Full path of its project.
    pub project: String,
    /// The queue it comes from.
    pub queue: QueueFacts,
}

/// Something worth a progress line or a metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum JobUpdate {
    /// Taken from the source.
    Received,
    /// Taken over from another manager.
    Adopted {
        /// How the operator finds it.
        place: String,
    },
    /// Written down and accepted; about to start.
    Starting {
        /// How the operator finds it.
        place: String,
    },
    /// It waits for something.
    Waiting {
        /// For what.
        reason: String,
    },
    /// Its start has come this far.
    Reached(Milestone),
    /// Its own program speaks.
    Running,
    /// A stage began.
    StageStarted {
        /// Its name.
        name: String,
    },
    /// A stage is over.
    StageFinished(StageReport),
    /// The source has stored the trace up to here.
    TraceStored {
        /// The pieces stored just now.
        chunks: Vec<Bytes>,
        /// Where they begin.
        from: Offset,
        /// How long the oldest byte among them was in this manager's hands.
        lag: Duration,
    },
    /// The source has the verdict, or will never take it.
    Concluded {
        /// How the job ended.
        outcome: Outcome,
        /// Whether the source took it.
        delivered: bool,
    },
    /// Nothing is left of it.
    Disposed {
        /// How long it was in this manager's hands.
        after: Duration,
    },
    /// Left to the next manager.
    LeftBehind,
    /// This manager has nothing to do with it any more, whatever the reason. Always the last.
    Released,
}

/// Says [`JobUpdate::Released`] when it is dropped, whatever the way.
pub(crate) struct Release<'a> {
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) label: &'a JobLabel,
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.observer.update(self.label, &JobUpdate::Released);
    }
}

/// Which runner a [`RunnerUpdate`] is about.
#[derive(Clone, Copy, Debug)]
pub struct RunnerLabel<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its source.
    pub source: &'a SourceId,
}

/// Something that happened between a runner and its source.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RunnerUpdate {
    /// It asks for a job.
    Asking,
    /// It was its turn, and it has as many requests under way as it may.
    TooManyRequests,
    /// The numbers behind that have changed.
    Requests(RequestCounts),
    /// The source does not want it.
    Refused {
        /// For how long the source is left alone, because that has happened several times.
        left_alone: Option<Duration>,
    },
}

/// Requests for jobs of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RequestCounts {
    /// Now.
    pub under_way: usize,
    /// At most, by the settings.
    pub hard_limit: usize,
    /// The value that follows what requests bring.
    pub adaptive_limit: f64,
    /// At most, now.
    pub used_limit: usize,
}

/// Is told of every [`JobUpdate`] and [`RunnerUpdate`]. Called from the manager's tasks: it must not
/// block.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// use runner_core::manager::{JobLabel, JobUpdate, Observer};
///
/// /// Counts the jobs that failed.
/// #[derive(Default)]
/// struct Failures(AtomicUsize);
///
/// impl Observer for Failures {
///     fn update(&self, job: &JobLabel, update: &JobUpdate) {
///         if let JobUpdate::Concluded { outcome, .. } = update
///             && !outcome.is_success()
///         {
///             self.0.fetch_add(1, Ordering::Relaxed);
///             eprintln!("job {} of {}: {outcome:?}", job.id, job.runner);
///         }
///     }
/// }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Something happened to a job.
    fn update(&self, job: &JobLabel, update: &JobUpdate);

    /// Something happened between a runner and its source. Default: nobody wants to know.
    fn runner(&self, _runner: RunnerLabel<'_>, _update: &RunnerUpdate) {}
}

/// Several, in this order.
impl Observer for Vec<Arc<dyn Observer>> {
    fn update(&self, job: &JobLabel, update: &JobUpdate) {
        self.iter().for_each(|observer| observer.update(job, update));
    }

    fn runner(&self, runner: RunnerLabel<'_>, update: &RunnerUpdate) {
        self.iter().for_each(|observer| observer.runner(runner, update));
    }
}

/// Does not want to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn update(&self, _job: &JobLabel, _update: &JobUpdate) {}
}
