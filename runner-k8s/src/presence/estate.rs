//! Who inherits which of the records that were left behind. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::View;

/// How long each heir of a record waits for the one before it.
pub(crate) const HEIR_PATIENCE: Duration = Duration::from_secs(3);

/// What this manager knows of records without an owner.
#[derive(Debug, Default)]
pub(crate) struct Estate {
    /// Since when each was seen to have none. Bounded by what the last look found.
    since: BTreeMap<String, Instant>,
    /// When to look again for those that somebody else should have claimed.
    pub(crate) again: Option<Instant>,
    /// Up to which loss of a manager everything was looked at.
    pub(crate) mark: u64,
}

impl Estate {
    /// The records among these, all without an owner, that this manager claims now. Others get the
    /// time to claim the rest.
    pub(crate) fn divide(
        &mut self,
        names: Vec<String>,
        view: &View,
        me: &str,
        now: Instant,
    ) -> Vec<String> {
        let mut before = std::mem::take(&mut self.since);
        self.again = None;
        let mut mine = Vec::new();
        for name in names {
            let since = before.remove(&name).unwrap_or(now);
            let place = match view {
                View::Seen(living) => living.place(me, &name),
                View::Blind | View::Unknown => 0,
            };
            let turn = since + HEIR_PATIENCE * u32::try_from(place).unwrap_or(u32::MAX);
            if turn <= now {
                mine.push(name);
            } else {
                self.since.insert(name, since);
                self.look_again_at(turn);
            }
        }
        mine
    }

    /// Asks for another look at this time, or earlier.
    pub(crate) fn look_again_at(&mut self, at: Instant) {
        self.again = Some(self.again.map_or(at, |known| known.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Estate, HEIR_PATIENCE};
    use crate::presence::View;
    use crate::presence::roster::{Roster, Sign};

    fn view(me: &str, others: &[&str], now: Instant) -> View {
        let lasts = Duration::from_secs(1000);
        let mut roster = Roster::new(me);
        let sign =
            |name: &&str| Sign { manager: (*name).into(), version: "1".into(), lasts, jobs: 0 };
        roster.observe(others.iter().map(sign), now);
        View::Seen(roster.living(now))
    }

    #[test]
    fn each_record_is_claimed_by_one_of_the_heirs_and_by_the_next_when_that_one_does_not() {
        let now = Instant::now();
        let names: Vec<String> = (0..50).map(|n| format!("record-{n}")).collect();
        let (mut a, mut b) = (Estate::default(), Estate::default());
        let (view_a, view_b) = (view("a", &["b"], now), view("b", &["a"], now));
        let of_a = a.divide(names.clone(), &view_a, "a", now);
        let of_b = b.divide(names.clone(), &view_b, "b", now);
        assert_eq!(of_a.len() + of_b.len(), 50);
        assert!(of_a.iter().all(|name| !of_b.contains(name)));
        assert_eq!(a.again, Some(now + HEIR_PATIENCE));

        // The other one died before it did its part.
        let later = now + HEIR_PATIENCE;
        let rest = a.divide(of_b.clone(), &view_a, "a", later);
        assert_eq!(rest, of_b);
        assert_eq!(a.again, None);
    }

    #[test]
    fn a_manager_that_is_alone_or_sees_nobody_claims_everything_at_once() {
        let now = Instant::now();
        let names = vec!["one".to_owned(), "two".to_owned()];
        for view in [view("a", &[], now), View::Blind] {
            assert_eq!(Estate::default().divide(names.clone(), &view, "a", now), names);
        }
    }
}
