//! Signals, and how far they stop the manager.
//!
//! As GitLab Runner's: QUIT finishes the running jobs first, TERM and INT end soon, one more ends at
//! once. What TERM does to running jobs is a setting: they go on in their pods, or are stopped.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that mean something. Made first of all: one that comes before that kills the process
/// without a word.
pub(super) struct Signals {
    quit: Signal,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Finish what runs, then end.
    Drain(&'static str),
    /// End soon.
    Terminate(&'static str),
    /// Read the configuration.
    Reload,
}

impl Signals {
    pub(super) fn install() -> std::io::Result<Self> {
        Ok(Self {
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.quit.recv() => Asked::Drain("quit"),
            _ = self.terminate.recv() => Asked::Terminate("terminated"),
            _ = self.interrupt.recv() => Asked::Terminate("interrupt"),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}
