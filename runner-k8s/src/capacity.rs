//! Whether the cluster has room for another job: no job is taken that would only wait.
//!
//! Three things speak against it: pods of this runner's that find no node, a quota that has just
//! refused one, an API server that does not answer. All are known without a request of their own.
//! GitLab Runner takes jobs up to `concurrent` and lets them wait, or fail, in the cluster, while
//! another runner could have had them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::client::ApiHealth;
use crate::watch::PodHub;

/// How long no job is taken after a quota has refused one, unless one of ours ends before.
const QUOTA: Duration = Duration::from_secs(30);
/// An API server that failed is tried again after this time, whatever is known.
const AGAIN: Duration = Duration::from_secs(30);

/// Why no job is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoRoom {
    /// As many pods as are allowed to wait for a node.
    Pods,
    /// The namespace's quota.
    Quota,
    /// The API server does not answer.
    Cluster,
}

impl NoRoom {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pods, Self::Quota, Self::Cluster];

    /// As a metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pods => "waiting_pods",
            Self::Quota => "quota",
            Self::Cluster => "cluster",
        }
    }

    fn explanation(self) -> &'static str {
        match self {
            Self::Pods => "as many pods as allowed wait for a node (max_waiting_pods)",
            Self::Quota => "the namespace's quota has refused a pod",
            Self::Cluster => "the API server does not answer",
        }
    }
}

/// How long jobs were not taken, for metrics. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct RoomCounts(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    held_ms: [AtomicU64; NoRoom::ALL.len()],
    /// 1 + the reason; 0: there is room.
    now: AtomicU8,
}

impl RoomCounts {
    /// For how long, because of this.
    #[must_use]
    pub fn held(&self, reason: NoRoom) -> Duration {
        Duration::from_millis(self.0.held_ms[reason as usize].load(Ordering::Relaxed))
    }

    /// Whether it is so now.
    #[must_use]
    pub fn is_held(&self, reason: NoRoom) -> bool {
        self.0.now.load(Ordering::Relaxed) == reason as u8 + 1
    }

    fn set(&self, reason: Option<NoRoom>) -> u8 {
        self.0.now.swap(reason.map_or(0, |reason| reason as u8 + 1), Ordering::Relaxed)
    }
}

/// What is known about the cluster's room.
#[derive(Debug)]
pub(crate) struct Capacity {
    /// 0: jobs are taken whatever is known.
    max_waiting: usize,
    health: ApiHealth,
    /// No job before this time because of a quota.
    quota: watch::Sender<Option<Instant>>,
    pub(crate) counts: RoomCounts,
}

/// What speaks against taking a job now, and until when at most.
fn verdict(
    max_waiting: usize,
    waiting: usize,
    quota: Option<Instant>,
    failed: Option<Instant>,
    now: Instant,
) -> Option<(NoRoom, Option<Instant>)> {
    if max_waiting == 0 {
        return None;
    }
    if let Some(until) = failed.map(|at| at + AGAIN).filter(|until| now < *until) {
        return Some((NoRoom::Cluster, Some(until)));
    }
    if let Some(until) = quota.filter(|until| now < *until) {
        return Some((NoRoom::Quota, Some(until)));
    }
    (waiting >= max_waiting).then_some((NoRoom::Pods, None))
}

impl Capacity {
    pub(crate) fn new(max_waiting: usize, health: ApiHealth) -> Self {
        let counts = RoomCounts::default();
        Self { max_waiting, health, quota: watch::Sender::new(None), counts }
    }

    /// The cluster has refused a job, in these words.
    pub(crate) fn refused(&self, message: &str) {
        if message.contains("exceeded quota") {
            self.quota.send_replace(Some(Instant::now() + QUOTA));
        }
    }

    /// A pod is gone: there may be room in the quota again.
    fn freed(&self) {
        self.quota.send_if_modified(|quota| quota.take().is_some());
    }

    /// Waits until there is room. Cancel safe.
    pub(crate) async fn room(&self, hub: Option<&PodHub>) {
        let mut signs = self.signs(hub);
        loop {
            let verdict = signs.verdict();
            let reason = verdict.map(|(reason, _)| reason);
            let before = self.counts.set(reason);
            match (before, reason) {
                (0, Some(reason)) => warn!("no jobs are taken: {}", reason.explanation()),
                (1.., None) => info!("jobs are taken again"),
                _ => {}
            }
            let Some((reason, until)) = verdict else { return };
            let again = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let _held = Held { counts: &self.counts, reason, since: Instant::now() };
            tokio::select! {
                () = again => {}
                () = signs.changed() => {}
            }
            if signs.has_lost_a_pod() {
                self.freed();
            }
        }
    }

    /// Waits until there is none. Cancel safe.
    pub(crate) async fn crowded(&self, hub: Option<&PodHub>) {
        let mut signs = self.signs(hub);
        while signs.verdict().is_none() {
            signs.changed().await;
            signs.has_lost_a_pod();
        }
    }

    fn signs(&self, hub: Option<&PodHub>) -> Signs {
        Signs {
            max_waiting: self.max_waiting,
            quota: self.quota.subscribe(),
            failed: self.health.failed(),
            waiting: hub.map(PodHub::waiting),
            gone: hub.map(PodHub::gone),
        }
    }
}

/// What room is judged by.
struct Signs {
    max_waiting: usize,
    quota: watch::Receiver<Option<Instant>>,
    failed: watch::Receiver<Option<Instant>>,
    /// Before the first job there is no watch, and no pod that could wait.
    waiting: Option<watch::Receiver<usize>>,
    gone: Option<watch::Receiver<u64>>,
}

impl Signs {
    fn verdict(&mut self) -> Option<(NoRoom, Option<Instant>)> {
        let waiting = self.waiting.as_mut().map_or(0, |waiting| *waiting.borrow_and_update());
        let (quota, failed) = (*self.quota.borrow_and_update(), *self.failed.borrow_and_update());
        verdict(self.max_waiting, waiting, quota, failed, Instant::now())
    }

    /// Whether a pod is gone since the last call.
    fn has_lost_a_pod(&mut self) -> bool {
        let Some(gone) = &mut self.gone else { return false };
        let changed = gone.has_changed().unwrap_or(false);
        gone.mark_unchanged();
        changed
    }

    /// Waits for a change. The senders live as long as the executor.
    async fn changed(&mut self) {
        let pods = async {
            match &mut self.waiting {
                Some(waiting) => drop(waiting.changed().await),
                None => std::future::pending().await,
            }
        };
        let gone = async {
            match &self.gone {
                // Looked at, and forgotten, by `has_lost_a_pod`.
                Some(gone) => drop(gone.clone().changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pods => {}
            () = gone => {}
            _ = self.quota.changed() => {}
            _ = self.failed.changed() => {}
        }
    }
}

/// Counts the time until it is dropped.
struct Held<'a> {
    counts: &'a RoomCounts,
    reason: NoRoom,
    since: Instant,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let took = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.counts.0.held_ms[self.reason as usize].fetch_add(took, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, timeout};

    use super::{Capacity, NoRoom, verdict};
    use crate::client::ApiHealth;

    #[test]
    fn no_job_is_taken_that_would_only_wait() {
        let now = Instant::now();
        let soon = Some(now + Duration::from_secs(5));
        assert_eq!(verdict(10, 9, None, None, now), None);
        assert_eq!(verdict(10, 10, None, None, now), Some((NoRoom::Pods, None)));
        assert_eq!(verdict(10, 0, soon, None, now), Some((NoRoom::Quota, soon)));
        assert_eq!(verdict(10, 0, Some(now), None, now), None, "it is over");
        let (reason, until) = verdict(10, 10, soon, Some(now), now).unwrap();
        assert_eq!((reason, until), (NoRoom::Cluster, Some(now + Duration::from_secs(30))));
    }

    #[test]
    fn it_can_be_switched_off() {
        let now = Instant::now();
        assert_eq!(verdict(0, 99, Some(now + Duration::from_secs(5)), Some(now), now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_holds_for_half_a_minute_or_until_a_job_of_ours_ends() {
        let capacity = Capacity::new(10, ApiHealth::default());
        capacity.room(None).await;
        capacity.refused("pods \"x\" is forbidden: exceeded quota: q, requested: pods=1");
        let began = Instant::now();
        capacity.room(None).await;
        assert_eq!(began.elapsed(), Duration::from_secs(30));
        capacity.refused("exceeded quota");
        let short = Duration::from_secs(7);
        assert!(timeout(short, capacity.room(None)).await.is_err());
        assert!(capacity.counts.is_held(NoRoom::Quota));
        capacity.freed();
        capacity.room(None).await;
        assert!(!capacity.counts.is_held(NoRoom::Quota));
        assert_eq!(capacity.counts.held(NoRoom::Quota), Duration::from_secs(37));
        capacity.refused("violates PodSecurity");
        capacity.room(None).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_three_times_is_left_alone_until_it_answers() {
        let health = ApiHealth::default();
        let capacity = Capacity::new(10, health.clone());
        (0..2).for_each(|_| health.failure());
        capacity.room(None).await;
        health.failure();
        let answers = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            health.success();
        };
        let began = Instant::now();
        tokio::join!(capacity.room(None), answers);
        assert_eq!(began.elapsed(), Duration::from_secs(3));
    }
}
