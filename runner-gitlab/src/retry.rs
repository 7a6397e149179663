//! When a call is tried again, and how long after: a function of the endpoint and of the answer.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

use crate::settings::RetrySettings;

/// No wait is longer than this, whatever GitLab asks for. GitLab Runner has no bound, so that one
/// header can keep a job's log and its cancel from being noticed for hours.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// How often one call is sent in all.
const ATTEMPTS: u32 = 5;

/// Which call, as far as retries and deadlines differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    RequestJob,
    AcceptJob,
    UpdateJob,
    PatchTrace,
    FinishJob,
    Register,
    Verify,
    Unregister,
    ResetToken,
}

impl Endpoint {
    /// The longest wait that is spent inside the call. A longer one is handed to the caller together
    /// with the answer, who can do better things meanwhile: look after a cancel, shut down.
    fn patience(self) -> Duration {
        match self {
            Self::RequestJob | Self::UpdateJob | Self::PatchTrace => Duration::from_secs(10),
            // A person or a probe waits.
            Self::Register | Self::Verify | Self::Unregister | Self::ResetToken => {
                Duration::from_secs(10)
            }
            // Nobody repeats this one, and without it GitLab gives the job to another runner.
            Self::AcceptJob => Duration::from_secs(60),
            // The caller repeats it, but a verdict that is delivered now is worth a longer wait.
            Self::FinishJob => Duration::from_secs(30),
        }
    }
}

/// What to do about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again after this time.
    Again(Duration),
    /// It stands. `retry_after`: what GitLab said about a next try, at most [`LONGEST_WAIT`].
    Stands { retry_after: Option<Duration> },
}

/// Whether a status means "not now". Transport errors do not come here: whether to repeat a call
/// whose fate is unknown is the caller's decision.
pub(crate) fn is_retryable(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 512..)
}

/// Decides about the answer to attempt number `attempt` (from 1). `jitter` is in `0.0..1.0`.
pub(crate) fn next(
    endpoint: Endpoint,
    settings: &RetrySettings,
    attempt: u32,
    status: u16,
    headers: &HeaderMap,
    now: SystemTime,
    jitter: f64,
) -> Next {
    if !is_retryable(status) {
        return Next::Stands { retry_after: None };
    }
    let asked = asked_for(headers, now).map(|wait| wait.min(LONGEST_WAIT));
    let wait = asked.unwrap_or_else(|| backoff(settings, attempt, jitter));
    if attempt >= ATTEMPTS || wait > endpoint.patience() {
        return Next::Stands { retry_after: asked };
    }
    Next::Again(wait)
}

/// The time that the server names: `RateLimit-ResetTime` when it lies in the future, else
/// `Retry-After` in seconds. Malformed values count as absent.
fn asked_for(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let reset = text("RateLimit-ResetTime")
        .and_then(|value| jiff::fmt::rfc2822::parse(value.trim()).ok())
        .and_then(|time| SystemTime::from(time.timestamp()).duration_since(now).ok())
        .filter(|wait| !wait.is_zero());
    reset.or_else(|| {
        let seconds: u64 = text("Retry-After")?.trim().parse().ok()?;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    })
}

/// Exponential, with full jitter between the first wait and the current step; the first is exact.
fn backoff(settings: &RetrySettings, attempt: u32, jitter: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    let step = settings.first.saturating_mul(1 << doublings).min(settings.longest);
    settings.first.min(step) + step.saturating_sub(settings.first).mul_f64(jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, HeaderName, HeaderValue};
    use rstest::rstest;

    use super::{Endpoint, Next, is_retryable, next};
    use crate::settings::RetrySettings;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    /// 2026-11-20 00:00:00 UTC.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_132_800)
    }

    fn decide(
        endpoint: Endpoint,
        attempt: u32,
        status: u16,
        pairs: &[(&'static str, &str)],
    ) -> Next {
        next(endpoint, &RetrySettings::default(), attempt, status, &headers(pairs), now(), 0.5)
    }

    #[rstest]
    fn api_05_these_statuses_are_tried_again(
        #[values(408, 429, 500, 502, 503, 504, 512, 599)] status: u16,
    ) {
        assert!(is_retryable(status));
    }

    #[rstest]
    fn api_05_these_statuses_stand(
        #[values(200, 201, 202, 204, 400, 401, 403, 404, 409, 412, 413, 416, 422, 501, 505, 511)]
        status: u16,
    ) {
        assert!(!is_retryable(status));
    }

    #[test]
    fn api_05_the_fifth_answer_stands() {
        let waits: Vec<_> = (1..=5).map(|n| decide(Endpoint::PatchTrace, n, 500, &[])).collect();
        assert_eq!(
            waits,
            [
                Next::Again(Duration::from_millis(100)),
                Next::Again(Duration::from_millis(150)),
                Next::Again(Duration::from_millis(250)),
                Next::Again(Duration::from_millis(450)),
                Next::Stands { retry_after: None },
            ]
        );
    }

    const RESET: &str = "RateLimit-ResetTime";
    const AFTER: &str = "Retry-After";

    #[rstest]
    #[case::reset_wins(&[(RESET, "Fri, 20 Nov 2026 00:00:04 GMT"), (AFTER, "7")], 4_000)]
    #[case::reset_in_the_past(&[(RESET, "Thu, 19 Nov 2026 23:59:59 GMT"), (AFTER, "7")], 7_000)]
    #[case::reset_is_nonsense(&[(RESET, "soon"), (AFTER, "7")], 7_000)]
    #[case::after_alone(&[(AFTER, "7")], 7_000)]
    #[case::after_zero(&[(AFTER, "0")], 100)]
    #[case::after_negative(&[(AFTER, "-3")], 100)]
    #[case::after_is_a_date(&[(AFTER, "Fri, 20 Nov 2026 00:00:04 GMT")], 100)]
    #[case::none(&[], 100)]
    fn api_06_reset_time_beats_retry_after_beats_back_off(
        #[case] pairs: &[(&'static str, &str)],
        #[case] wait_ms: u64,
    ) {
        assert_eq!(
            decide(Endpoint::PatchTrace, 1, 429, pairs),
            Next::Again(Duration::from_millis(wait_ms))
        );
    }

    #[rstest]
    #[case(Endpoint::PatchTrace, "60", Some(60))]
    #[case(Endpoint::RequestJob, "60", Some(60))]
    #[case(Endpoint::UpdateJob, "86400", Some(900))]
    #[case(Endpoint::FinishJob, "18446744073709551615", Some(900))]
    fn a_long_wait_is_the_callers_and_bounded(
        #[case] endpoint: Endpoint,
        #[case] after: &str,
        #[case] seconds: Option<u64>,
    ) {
        assert_eq!(
            decide(endpoint, 1, 429, &[(AFTER, after)]),
            Next::Stands { retry_after: seconds.map(Duration::from_secs) }
        );
    }

    #[test]
    fn accepting_a_job_waits_a_minute_because_nobody_repeats_it() {
        assert_eq!(
            decide(Endpoint::AcceptJob, 1, 429, &[(AFTER, "60")]),
            Next::Again(Duration::from_secs(60))
        );
    }

    #[test]
    fn the_last_answer_carries_what_gitlab_asked_for() {
        assert_eq!(
            decide(Endpoint::PatchTrace, 5, 503, &[(AFTER, "7")]),
            Next::Stands { retry_after: Some(Duration::from_secs(7)) }
        );
    }
}
