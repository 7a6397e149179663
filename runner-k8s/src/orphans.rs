//! What belongs to nobody any more: nobody can speak for it and nobody would ever remove it. Pure;
//! what is looked at and how it is removed is [`sweep`](crate::sweep)'s business.
//!
//! * A pod, a Secret or a namespace of a job whose **record is gone**. It happens when a request to
//!   create it was carried out after its sender had given up, or when somebody deleted a record by
//!   hand.
//! * A warm pod whose **manager is gone**, and that no manager with warm pods of its own has removed.
//!
//! A record without a manager is no orphan: it is claimed, its job reported and then removed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use runner_core::ids::JobId;
use tokio::time::Instant;

/// How long something must have been without an owner, as seen by one manager, before it is removed:
/// longer than any step between a record and its pod takes.
pub(crate) const ORPHANED: Duration = Duration::from_secs(600);

/// How long after a removal it is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// Something that has an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) what: What,
    /// Empty for a namespace.
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) owner: Owner,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Pod,
    Secret,
    Namespace,
}

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A job's, by its record.
    Job(JobId),
    /// A manager's, by its hash.
    Manager(String),
}

/// Who is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owners<'a> {
    /// The jobs that have a record, looked up **after** what they own, because a record is written
    /// before its pod.
    pub(crate) recorded: &'a BTreeSet<JobId>,
    /// The hashes of managers that live; `None`: nobody knows.
    pub(crate) living: Option<&'a BTreeSet<String>>,
}

impl Owners<'_> {
    fn has(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Job(job) => self.recorded.contains(job),
            Owner::Manager(manager) => self.living.is_none_or(|living| living.contains(manager)),
        }
    }
}

/// What this manager has seen without an owner.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// By uid. Bounded by what the last look found.
    since: BTreeMap<String, Instant>,
}

impl Orphans {
    /// What among these is to be removed.
    pub(crate) fn observe(
        &mut self,
        all: Vec<Owned>,
        owners: &Owners<'_>,
        now: Instant,
    ) -> Vec<Owned> {
        let mut before = std::mem::take(&mut self.since);
        let mut due = Vec::new();
        for orphan in all.into_iter().filter(|owned| !owners.has(&owned.owner)) {
            let since = before.remove(&orphan.uid).unwrap_or(now);
            if now < since + ORPHANED {
                self.since.insert(orphan.uid, since);
            } else {
                // Should it still be there, e.g. because the role does not allow to remove it.
                self.since.insert(orphan.uid.clone(), since + (now - since - ORPHANED) + AGAIN);
                due.push(orphan);
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
    use std::collections::BTreeSet;

    use runner_core::ids::JobId;
    use tokio::time::Instant;

    use super::{AGAIN, ORPHANED, Orphans, Owned, Owner, Owners, What};

    fn of(owner: Owner, uid: &str) -> Owned {
        let (namespace, name) = ("ci".into(), format!("pod-{uid}"));
        Owned { what: What::Pod, namespace, name, uid: uid.into(), owner }
    }

    fn pod(job: u64) -> Owned {
        of(Owner::Job(JobId(job)), &format!("uid-{job}"))
    }

    fn look(
        orphans: &mut Orphans,
        all: Vec<Owned>,
        recorded: &[u64],
        living: Option<&[&str]>,
        now: Instant,
    ) -> Vec<Owned> {
        let recorded = recorded.iter().map(|job| JobId(*job)).collect();
        let living: Option<BTreeSet<String>> =
            living.map(|all| all.iter().map(|name| (*name).to_owned()).collect());
        let owners = Owners { recorded: &recorded, living: living.as_ref() };
        orphans.observe(all, &owners, now)
    }

    #[test]
    fn what_has_no_record_is_removed_after_ten_minutes_and_not_before() {
        let (mut orphans, begin) = (Orphans::default(), Instant::now());
        assert_eq!(look(&mut orphans, vec![pod(1), pod(2)], &[1], None, begin), []);
        assert_eq!(orphans.next(), Some(begin + ORPHANED));
        let half = begin + ORPHANED / 2;
        assert_eq!(look(&mut orphans, vec![pod(2)], &[1], None, half), []);
        let over = begin + ORPHANED;
        assert_eq!(look(&mut orphans, vec![pod(2)], &[1], None, over), [pod(2)]);
        assert_eq!(orphans.next(), Some(over + AGAIN), "not at once, if it failed");
    }

    #[test]
    fn a_record_that_comes_back_or_another_object_of_the_name_begins_anew() {
        let (mut orphans, begin) = (Orphans::default(), Instant::now());
        look(&mut orphans, vec![pod(2)], &[], None, begin);
        look(&mut orphans, vec![pod(2)], &[2], None, begin + ORPHANED / 2);
        let over = begin + ORPHANED;
        assert_eq!(look(&mut orphans, vec![pod(2)], &[], None, over), []);
        let other = Owned { uid: "another".into(), ..pod(2) };
        assert_eq!(look(&mut orphans, vec![other], &[], None, over + ORPHANED), []);
    }

    #[test]
    fn a_warm_pod_goes_when_its_manager_is_known_to_be_gone() {
        let warm = || vec![of(Owner::Manager("a".into()), "warm")];
        for (living, goes) in [(Some(&["a"][..]), false), (None, false), (Some(&["b"][..]), true)] {
            let (mut orphans, begin) = (Orphans::default(), Instant::now());
            look(&mut orphans, warm(), &[], living, begin);
            let due = look(&mut orphans, warm(), &[], living, begin + ORPHANED);
            assert_eq!(due == warm(), goes, "{living:?}");
        }
    }
}
