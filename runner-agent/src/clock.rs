//! Wall clock and durations as people (and GitLab Runner) write them.

use std::time::{Duration, SystemTime};

/// Milliseconds since the Unix epoch by this machine's clock.
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// `1h0m0s`, `2m30s`, `1.5s`, `250ms`: the way Go prints durations, which the messages of GitLab
/// Runner show.
pub fn in_words(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    if duration < Duration::from_secs(1) {
        return format!("{}ms", duration.as_millis());
    }
    let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
    let seconds = Duration::new(duration.as_secs() % 60, duration.subsec_nanos()).as_secs_f64();
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    #[rstest]
    #[case(3600.0, "1h0m0s")]
    #[case(150.0, "2m30s")]
    #[case(1.5, "1.5s")]
    #[case(0.25, "250ms")]
    #[case(0.0, "0s")]
    #[case(7325.0, "2h2m5s")]
    fn durations_read_like_those_of_gitlab_runner(#[case] seconds: f64, #[case] words: &str) {
        assert_eq!(super::in_words(Duration::from_secs_f64(seconds)), words);
    }
}
