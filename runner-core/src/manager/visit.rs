//! A job that is over and waits for those who look into it. GitLab shows it as running meanwhile.

use std::time::Duration;

use tokio::time::Instant;

use crate::session::Visitors;

/// Who looks into a job, and how long it waits for them.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) visitors: Visitors,
    /// From the job's end on.
    pub(super) patience: Duration,
    /// When the job's time is over, where this manager knows.
    pub(super) deadline: Option<Instant>,
}

/// The end of a job with somebody inside.
#[derive(Debug, Default)]
pub(super) enum Lingering {
    /// Nobody is to be waited for.
    #[default]
    No,
    /// Somebody is inside; the job waits until then.
    Until(Visitors, Instant),
}

impl Lingering {
    /// Whether the job has to wait; if not any more, those inside are shown out.
    pub(super) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        match self {
            Self::Until(visitors, until) if now < *until && visitors.count() > 0 => Some(*until),
            _ => {
                self.end();
                None
            }
        }
    }

    /// Shows those inside out: the job waits no longer.
    pub(super) fn end(&mut self) {
        if let Self::Until(visitors, _) = std::mem::take(self) {
            visitors.close();
        }
    }

    /// Waits until all have left; for ever, if nobody is waited for. Cancel safe.
    pub(super) async fn over(&self) {
        match self {
            Self::Until(visitors, _) => visitors.all_left().await,
            Self::No => std::future::pending().await,
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.visitors.close();
    }
}
