//! How often an image may fail to be pulled for a reason that may pass.

use std::collections::BTreeMap;

use crate::classify::{End, FailedPull, PullPhase};

/// A kubelet pauses 10 s after the first failure and 20 s after the second, so the third comes
/// within about a minute, unless the registry answers slowly; `poll_timeout` bounds that.
const MOST_FAILURES: u32 = 3;

/// The failures of one pod's pulls, by container.
#[derive(Debug, Default)]
pub(super) struct Pulls(BTreeMap<String, Count>);

#[derive(Debug)]
struct Count {
    failures: u32,
    phase: PullPhase,
}

impl Pulls {
    /// Takes in how pulls stand now. Gives the job's end when one of them has failed too often.
    ///
    /// A failure that nobody saw, because two changes came as one, is not counted: the job then
    /// waits for one more.
    pub(super) fn take_in(&mut self, failed: &[FailedPull]) -> Option<End> {
        let mut out = None;
        for pull in failed {
            let known = self.0.entry(pull.container.clone());
            // A pause that comes first follows a failure, too.
            let count = known.or_insert(Count { failures: 0, phase: PullPhase::Pause });
            let again = pull.phase == PullPhase::Failed && count.phase == PullPhase::Pause;
            if again || count.failures == 0 {
                count.failures += 1;
            }
            count.phase = pull.phase;
            if count.failures >= MOST_FAILURES {
                out.get_or_insert_with(|| pull.end.clone());
            }
        }
        out
    }
}
