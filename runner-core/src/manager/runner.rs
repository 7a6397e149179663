//! What the manager knows about one runner, and how it asks that runner's source for jobs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::settings::RelaySettings;
use crate::artifact::ArtifactStore;
use crate::cache::CacheStore;
use crate::executor::Executor;
use crate::planner::PlanSettings;
use crate::secrets::SecretStore;
use crate::session::Sessions;
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
    /// Who has values of their variables. `None`: nobody; `secrets:` of a job are missing, with a
    /// warning.
    pub secrets: Option<Arc<dyn SecretStore>>,
    /// Where their caches go. `None`: into the cache directory of their pod only.
    pub cache: Option<Arc<dyn CacheStore>>,
    /// Who lets people look into them. `None`: nobody.
    pub sessions: Option<Arc<dyn Sessions>>,
    /// How they are planned.
    pub plan: PlanSettings,
    /// How their traces are relayed.
    pub relay: RelaySettings,
    /// Most jobs of this runner at once, those of other managers of the same source included as far
    /// as the executor knows of them; 0: no limit of its own. (GitLab Runner's managers do not know of
    /// each other.)
    pub limit: usize,
    /// Time from one request for a job to the next, unless a job was received. Default 3 s.
    pub check_interval: Duration,
    /// Most requests for a job at once. Default 1.
    pub request_concurrency: usize,
    /// Fewer than that while requests bring no jobs, or the source is busy. Default: adaptive.
    pub request_pace: RequestPace,
    /// When to ask again after a job was received. Default: at once.
    pub after_job: AfterJob,
}

/// How many requests of [`Runner::request_concurrency`] are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestPace {
    /// As many as brought jobs lately (GitLab Runner's `FF_USE_ADAPTIVE_REQUEST_CONCURRENCY`).
    #[default]
    Adaptive,
    /// All of them.
    Fixed,
}

/// When a runner asks again after it has received a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterJob {
    /// At once, when a place is free and no other runner's turn has come.
    #[default]
    AskAgain,
    /// Not before its next turn (GitLab Runner's `strict_check_interval`).
    WaitForTurn,
}

// What it is made of is traits of others, which need no `Debug`.
impl fmt::Debug for Runner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Runner")
            .field("name", &self.name)
            .field("plan", &self.plan)
            .field("relay", &self.relay)
            .field("limit", &self.limit)
            .field("check_interval", &self.check_interval)
            .field("request_concurrency", &self.request_concurrency)
            .field("request_pace", &self.request_pace)
            .field("after_job", &self.after_job)
            .finish_non_exhaustive()
    }
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
            secrets: None,
            cache: None,
            sessions: None,
            plan: PlanSettings::default(),
            relay: RelaySettings::default(),
            limit: 0,
            check_interval: Duration::from_secs(3),
            request_concurrency: 1,
            request_pace: RequestPace::default(),
            after_job: AfterJob::default(),
        }
    }
}
