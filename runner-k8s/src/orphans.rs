//! Pods that belong to no job any more: their record is gone, so nobody can speak for them and
//! nobody would ever remove them. It happens when a request to create a pod was carried out after
//! its sender had given up, or when somebody deleted a record by hand. Pure.
//!
//! A record without a manager is no orphan: it is claimed, its job reported and then removed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use runner_core::ids::JobId;
use tokio::time::Instant;

/// How long a pod must have been without a record, as seen by one manager, before it is removed:
/// longer than any step between a record and its pod takes.
pub(crate) const ORPHANED: Duration = Duration::from_secs(600);

/// How long after a removal it is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// A pod, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LonelyPod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) job: JobId,
}

/// What this manager has seen of pods without a record.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// By uid. Bounded by what the last look found.
    since: BTreeMap<String, Instant>,
}

impl Orphans {
    /// The pods among these that are to be removed. `recorded`: the jobs that have a record, looked
    /// up **after** the pods, because a record is written before its pod.
    pub(crate) fn observe(
        &mut self,
        pods: Vec<LonelyPod>,
        recorded: &BTreeSet<JobId>,
        now: Instant,
    ) -> Vec<LonelyPod> {
        let mut before = std::mem::take(&mut self.since);
        let mut due = Vec::new();
        for pod in pods.into_iter().filter(|pod| !recorded.contains(&pod.job)) {
            let since = before.remove(&pod.uid).unwrap_or(now);
            if now < since + ORPHANED {
                self.since.insert(pod.uid, since);
            } else {
                // Should it still be there, e.g. because the role does not allow to remove it.
                self.since.insert(pod.uid.clone(), since + (now - since - ORPHANED) + AGAIN);
                due.push(pod);
            }
        }
        due
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.since.values().min().map(|since| *since + ORPHANED)
    }
}

#[cfg(test)]
mod tests {
    use runner_core::ids::JobId;
    use tokio::time::Instant;

    use super::{AGAIN, LonelyPod, ORPHANED, Orphans};

    fn pod(job: u64) -> LonelyPod {
        LonelyPod { name: format!("pod-{job}"), uid: format!("uid-{job}"), job: JobId(job) }
    }

    #[test]
    fn a_pod_without_a_record_is_removed_after_ten_minutes_and_not_before() {
        let (mut orphans, begin) = (Orphans::default(), Instant::now());
        let recorded = [JobId(1)].into();
        assert_eq!(orphans.observe(vec![pod(1), pod(2)], &recorded, begin), []);
        assert_eq!(orphans.next(), Some(begin + ORPHANED));
        assert_eq!(orphans.observe(vec![pod(2)], &recorded, begin + ORPHANED / 2), []);
        assert_eq!(orphans.observe(vec![pod(2)], &recorded, begin + ORPHANED), [pod(2)]);
        assert_eq!(orphans.next(), Some(begin + ORPHANED + AGAIN), "not at once, if it failed");
    }

    #[test]
    fn a_record_that_comes_back_or_another_pod_of_the_name_begins_anew() {
        let (mut orphans, begin) = (Orphans::default(), Instant::now());
        orphans.observe(vec![pod(2)], &[].into(), begin);
        orphans.observe(vec![pod(2)], &[JobId(2)].into(), begin + ORPHANED / 2);
        assert_eq!(orphans.observe(vec![pod(2)], &[].into(), begin + ORPHANED), []);
        let other = LonelyPod { uid: "another".into(), ..pod(2) };
        assert_eq!(orphans.observe(vec![other], &[].into(), begin + ORPHANED * 2), []);
    }
}
