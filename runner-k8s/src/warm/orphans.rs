//! Warm pods of managers that do not live any more. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::pool::Idle;

/// Since when each has been seen without a manager. Bounded by what was seen last.
#[derive(Debug, Default)]
pub(crate) struct Orphans(BTreeMap<String, Instant>);

impl Orphans {
    /// Those that may go now, and when to look again for the others.
    ///
    /// `left_alone`: a dead manager may have written down that a job has one of them, and this is how
    /// long the heir of that job may take to claim it and to give the pod the job's labels.
    pub(crate) fn sort(
        &mut self,
        seen: Vec<Idle>,
        left_alone: Duration,
        now: Instant,
    ) -> (Vec<Idle>, Option<Instant>) {
        let before = std::mem::take(&mut self.0);
        let (mut due, mut again) = (Vec::new(), None);
        for pod in seen {
            let at = before.get(&pod.uid).copied().unwrap_or(now) + left_alone;
            if at <= now {
                due.push(pod);
                continue;
            }
            self.0.insert(pod.uid, at - left_alone);
            again = Some(again.map_or(at, |known: Instant| known.min(at)));
        }
        (due, again)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Idle, Orphans};

    #[test]
    fn an_orphan_goes_after_its_time_and_not_before() {
        let (mut orphans, now) = (Orphans::default(), Instant::now());
        let limit = Duration::from_secs(30);
        let pod = || vec![Idle { name: "w".into(), uid: "u".into() }];
        assert_eq!(orphans.sort(pod(), limit, now), (vec![], Some(now + limit)));
        let half = now + limit / 2;
        assert_eq!(orphans.sort(pod(), limit, half), (vec![], Some(now + limit)));
        assert_eq!(orphans.sort(pod(), limit, now + limit), (pod(), None));
    }
}
