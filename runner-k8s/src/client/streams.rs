//! Counts what becomes of the streams into pods, for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is counted about streams. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct StreamCounts(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    lost: AtomicU64,
    bytes: AtomicU64,
    gaps_ms: AtomicU64,
}

impl StreamCounts {
    /// Streams that were opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.0.opened.load(Ordering::Relaxed)
    }

    /// Streams that ended although their job had not.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Bytes of trace that came through them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Time that jobs have run without a stream, after one was lost. Nothing is missing because of
    /// it, but their logs stood still.
    #[must_use]
    pub fn gaps(&self) -> Duration {
        Duration::from_millis(self.0.gaps_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn open(&self, gap: Option<Duration>) {
        self.0.opened.fetch_add(1, Ordering::Relaxed);
        let gap = gap.map_or(0, |gap| u64::try_from(gap.as_millis()).unwrap_or(u64::MAX));
        self.0.gaps_ms.fetch_add(gap, Ordering::Relaxed);
    }

    pub(crate) fn lose(&self) {
        self.0.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn receive(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
