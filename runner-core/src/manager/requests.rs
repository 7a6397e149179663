//! How many requests for a job a token may have under way (`gitlab-api.md` 7.4). A function of what
//! earlier requests came to.

/// What a request came to, as far as the number of the next ones depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestEnd {
    /// It brought a job.
    Job,
    /// It brought none.
    Empty,
    /// The source was too busy.
    Throttled,
}

/// The adaptive limit of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct AdaptiveLimit(f64);

impl AdaptiveLimit {
    /// How many may be under way now.
    pub(crate) fn used(self, hard: usize) -> usize {
        let hard = hard.max(1);
        // Both small: a token has tens of requests at most.
        (self.0.ceil() as usize).clamp(1, hard)
    }

    /// The value behind it.
    pub(crate) fn value(self) -> f64 {
        self.0
    }

    /// After a request.
    pub(crate) fn adapt(&mut self, end: RequestEnd, hard: usize) {
        let factor = match end {
            RequestEnd::Job => 1.1,
            RequestEnd::Empty => 0.95,
            RequestEnd::Throttled => 0.5,
        };
        self.0 = (self.0 * factor).clamp(1.0, hard.max(1) as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::{AdaptiveLimit, RequestEnd};

    #[test]
    fn manager_18_jobs_raise_the_limit_empty_answers_lower_it_and_a_busy_source_halves_it() {
        let mut limit = AdaptiveLimit::default();
        assert_eq!(limit.used(5), 1);
        limit.adapt(RequestEnd::Job, 5);
        assert_eq!(limit.value(), 1.0, "the first release only lifts it from 0 to 1");
        limit.adapt(RequestEnd::Job, 5);
        assert_eq!(limit.used(5), 2, "from 1.1 on two are allowed");
        for _ in 0..100 {
            limit.adapt(RequestEnd::Job, 5);
        }
        assert_eq!((limit.value(), limit.used(5)), (5.0, 5));
        limit.adapt(RequestEnd::Empty, 5);
        assert_eq!(limit.value(), 4.75);
        limit.adapt(RequestEnd::Throttled, 5);
        assert_eq!(limit.value(), 2.375);
        for _ in 0..100 {
            limit.adapt(RequestEnd::Empty, 5);
        }
        assert_eq!(limit.value(), 1.0);
    }

    #[test]
    fn a_limit_that_was_lowered_counts_at_once() {
        let mut limit = AdaptiveLimit::default();
        for _ in 0..100 {
            limit.adapt(RequestEnd::Job, 9);
        }
        assert_eq!(limit.used(2), 2);
        assert_eq!(limit.used(0), 1);
    }
}
