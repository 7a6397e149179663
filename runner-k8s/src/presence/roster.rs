//! Which managers live, from what is seen of them. Pure.
//!
//! A manager lives while what it shows keeps changing. Only this process's own clock measures how
//! long nothing changed, so neither clock skew nor a wrong time in an object matters; the price is
//! that a manager that is seen for the first time gets the benefit of the doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::names::manager_hash;

/// What a manager shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sign {
    /// [`RunnerIdentity::manager`](crate::RunnerIdentity::manager).
    pub(crate) manager: String,
    /// Changes with every sign of life.
    pub(crate) version: String,
    /// How long one sign is good for.
    pub(crate) lasts: Duration,
    /// How many jobs it has.
    pub(crate) jobs: usize,
}

#[derive(Clone, Debug)]
struct Sighting {
    jobs: usize,
    version: String,
    lasts: Duration,
    since: Instant,
    /// Some time since then was not counted.
    excused: bool,
}

/// The managers of a source.
#[derive(Clone, Debug)]
pub(crate) struct Roster {
    me: String,
    seen: BTreeMap<String, Sighting>,
    looked: Option<Instant>,
}

/// The managers that live, this one included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Living(BTreeSet<String>);

impl Roster {
    pub(crate) fn new(me: impl Into<String>) -> Self {
        Self { me: me.into(), seen: BTreeMap::new(), looked: None }
    }

    /// Takes in everything that is shown now; who is not among it has gone.
    ///
    /// A time in which this manager could not look for long says nothing about the others: an API
    /// server that was away could not be shown anything either, and whoever looks first after it is
    /// back would take all others for dead. Such a time is not counted, once for each sign: who looks
    /// late every time, because its machine is slow, must still see who is dead.
    pub(crate) fn observe(&mut self, signs: impl IntoIterator<Item = Sign>, now: Instant) {
        let blind = self.looked.replace(now).map_or(Duration::ZERO, |at| now.duration_since(at));
        let mut before = std::mem::take(&mut self.seen);
        for Sign { manager, version, lasts, jobs } in signs {
            let (since, excused) = match before.remove(&manager) {
                Some(known) if known.version == version => {
                    // A look is due each quarter: three have failed.
                    match !known.excused && blind > lasts * 3 / 4 {
                        true => (known.since + blind, true),
                        false => (known.since, known.excused),
                    }
                }
                _ => (now, false),
            };
            self.seen.insert(manager, Sighting { jobs, version, lasts, since, excused });
        }
    }

    /// Who lives.
    pub(crate) fn living(&self, now: Instant) -> Living {
        let fresh = |(name, sighting): (&String, &Sighting)| {
            (now.duration_since(sighting.since) < sighting.lasts).then(|| name.clone())
        };
        let mut living: BTreeSet<String> = self.seen.iter().filter_map(fresh).collect();
        // Whatever others see: this one decides, so it lives.
        living.insert(self.me.clone());
        Living(living)
    }

    /// How many jobs the others have, those of the dead not counted.
    pub(crate) fn jobs_of_others(&self, now: Instant) -> usize {
        let living = self.living(now);
        let others =
            self.seen.iter().filter(|(name, _)| **name != self.me && living.contains(name));
        others.map(|(_, sighting)| sighting.jobs).sum()
    }

    /// Who shows something but has not changed it for too long.
    pub(crate) fn silent(&self, now: Instant) -> Vec<String> {
        let living = self.living(now);
        self.seen.keys().filter(|name| !living.contains(name)).cloned().collect()
    }
}

impl Living {
    pub(crate) fn contains(&self, manager: &str) -> bool {
        self.0.contains(manager)
    }

    /// Whether somebody lived before who does not any more.
    pub(crate) fn lacks_any_of(&self, before: &Living) -> bool {
        !before.0.is_subset(&self.0)
    }

    /// Their hashes, as records carry them.
    pub(crate) fn hashes(&self) -> BTreeSet<String> {
        self.0.iter().map(|manager| manager_hash(manager)).collect()
    }

    /// This manager's place among the heirs of a record: 0 is the one that should claim it. All
    /// managers come to the same order without talking to each other, and records are spread evenly
    /// (rendezvous hashing).
    pub(crate) fn place(&self, me: &str, record: &str) -> usize {
        let weight = |manager: &str| {
            let mut hash = Sha256::new();
            hash.update(manager.as_bytes());
            hash.update([0]);
            hash.update(record.as_bytes());
            hash.finalize()
        };
        let mine = weight(me);
        self.0.iter().filter(|other| *other != me && weight(other) > mine).count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Roster, Sign};

    fn sign(manager: &str, version: u32) -> Sign {
        let lasts = Duration::from_secs(20);
        Sign { manager: manager.into(), version: version.to_string(), lasts, jobs: 2 }
    }

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn a_manager_lives_while_its_sign_changes() {
        let begin = Instant::now();
        let mut roster = Roster::new("me");
        roster.observe([sign("a", 1), sign("b", 1)], begin);
        roster.observe([sign("a", 2), sign("b", 1)], after(begin, 15));
        let living = roster.living(after(begin, 21));
        assert!(living.contains("a") && living.contains("me"));
        assert!(!living.contains("b"));
        assert_eq!(roster.silent(after(begin, 21)), ["b"]);
        roster.observe([sign("b", 2)], after(begin, 22));
        let living = roster.living(after(begin, 22));
        assert!(living.contains("b"), "it was only cut off");
        assert!(!living.contains("a"), "it took its sign away");
    }

    #[test]
    fn a_time_in_which_nobody_could_look_kills_nobody() {
        // Seed 3546: the API server was away for a minute, and who looked first took all jobs.
        let begin = Instant::now();
        let mut roster = Roster::new("me");
        roster.observe([sign("a", 1), sign("dead", 1)], begin);
        roster.observe([sign("a", 2), sign("dead", 1)], after(begin, 5));
        roster.observe([sign("a", 2), sign("dead", 1)], after(begin, 65));
        assert!(roster.silent(after(begin, 65)).is_empty(), "the others had no chance either");
        roster.observe([sign("a", 3), sign("dead", 1)], after(begin, 70));
        assert!(roster.living(after(begin, 79)).contains("dead"), "it was silent for 19 s");
        assert_eq!(roster.silent(after(begin, 80)), ["dead"]);
    }

    #[test]
    fn who_always_looks_late_still_sees_who_is_dead() {
        let begin = Instant::now();
        let mut roster = Roster::new("me");
        for look in 0..4 {
            roster.observe([sign("a", look), sign("dead", 1)], after(begin, 19 * u64::from(look)));
        }
        assert_eq!(roster.silent(after(begin, 57)), ["dead"]);
    }

    #[test]
    fn the_jobs_of_others_that_live_are_counted() {
        let begin = Instant::now();
        let mut roster = Roster::new("me");
        roster.observe([sign("me", 1), sign("a", 1), sign("b", 1)], begin);
        assert_eq!(roster.jobs_of_others(begin), 4);
        roster.observe([sign("me", 2), sign("a", 2), sign("b", 1)], after(begin, 15));
        assert_eq!(roster.jobs_of_others(after(begin, 21)), 2);
    }

    #[test]
    fn a_manager_that_is_seen_for_the_first_time_lives() {
        let begin = Instant::now();
        let mut roster = Roster::new("me");
        roster.observe([sign("old", 1)], begin);
        assert!(roster.living(after(begin, 19)).contains("old"));
        assert!(!roster.living(after(begin, 20)).contains("old"));
    }

    #[test]
    fn this_manager_lives_whatever_is_seen_of_it() {
        let begin = Instant::now();
        let mut roster = Roster::new("me");
        assert!(roster.living(begin).contains("me"));
        roster.observe([sign("me", 1)], begin);
        assert!(roster.living(after(begin, 100)).contains("me"));
    }

    #[test]
    fn a_loss_is_noticed_and_an_arrival_is_none() {
        let begin = Instant::now();
        let mut roster = Roster::new("me");
        roster.observe([sign("a", 1)], begin);
        let before = roster.living(begin);
        roster.observe([sign("a", 2), sign("b", 1)], after(begin, 1));
        let more = roster.living(after(begin, 1));
        assert!(!more.lacks_any_of(&before));
        roster.observe([sign("b", 2)], after(begin, 2));
        assert!(roster.living(after(begin, 2)).lacks_any_of(&more));
    }

    #[test]
    fn every_record_has_one_first_heir_and_they_are_spread_evenly() {
        let begin = Instant::now();
        let managers = ["a", "b", "c"];
        let mut counts = [0; 3];
        for record in 0..300 {
            let record = format!("record-{record}");
            let mut places = Vec::new();
            for (count, me) in counts.iter_mut().zip(managers) {
                let mut roster = Roster::new(me);
                roster.observe(managers.map(|name| sign(name, 1)), begin);
                let place = roster.living(begin).place(me, &record);
                *count += usize::from(place == 0);
                places.push(place);
            }
            places.sort_unstable();
            assert_eq!(places, [0, 1, 2]);
        }
        assert!(counts.iter().all(|count| (70..130).contains(count)), "{counts:?}");
    }
}
