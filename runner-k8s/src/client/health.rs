//! Whether the API server answers, as far as our own requests tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;
use tokio::time::Instant;

/// So many failures in a row are no accident.
const FAILURES: u32 = 3;

/// Cheap to clone; clones know the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct ApiHealth(Arc<State>);

#[derive(Debug, Default)]
struct State {
    in_a_row: AtomicU32,
    failed: watch::Sender<Option<Instant>>,
}

impl ApiHealth {
    /// When it failed last, while it is not known to answer again.
    pub(crate) fn failed(&self) -> watch::Receiver<Option<Instant>> {
        self.0.failed.subscribe()
    }

    pub(crate) fn success(&self) {
        // Most requests: no write where nothing changes.
        if self.0.in_a_row.load(Ordering::Relaxed) > 0 {
            self.0.in_a_row.store(0, Ordering::Relaxed);
            self.0.failed.send_if_modified(|failed| failed.take().is_some());
        }
    }

    pub(crate) fn failure(&self) {
        if self.0.in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES {
            self.0.failed.send_replace(Some(Instant::now()));
        }
    }
}
