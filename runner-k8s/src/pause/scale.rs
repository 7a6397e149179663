//! How many pause pods there shall be. Pure.

use jiff::Timestamp;
use tokio::time::Instant;

use crate::settings::{Autoscaler, Policy};

/// Decides, and remembers since when there are too many.
#[derive(Debug)]
pub(crate) struct Scaler {
    settings: Autoscaler,
    current: u32,
    /// When as many as there are were wanted last.
    wanted: Option<Instant>,
}

/// See [`Scaler::decide`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// So many shall there be.
    pub(crate) replicas: u32,
    /// When fewer may be enough, if nothing else changes.
    pub(crate) again: Option<Instant>,
}

impl Scaler {
    pub(crate) fn new(settings: Autoscaler) -> Self {
        Self { settings, current: 0, wanted: None }
    }

    /// How many with so many jobs. More come at once; fewer after the policy's idle time, and then
    /// it begins anew, as in GitLab Runner.
    pub(crate) fn decide(&mut self, now: Instant, time: Timestamp, jobs: usize) -> Decision {
        let policy = self.settings.policies.iter().rev().find(|p| p.schedule.applies(time));
        let desired = policy.map_or(0, |policy| desired(policy, jobs));
        let desired = desired.min(self.settings.most.unwrap_or(u32::MAX));
        if desired >= self.current {
            (self.current, self.wanted) = (desired, Some(now));
            return Decision { replicas: desired, again: None };
        }
        let idle = policy.map_or(std::time::Duration::ZERO, |policy| policy.idle_time);
        let until = self.wanted.unwrap_or(now) + idle;
        if until > now {
            return Decision { replicas: self.current, again: Some(until) };
        }
        (self.current, self.wanted) = (desired, Some(now));
        Decision { replicas: desired, again: None }
    }

    /// Whether the number may change with the minute.
    pub(crate) fn varies(&self) -> bool {
        self.settings.policies.iter().any(|policy| policy.schedule.varies())
    }
}

fn desired(policy: &Policy, jobs: usize) -> u32 {
    // A float holds every number of jobs exactly; what is beyond the range of the result is cut off.
    let scaled = (policy.scale_factor * jobs as f64).ceil() as u32;
    policy.idle_count.max(scaled.min(policy.scale_limit.unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use tokio::time::Instant;

    use super::Scaler;
    use crate::schedule::Schedule;
    use crate::settings::{Autoscaler, Policy};

    fn policy(period: &str, idle_count: u32, scale_factor: f64) -> Policy {
        let periods: Vec<String> =
            (!period.is_empty()).then(|| period.into()).into_iter().collect();
        Policy {
            schedule: Schedule::parse(&periods, "UTC").unwrap(),
            idle_count,
            idle_time: Duration::from_secs(300),
            scale_factor,
            scale_limit: Some(6),
        }
    }

    fn scaler(policies: Vec<Policy>, most: Option<u32>) -> Scaler {
        let (image, priority_class) = ("pause".to_owned(), "class".to_owned());
        Scaler::new(Autoscaler { most, image, priority_class, pull_secrets: vec![], policies })
    }

    fn noon() -> Timestamp {
        "2026-03-04T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn k8s_91_pause_pods_follow_the_jobs_up_to_the_limits() {
        let now = Instant::now();
        for (jobs, most, expected) in
            [(0, None, 2), (1, None, 2), (3, None, 5), (9, None, 6), (9, Some(4), 4)]
        {
            let mut scaler = scaler(vec![policy("", 2, 1.5)], most);
            assert_eq!(scaler.decide(now, noon(), jobs).replicas, expected, "{jobs} {most:?}");
        }
    }

    #[test]
    fn k8s_91_the_last_policy_that_applies_counts_and_without_one_there_are_none() {
        let now = Instant::now();
        let policies = || vec![policy("* 8-18 * * *", 2, 0.0), policy("* 12 * * *", 7, 0.0)];
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(scaler(policies(), None).decide(now, noon(), 0).replicas, 7);
        let morning = at("2026-03-04T09:00:00Z");
        assert_eq!(scaler(policies(), None).decide(now, morning, 0).replicas, 2);
        let night = at("2026-03-04T23:00:00Z");
        assert_eq!(scaler(policies(), None).decide(now, night, 50).replicas, 0);
    }

    #[test]
    fn k8s_91_fewer_come_after_the_idle_time_and_more_at_once() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut scaler = scaler(vec![policy("", 1, 1.0)], None);
        assert_eq!(scaler.decide(start, noon(), 5).replicas, 5);
        let decision = scaler.decide(after(10), noon(), 2);
        assert_eq!((decision.replicas, decision.again), (5, Some(after(300))));
        // Wanted again: the time begins anew.
        assert_eq!(scaler.decide(after(200), noon(), 5).replicas, 5);
        assert_eq!(scaler.decide(after(400), noon(), 0).replicas, 5);
        assert_eq!(scaler.decide(after(500), noon(), 0).replicas, 1);
        assert_eq!(scaler.decide(after(501), noon(), 6).replicas, 6);
    }
}
