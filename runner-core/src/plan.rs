//! What the agent runs: a job as data.
//!
//! The planner makes a [`Plan`] out of a [`Job`](crate::job::Job); it travels into the pod as JSON
//! and the agent works through its stages. Operations are data, not shell text; only the user's own
//! commands become a shell script, and that inside the pod, where the shell is known.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod caches;
mod companions;
mod disruption;
mod script;
mod sources;
mod stage;
#[cfg(test)]
mod tests;
mod trace;
mod transfers;

pub use caches::{ArchiveCache, CacheStage, RestoreCache};
pub use companions::{Companions, POD_EVENTS, ServicePlan};
pub use disruption::{Disruption, OnDisruption};
pub use script::{CommandList, Requirement, Script, ScriptLanguage, SourceHooks};
pub use sources::{GetSources, GitLogin, GitStrategy, Nesting, Submodules};
pub use stage::{OnFailure, Operation, Place, Stage, StageTimeout, When};
pub use trace::{HeaderLine, LineLevel, LogSettings};
pub use transfers::{Download, HttpBody, HttpTransfer, Provenance, Transfer, Upload};

use crate::ids::JobId;
use crate::secret::Secret;

/// The version of the plan's format that this build writes.
///
/// New optional fields (with `#[serde(default)]`) do not change it; anything an older agent would
/// get wrong does.
pub const PLAN_VERSION: u32 = 1;

/// Everything the agent has to know to run a job on its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`] of whoever wrote it. The agent refuses what it does not know.
    pub version: u32,
    /// The job, for messages.
    pub job: JobId,
    /// Lines that the trace begins with.
    pub header: Vec<HeaderLine>,
    /// Variables of all stages, expanded, in order; a later one wins.
    pub variables: Vec<PlanVariable>,
    /// Where things lie in the containers.
    pub directories: Directories,
    /// What to do, in order.
    pub stages: Vec<Stage>,
    /// How the trace is made.
    pub log: LogSettings,
    /// Who the job's own commands run as, where the executor knows it beforehand: the checkout is
    /// made as this user then, if the helper may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_user: Option<BuildUser>,
    /// Longest time for all stages together.
    pub timeout: Duration,
    /// How long the agent keeps trace and verdict for a manager after the last stage.
    pub hold: Duration,
    /// How long a process may take to end after TERM before it is killed. Default 10 s.
    pub grace: Duration,
    /// How long to wait before a stage is tried again.
    #[serde(default)]
    pub retry: RetryPauses,
    /// Lines for the trace before the first user step, e.g. which policy made the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
    /// A summary at the end of the trace. `None`: none.
    #[serde(default)]
    pub summary: Option<Summary>,
    /// Containers beside helper and build, which the executor fills in.
    #[serde(default, skip_serializing_if = "Companions::is_none")]
    pub companions: Companions,
    /// The image's own entry point starts the agent in the build container, and may take this long
    /// after the container has started. `None`: the agent is started directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Duration>,
    /// What to do when the pod is told to end while the job runs.
    #[serde(default, skip_serializing_if = "Disruption::is_default")]
    pub disruption: Disruption,
}

/// What a summary says beside what the agent sees itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How long the job waited in the source's queue.
    #[serde(default)]
    pub queued: Option<Duration>,
    /// When the manager got the job, in milliseconds since the Unix epoch by its own clock.
    #[serde(default)]
    pub received_ms: Option<u64>,
}

/// How long to wait before a stage is tried again
/// (`FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY`; GitLab Runner's times).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryPauses {
    /// 5 s, 10 s, 20 s … 5 minutes.
    #[default]
    Exponential,
    /// 1 s, 2 s, 4 s, 5 s, 5 s ….
    Short,
}

impl RetryPauses {
    /// The pause after this attempt, from 1.
    #[must_use]
    pub fn after(self, attempt: u32) -> Duration {
        let (first, longest) = match self {
            Self::Exponential => (5, 300),
            Self::Short => (1, 5),
        };
        let factor = 1_u64.checked_shl(attempt.saturating_sub(1).min(32)).unwrap_or(u64::MAX);
        Duration::from_secs(factor.saturating_mul(first).min(longest))
    }
}

/// A user of the build container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildUser {
    /// Its number.
    pub uid: u32,
    /// Number of its group.
    pub gid: u32,
}

/// A variable as the stages see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanVariable {
    /// Name.
    pub key: String,
    /// Value; for a file variable the content of the file.
    pub value: Secret,
    /// The agent writes the value to `<temp>/<key>` and exports that path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub file: bool,
}

/// Absolute paths, the same in all containers of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directories {
    /// Root of all checkouts, `/builds` by default.
    pub builds: String,
    /// The checkout (`CI_PROJECT_DIR`), below `builds`.
    pub project: String,
    /// Files of the runner for this job (file variables), `<project>.tmp`.
    pub temp: String,
    /// Local cache of this project.
    pub cache: String,
}
/// Why a plan could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanReadError {
    /// Not a plan at all.
    #[error("the plan is not valid JSON of a plan")]
    Malformed(#[from] serde_json::Error),
    /// Written by another release.
    #[error(
        "the plan has format version {found}, this agent understands {PLAN_VERSION}; \
         use the agent image of the manager's release"
    )]
    Version {
        /// What the plan says.
        found: u32,
    },
}

impl Plan {
    /// The plan as it travels into the pod.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a plan has string keys only and no fallible Serialize")
    }

    /// Reads what [`Plan::to_json`] wrote.
    ///
    /// # Errors
    /// When it is no plan, or of a version that this build does not understand.
    pub fn from_json(bytes: &[u8]) -> Result<Self, PlanReadError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        // The version first: a later format may not even have the same fields.
        let Version { version } = serde_json::from_slice(bytes)?;
        if version != PLAN_VERSION {
            return Err(PlanReadError::Version { found: version });
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The same plan with all its directories below `root`, for running it outside a container.
    ///
    /// Values of variables that begin with one of the directories follow.
    #[must_use]
    pub fn relocated(mut self, root: &str) -> Self {
        let old = self.directories.clone();
        let below = |path: &str| format!("{}{path}", root.trim_end_matches('/'));
        for variable in &mut self.variables {
            let value = variable.value.expose();
            let inside = [&old.builds, &old.cache, &old.project, &old.temp].iter().any(|dir| {
                value.strip_prefix(dir.as_str()).is_some_and(|rest| {
                    rest.is_empty() || rest.starts_with('/') || rest.starts_with('.')
                })
            });
            if inside && !variable.file {
                variable.value = Secret::new(below(value));
            }
        }
        self.directories = Directories {
            builds: below(&old.builds),
            project: below(&old.project),
            temp: below(&old.temp),
            cache: below(&old.cache),
        };
        self
    }
}
