//! Whether GitLab accepts this runner at all. Only a refusal of the token counts against it: an
//! unreachable or overloaded GitLab is asked again at the usual pace (`gitlab-api.md` 7.2).

use std::time::Duration;

use tokio::time::Instant;

use crate::settings::HealthSettings;

/// A snapshot of how a runner stands with its GitLab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Refusals in a row. It is the number behind
    /// `gitlab_runner_worker_health_check_failures_total` since the last good answer.
    pub failures: u32,
    /// How long until GitLab is asked again. `None`: it is asked at the usual pace.
    pub resumes_in: Option<Duration>,
}

impl Health {
    /// Whether GitLab is asked for jobs at the moment.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.resumes_in.is_none()
    }
}

/// The record behind [`Health`]. Time is an argument, so the rules are tested as a function.
#[derive(Debug)]
pub(crate) struct Record {
    settings: HealthSettings,
    failures: u32,
    /// The last healthy answer, or when the record was made. Not the last refusal: that would let
    /// the interval grow with every poll that slips through.
    since: Instant,
}

impl Record {
    pub(crate) fn new(settings: HealthSettings, now: Instant) -> Self {
        Self { settings, failures: 0, since: now }
    }

    pub(crate) fn healthy(&mut self, now: Instant) {
        self.failures = 0;
        self.since = now;
    }

    pub(crate) fn refused(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Whether to ask now. When the interval has passed this starts afresh.
    pub(crate) fn may_ask(&mut self, now: Instant) -> Result<(), Duration> {
        match self.snapshot(now).resumes_in {
            Some(wait) => Err(wait),
            None => {
                if self.failures >= self.limit() {
                    self.healthy(now);
                }
                Ok(())
            }
        }
    }

    pub(crate) fn snapshot(&self, now: Instant) -> Health {
        let rest = self.settings.interval.saturating_sub(now.saturating_duration_since(self.since));
        let resting = self.failures >= self.limit() && !rest.is_zero();
        Health { failures: self.failures, resumes_in: resting.then_some(rest) }
    }

    fn limit(&self) -> u32 {
        if self.settings.limit == 0 { HealthSettings::default().limit } else { self.settings.limit }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Record;
    use crate::settings::HealthSettings;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn api_20_three_refusals_in_a_row_and_gitlab_is_left_alone_for_an_hour() {
        let start = Instant::now();
        let mut record = Record::new(HealthSettings::default(), start);
        record.refused();
        record.refused();
        assert_eq!(record.may_ask(start + 9 * MINUTE), Ok(()));
        record.refused();
        // An hour from the last healthy answer, not from the third refusal.
        assert_eq!(record.may_ask(start + 10 * MINUTE), Err(50 * MINUTE));
        assert!(!record.snapshot(start + 59 * MINUTE).is_healthy());
        // Then it starts afresh.
        assert_eq!(record.may_ask(start + 60 * MINUTE), Ok(()));
        record.refused();
        assert_eq!(record.may_ask(start + 61 * MINUTE), Ok(()));
        assert_eq!(record.snapshot(start + 61 * MINUTE).failures, 1);
    }

    #[test]
    fn api_20_a_healthy_answer_forgets_earlier_refusals() {
        let start = Instant::now();
        let mut record = Record::new(HealthSettings::default(), start);
        record.refused();
        record.refused();
        record.healthy(start + MINUTE);
        record.refused();
        record.refused();
        assert_eq!(record.may_ask(start + 2 * MINUTE), Ok(()));
    }

    #[test]
    fn a_limit_of_zero_means_the_default() {
        let start = Instant::now();
        let settings = HealthSettings { limit: 0, interval: MINUTE };
        let mut record = Record::new(settings, start);
        assert_eq!(record.may_ask(start), Ok(()));
        (0..3).for_each(|_| record.refused());
        assert_eq!(record.may_ask(start), Err(MINUTE));
    }
}
