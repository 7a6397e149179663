//! What there is to say about pause pods, for metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts of one runner's pause pods. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub struct PauseNumbers(Arc<Mutex<Numbers>>);

/// See [`PauseNumbers::now`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// How many are wanted.
    pub desired: u32,
    /// How many the Deployment asks for.
    pub current: u32,
    /// Failures by GitLab Runner's reasons: `get_deployment`, `apply_state`.
    pub errors: BTreeMap<&'static str, u64>,
    /// How often there were to be more.
    pub scaled_up: u64,
    /// How often there were to be fewer.
    pub scaled_down: u64,
}

impl PauseNumbers {
    /// The numbers now.
    #[must_use]
    pub fn now(&self) -> Numbers {
        self.0.lock().clone()
    }

    pub(super) fn wanted(&self, replicas: u32) {
        self.0.lock().desired = replicas;
    }

    pub(super) fn applied(&self, before: Option<u32>, replicas: u32) {
        let mut numbers = self.0.lock();
        numbers.current = replicas;
        match replicas.cmp(&before.unwrap_or(0)) {
            std::cmp::Ordering::Greater => numbers.scaled_up += 1,
            std::cmp::Ordering::Less => numbers.scaled_down += 1,
            std::cmp::Ordering::Equal => {}
        }
    }

    pub(super) fn failed(&self, reason: &'static str) {
        *self.0.lock().errors.entry(reason).or_default() += 1;
    }
}
