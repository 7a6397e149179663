//! Which runners there are, and how that changes while the manager runs.

use std::sync::Arc;

use tokio::sync::watch;

use super::runner::Runner;

/// The runners of a manager, and how many jobs they run together.
#[derive(Clone, Debug)]
pub struct Roster {
    /// Most jobs at once; 0: as many as come. A lower number than jobs are running ends none of
    /// them.
    pub concurrent: usize,
    /// In the order of their turns. A runner that is the same `Arc` as before goes on as it was. One
    /// that is another value for the same source takes its place: jobs that run go on as they began,
    /// and count against its limit. One that is missing asks for no more jobs.
    pub runners: Vec<Arc<Runner>>,
}

/// Changes a running [`Manager`](super::Manager).
#[derive(Clone, Debug)]
pub struct Control(pub(super) watch::Sender<Roster>);

impl Control {
    /// The runners from now on. Takes effect at once, and never interrupts a job.
    pub fn set(&self, roster: Roster) {
        self.0.send_replace(roster);
    }
}
