//! What the manager knows about one runner, and how it asks that runner's source for jobs.

use std::sync::Arc;
use std::time::Duration;

use super::settings::RelaySettings;
use crate::artifact::ArtifactStore;
use crate::executor::Executor;
use crate::planner::PlanSettings;
use crate::source::JobSource;

/// One source of jobs and the executor that runs them: what a `[[runners]]` entry is to GitLab Runner.
#[derive(Clone)]
pub struct Runner {
    /// Name, for logs.
    pub name: String,
    /// Where jobs come from.
    pub source: Arc<dyn JobSource>,
    /// Where they run.
    pub executor: Arc<dyn Executor>,
    /// Where their archives go. `None`: nowhere; `artifacts:` of a job is ignored.
    pub artifacts: Option<Arc<dyn ArtifactStore>>,
    /// How they are planned.
    pub plan: PlanSettings,
    /// How their traces are relayed.
    pub relay: RelaySettings,
    /// Most jobs of this runner at once; 0: no limit of its own.
    pub limit: usize,
    /// Pause after the source had no job, or did not answer. Default 3 s.
    pub check_interval: Duration,
}

impl Runner {
    /// A runner with default settings.
    pub fn new(
        name: impl Into<String>,
        source: Arc<dyn JobSource>,
        executor: Arc<dyn Executor>,
    ) -> Self {
        Self {
            name: name.into(),
            source,
            executor,
            artifacts: None,
            plan: PlanSettings::default(),
            relay: RelaySettings::default(),
            limit: 0,
            check_interval: Duration::from_secs(3),
        }
    }
}
