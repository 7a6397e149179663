//! How a manager relays jobs.

use std::time::Duration;

/// Times of the relay between a job and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySettings {
    /// Time between two pieces of trace until the source asks for another. Default 3 s, GitLab
    /// Runner's.
    pub interval: Duration,
    /// How long the source may hear nothing of a running job. Default 30 s, GitLab Runner's.
    pub keep_alive: Duration,
    /// Whether that changes with the interval. Default: no.
    pub keep_alive_pace: KeepAlivePace,
    /// Longest pause between two tries to reach the source. Default 60 s.
    pub longest_pause: Duration,
    /// How long a verdict is offered to a source that does not take it. Default 1 h.
    pub give_up: Duration,
    /// After how long a waiting job says in its trace what it waits for. Default 10 s.
    pub slow_start: Duration,
    /// Whether lines that the manager adds to a trace carry a time. Default yes.
    pub timestamps: bool,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(3),
            keep_alive: Duration::from_secs(30),
            keep_alive_pace: KeepAlivePace::Fixed,
            longest_pause: Duration::from_secs(60),
            give_up: Duration::from_secs(3600),
            slow_start: Duration::from_secs(10),
            timestamps: true,
        }
    }
}

/// How often the source hears of a job that prints nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepAlivePace {
    /// As [`RelaySettings::keep_alive`] says.
    #[default]
    Fixed,
    /// Every four intervals once the source asks for one, 30 s to 30 min (GitLab Runner's
    /// `FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL`).
    FollowsInterval,
}
