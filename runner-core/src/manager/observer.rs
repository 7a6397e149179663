//! Who wants to know how jobs are doing.

use std::time::Duration;

use bytes::Bytes;

use crate::ids::{JobId, Offset};
use crate::outcome::{Outcome, StageReport};

/// Which job an [`JobUpdate`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobLabel {
    /// The runner's name in the configuration.
    pub runner: String,
    /// The job.
    pub id: JobId,
    /// Its name, `None` for an adopted job: the name is not needed to finish it.
    pub name: Option<String>,
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
}

/// Is told of every [`JobUpdate`]. Called from the jobs' tasks: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// Something happened to a job.
    fn update(&self, job: &JobLabel, update: &JobUpdate);
}

/// Does not want to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn update(&self, _job: &JobLabel, _update: &JobUpdate) {}
}
