//! The frames of the link. Both ends are always of the same release, so there is no version.

use std::time::Duration;

use runner_core::plan::{Directories, PlanVariable, Script};
use runner_core::shell::JobStatus;
use serde::{Deserialize, Serialize};

use crate::process::ExitStatus;
use crate::usage::Usage;

/// Names one run of one script: stage index and attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunId {
    /// The stage's index in the plan.
    pub stage: usize,
    /// Which try, from 1.
    pub attempt: u32,
}

/// A script to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Which run this is.
    pub run: RunId,
    /// The plan's variables.
    pub variables: Vec<PlanVariable>,
    /// Where things lie.
    pub directories: Directories,
    /// What `CI_JOB_STATUS` says.
    pub job_status: JobStatus,
    /// The commands.
    pub script: Script,
    /// Time between TERM and KILL.
    pub grace: Duration,
}

/// How a run stands, for a supervisor that was restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// Which run.
    pub run: RunId,
    /// The first output byte that is still here.
    pub from: u64,
}

/// How to end a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Urge {
    /// TERM to the script's process group, KILL to everything after the grace.
    Stop,
    /// KILL to everything.
    Kill,
}

/// From the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToServe {
    /// Answer to `Hello`.
    Welcome {
        /// To be said when coming back.
        token: String,
        /// Output of the current run is wanted from here.
        from: u64,
    },
    /// Run a script.
    Run(Box<Order>),
    /// Output up to here is safe; it need not be kept.
    Ack {
        /// Bytes since the run began.
        offset: u64,
    },
    /// End the run.
    End(Urge),
}

/// From `serve`, apart from output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromServe {
    /// The first frame.
    Hello {
        /// What `Welcome` said at the first connection.
        token: Option<String>,
        /// The run that is under way or just over.
        run: Option<RunState>,
    },
    /// The script's shell is over and all its output was sent.
    Exited {
        /// Which run.
        run: RunId,
        /// How.
        status: ExitStatus,
        /// Bytes of output in all.
        length: u64,
        /// What its container has used since it began.
        #[serde(default)]
        usage: Usage,
    },
    /// The script begins without these lines of `$GITLAB_ENV`, which are no assignments.
    Skipped {
        /// Which run.
        run: RunId,
        /// Their numbers, from 1.
        lines: Vec<usize>,
    },
    /// The script could not be started.
    Failed {
        /// Which run.
        run: RunId,
        /// Why, for the job's author.
        message: String,
    },
}
