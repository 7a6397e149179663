//! How many jobs may run at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A limit that new jobs wait for and adopted jobs count against without waiting: they run already.
#[derive(Clone, Debug)]
pub(crate) struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    taken: AtomicUsize,
    freed: Notify,
}

/// One of the [`Slots`]; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Inner>);

impl Slots {
    /// `limit` 0 means no limit, as GitLab Runner's `limit` does.
    pub(crate) fn new(limit: usize) -> Self {
        let limit = if limit == 0 { usize::MAX } else { limit };
        Self(Arc::new(Inner { limit, taken: AtomicUsize::new(0), freed: Notify::new() }))
    }

    /// Waits for a free slot. Cancel safe.
    pub(crate) async fn take(&self) -> Slot {
        loop {
            // Registered before the look, so that a slot freed in between is not missed.
            let freed = self.0.freed.notified();
            let taken = self.0.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < self.0.limit).then_some(taken + 1)
            });
            if taken.is_ok() {
                return Slot(Arc::clone(&self.0));
            }
            freed.await;
        }
    }

    /// Takes a slot even when there is none.
    pub(crate) fn force(&self) -> Slot {
        self.0.taken.fetch_add(1, Ordering::AcqRel);
        Slot(Arc::clone(&self.0))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Slots;

    #[tokio::test(start_paused = true)]
    async fn a_full_house_waits_for_the_next_free_slot() {
        let slots = Slots::new(1);
        let first = slots.take().await;
        let second = tokio::time::timeout(Duration::from_secs(1), slots.take()).await;
        assert!(second.is_err());
        drop(first);
        slots.take().await;
    }

    #[tokio::test(start_paused = true)]
    async fn adopted_jobs_count_but_do_not_wait() {
        let slots = Slots::new(1);
        let (first, second) = (slots.force(), slots.force());
        drop(first);
        let third = tokio::time::timeout(Duration::from_secs(1), slots.take()).await;
        assert!(third.is_err(), "one adopted job still runs");
        drop(second);
        slots.take().await;
    }
}
