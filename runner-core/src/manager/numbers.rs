//! Small numbers for jobs that run side by side: `CI_CONCURRENT_ID` and `CI_CONCURRENT_PROJECT_ID`.
//!
//! A number is the lowest one that no other job of the same group holds, so directories and pod
//! names that contain it are used again and again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

/// Gives out numbers, by group (the runner, or one of its projects).
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers(Arc<Mutex<HashMap<u64, BTreeSet<u32>>>>);

/// A number that is held; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Number {
    numbers: Numbers,
    group: u64,
    value: u32,
}

impl Numbers {
    pub(crate) fn take(&self, group: u64) -> Number {
        let mut groups = self.0.lock();
        let held = groups.entry(group).or_default();
        let value = (0..)
            .zip(held.iter())
            .find(|(free, used)| free < *used)
            .map_or_else(|| held.last().map_or(0, |last| last + 1), |(free, _)| free);
        held.insert(value);
        Number { numbers: self.clone(), group, value }
    }
}

impl Number {
    pub(crate) fn value(&self) -> u32 {
        self.value
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        let mut groups = self.numbers.0.lock();
        if let Some(held) = groups.get_mut(&self.group) {
            held.remove(&self.value);
            if held.is_empty() {
                groups.remove(&self.group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Numbers;

    #[test]
    fn manager_38_the_lowest_free_number_is_given_out_by_group() {
        let numbers = Numbers::default();
        let held: Vec<_> = (0..3).map(|_| numbers.take(1)).collect();
        assert_eq!(held.iter().map(super::Number::value).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(numbers.take(2).value(), 0);
        let mut held = held;
        held.remove(1);
        assert_eq!(numbers.take(1).value(), 1);
        held.remove(0);
        assert_eq!(numbers.take(1).value(), 0);
        drop(held);
        assert!(numbers.0.lock().is_empty());
    }
}
