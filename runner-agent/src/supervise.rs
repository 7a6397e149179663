//! PID 1 of the helper container: runs the job.
//!
//! Here is what it has around it; `job` works through the stages, `attempt` runs one of them once,
//! `interruption` waits for what ends it from outside.
//!
//! ```text
//!   plan ──► Supervisor::run ──► stages in helper ─┐
//!                 │       └────► Builder (scripts) ─┼─► Recorder ──► sessions ──► managers
//!                 └─ deadlines, wishes ─────────────┘
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use runner_core::layout;
use runner_core::outcome::{Outcome, Verdict};
use runner_core::plan::{Plan, PlanReadError};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

mod attempt;
mod interruption;
mod job;

use self::job::Supervisor;
use crate::builder::{Builder, Door, SocketDoor};
use crate::control::Control;
use crate::disruption::obey_the_order_to_end;
use crate::plan_file;
use crate::process::{Reaper, become_reaper_of_descendants, protect_memory};
use crate::recorder::Recorder;
use crate::session::{Callers, ManagerSocket, serve_managers};
use crate::stages::ownership;
use crate::waiting::{PLAN_FILE, wait_for_plan};

/// Longest termination message that the kubelet keeps.
const TERMINATION_MESSAGE: usize = 4096;

/// How `supervise` is set up.
#[derive(Clone, Debug)]
pub struct SuperviseOptions {
    /// Directory with `plan.0`, `plan.1`, ….
    pub plan: PathBuf,
    /// Directory for spool, journal and control socket.
    pub state: PathBuf,
    /// Directory for the build container's socket.
    pub link: PathBuf,
    /// Put before all directories of the plan, when this is not a container.
    pub root: Option<String>,
    /// Where the kubelet reads the last words.
    pub termination_log: PathBuf,
    /// There is no plan yet: a manager brings it, within this time.
    pub wait: Option<Duration>,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuperviseError {
    /// The plan's files cannot be read.
    #[error("cannot read the plan in {path}")]
    PlanFiles {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The plan is none.
    #[error(transparent)]
    Plan(#[from] PlanReadError),
    /// Trace or journal cannot be written.
    #[error("cannot keep the job's log and state")]
    Keep(#[from] io::Error),
}

/// Runs the job, keeps trace and verdict until a manager says that the source has them, or until
/// the plan's time for that is over.
///
/// # Errors
/// When there is no usable plan or no place for the trace.
pub async fn supervise(options: &SuperviseOptions, reaper: Reaper) -> Result<(), SuperviseError> {
    protect_memory()?;
    // Who was started here shall not pass for somebody from outside by losing its parent, not even
    // where containers share a process namespace.
    become_reaper_of_descendants()?;
    ownership::share_with_group();
    fs::create_dir_all(&options.state)?;
    // Before anything else: who comes now does not have to try again later.
    let door = SocketDoor::listen(options.link.join(layout::SOCKET))?;
    let socket = options.state.join(layout::CONTROL);
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(&socket)?;
    let mut first = None;
    if let Some(patience) = options.wait
        && !options.state.join(PLAN_FILE).exists()
    {
        first = tokio::select! {
            waited = wait_for_plan(&listener, &options.state, patience) => waited?,
            () = terminated() => None,
        };
        if first.is_none() {
            return Ok(());
        }
    }
    let directory = if options.wait.is_some() { &options.state } else { &options.plan };
    let plan = plan_file::read(directory, options.root.as_deref())?;
    let recorder = Recorder::open(&options.state, &plan.log)?;
    let control = Control::new(&plan, recorder);
    let mut orders = signal(SignalKind::terminate())?;
    let told_to_end = async {
        while orders.recv().await.is_some() {
            control.told_to_end();
        }
    };
    let surroundings = Surroundings {
        door,
        callers: ManagerSocket { listener, first },
        termination_log: &options.termination_log,
    };
    tokio::select! {
        result = supervise_in(surroundings, &plan, &control, &reaper) => Ok(result?),
        () = told_to_end => Ok(()),
    }
}

/// What a supervisor has around it; in a pod these are sockets.
#[derive(Debug)]
pub struct Surroundings<'a, D, C> {
    /// Where the build container comes in.
    pub door: D,
    /// Where managers come in.
    pub callers: C,
    /// Where the kubelet reads the last words.
    pub termination_log: &'a Path,
}

/// Runs the job of this plan, or goes on where an earlier supervisor was killed, and keeps trace and
/// verdict as [`supervise`] does. It installs nothing in its process, so that any number can run in
/// one.
///
/// # Errors
/// When trace or journal cannot be written.
pub async fn supervise_in<D: Door, C: Callers>(
    surroundings: Surroundings<'_, D, C>,
    plan: &Plan,
    control: &Rc<Control>,
    reaper: &Reaper,
) -> io::Result<()> {
    let Surroundings { door, callers, termination_log } = surroundings;
    let job = async {
        let known = control.recorder.borrow().state().verdict.clone();
        let verdict = match known {
            Some(verdict) => verdict,
            None => {
                let builder = Builder::new(door, Rc::clone(control));
                Supervisor::new(plan, control, reaper, builder).run().await?
            }
        };
        // The watch on the pod shows it even to a manager that may not exec.
        let _ = fs::write(termination_log, last_words(&verdict));
        let _ = timeout(plan.hold, control.released()).await;
        Ok(())
    };
    tokio::select! {
        result = job => result,
        () = serve_managers(callers, Rc::clone(control)) => Ok(()),
        () = obey_the_order_to_end(control) => Ok(()),
    }
}

/// Waits for the order to end; PID 1 gets none that it does not ask for.
async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    }
}

/// The verdict for the termination message: without the stages where they do not fit.
fn last_words(verdict: &Verdict) -> Vec<u8> {
    let whole = serde_json::to_vec(verdict).unwrap_or_default();
    if whole.len() <= TERMINATION_MESSAGE {
        return whole;
    }
    let mut short = Verdict { stages: Vec::new(), ..verdict.clone() };
    if let Outcome::Infra(infra) = &mut short.outcome {
        let end = infra.message.floor_char_boundary(1024);
        infra.message.truncate(end);
    }
    serde_json::to_vec(&short).unwrap_or_default()
}
