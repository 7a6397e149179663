//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double from try to try up to a limit.
///
/// No jitter: every job has its own rhythm already, because it began at its own time.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, next: first }
    }

    /// The wait before the next try, but at least what the other side asked for (capped at
    /// 15 minutes: GitLab Runner sleeps for as long as a `Retry-After` says, without a bound).
    pub(crate) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        const LONGEST_ASKED: Duration = Duration::from_secs(15 * 60);
        let wait = self.next;
        self.next = (self.next * 2).min(self.limit);
        wait.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn waits_double_up_to_the_limit_and_begin_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3));
        let waits: Vec<_> = (0..4).map(|_| backoff.wait(None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 3, 3]);
        backoff.reset();
        assert_eq!(backoff.wait(None).as_secs(), 1);
    }

    #[test]
    fn what_the_other_side_asks_for_is_kept_but_not_without_end() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3));
        assert_eq!(backoff.wait(Some(Duration::from_secs(20))).as_secs(), 20);
        assert_eq!(backoff.wait(Some(Duration::from_secs(86_400))).as_secs(), 900);
    }
}
