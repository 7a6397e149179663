//! The simulated scheduler and kubelet: pods become processes, and their ends become statuses.
//!
//! ```text
//!   API ── PodOrder ──► pod::Worker ── container::Order ──► container::Container ──► process
//!                            ▲   └──── status ──► Store          │
//!                            └───────────── Report ◄─────────────┘
//! ```

mod container;
mod hosts;
pub(super) mod images;
pub(super) mod log;
pub(super) mod pod;
pub(super) mod process;
mod spec;
mod status;
pub(super) mod strays;
mod volumes;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::AsyncWrite;
use tokio::sync::Mutex;

use self::process::{Mount, Place, Program};
use super::scripted::ScriptedExec;

/// A program's input; closed when taken out.
pub(super) type Stdin = Arc<Mutex<Option<Box<dyn AsyncWrite + Send + Unpin>>>>;

/// A container whose program runs.
#[derive(Clone)]
pub(super) struct Running {
    /// Of its PID 1, on the host.
    pub(super) pid: u32,
    pub(super) env: Vec<(String, String)>,
    pub(super) working_dir: PathBuf,
    /// In plain mode, for replacing paths.
    pub(super) mounts: Vec<Mount>,
    pub(super) plain: bool,
    pub(super) log: Arc<log::Log>,
    pub(super) stdin: Stdin,
    /// Set where there is no process, with the pod's UID.
    pub(super) exec: Option<(ScriptedExec, String)>,
}

impl Running {
    /// A further program in this container.
    pub(super) fn exec(&self, command: Vec<String>, stdin: bool) -> Program {
        let argv = if self.plain {
            command.iter().map(|a| spec::on_host(a, &self.mounts)).collect()
        } else {
            command
        };
        let place = if self.plain { Place::Host } else { Place::Of(self.pid) };
        Program { argv, env: self.env.clone(), working_dir: self.working_dir.clone(), stdin, place }
    }
}
