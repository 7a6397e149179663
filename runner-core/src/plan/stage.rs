//! A stage: what to do, where, when, and what its failure means.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ArchiveCache, CacheStage, Download, GetSources, RestoreCache, Script, Upload};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// Name in section markers and reports, e.g. `get_sources`, `step_script`.
    pub name: String,
    /// Heading in the trace. `None`: no heading and no section.
    pub title: Option<String>,
    /// Which container.
    pub place: Place,
    /// Whether it runs, given how the stages before it went.
    pub when: When,
    /// What its failure means for the job.
    pub on_failure: OnFailure,
    /// How often it is tried, at least 1.
    pub attempts: u32,
    /// Its deadline; the job's applies in any case.
    pub timeout: Option<StageTimeout>,
    /// What to do.
    pub operation: Operation,
}

/// A stage's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimeout {
    /// How long it may take.
    pub limit: Duration,
    /// Stages with the same number here share the limit (all user steps share
    /// `RUNNER_SCRIPT_TIMEOUT`). `None`: it is this stage's own.
    pub shared: Option<u32>,
}

/// Which container a stage runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The helper, with git and the runner's credentials.
    Helper,
    /// The job's own image.
    Build,
}

/// Whether a stage runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Nothing has failed so far.
    Success,
    /// Something has failed (but not the job's own deadline, nor an abort).
    Failure,
    /// A user step was entered, however it ended (but not after the job's deadline or an abort).
    AfterScript,
    /// In any case, even after an abort; it gets `grace` then.
    Always,
}

/// What a failed stage means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The job has failed, unless it had already.
    FailsJob,
    /// A warning in the trace.
    Warns,
    /// Nothing.
    Ignored,
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "operation")]
#[non_exhaustive]
pub enum Operation {
    /// Says where the job runs (`Running on … via …`) and makes the directories.
    Prepare {
        /// Host name of the manager that planned the job.
        via: String,
    },
    /// Brings the checkout into the state that the job wants.
    GetSources(Box<GetSources>),
    /// Fetches and unpacks archives of earlier jobs.
    DownloadArtifacts {
        /// In this order.
        archives: Vec<Download>,
    },
    /// Restores caches. It never fails the job.
    RestoreCaches(CacheStage<RestoreCache>),
    /// Archives caches. It never fails the job.
    ArchiveCaches(CacheStage<ArchiveCache>),
    /// Runs the user's commands in one shell.
    Script(Script),
    /// Packs and hands over archives.
    UploadArtifacts {
        /// In this order.
        archives: Vec<Upload>,
    },
    /// Removes what the runner itself left behind (file variables, credentials).
    Cleanup,
}
