//! Collects exit statuses.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use rustix::process::{Pid, WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How a process ended, as `waitpid` told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ExitStatus {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

impl ExitStatus {
    /// Whether it was status 0.
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

/// Waits for all children of this process, known or not.
///
/// There must be one per process only. Children are registered right after they were started and
/// before anything else is awaited, so none can be reaped unseen.
#[derive(Clone, Debug, Default)]
pub struct Reaper {
    waiting: Rc<RefCell<HashMap<Pid, oneshot::Sender<ExitStatus>>>>,
}

impl Reaper {
    /// The exit status of this child, once it has one.
    pub fn watch(&self, child: Pid) -> oneshot::Receiver<ExitStatus> {
        let (tell, told) = oneshot::channel();
        self.waiting.borrow_mut().insert(child, tell);
        told
    }

    /// Reaps for as long as it is polled; to be spawned on the runtime's own thread.
    ///
    /// # Errors
    /// When the signal handler cannot be installed.
    pub async fn run(self) -> std::io::Result<()> {
        let mut children = signal(SignalKind::child())?;
        loop {
            self.reap();
            if children.recv().await.is_none() {
                return Ok(());
            }
        }
    }

    /// Reaps everybody who has ended by now.
    fn reap(&self) {
        // Signals are merged, so one signal may mean many children.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let status = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => ExitStatus::Exited(code),
                (None, Some(signal)) => ExitStatus::Signalled(signal),
                (None, None) => continue,
            };
            if let Some(tell) = self.waiting.borrow_mut().remove(&pid) {
                // Nobody listening any more is fine: the process is gone all the same.
                let _ = tell.send(status);
            }
        }
    }
}
