//! An executor of local processes: the same agent, the same plan, no containers.
//!
//! It is a stand-in for a cluster: nothing isolates the jobs from this machine or from each other.
//! What it does prove is the whole way from a plan to a verdict, and that the
//! [`Executor`] trait fits something that is not Kubernetes. Like a pod, a job goes on
//! when its manager dies, and the next one [`recover`](Executor::recover)s it.

mod follower;
mod record;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use runner_core::executor::{Executor, ExecutorError, ExecutorErrorKind, JobHandle, JobRequest};

use follower::LocalHandle;
use record::Record;

/// Runs each job as two processes of the agent program in a directory of its own.
///
/// ```
/// use runner_core::executor::{Executor, JobPhase, JobRequest};
/// use runner_core::ids::JobId;
/// use runner_core::job::Job;
/// use runner_core::planner::{self, PlanSettings, Transfers};
/// use runner_core::source::Ticket;
/// use runner_testkit::local::LocalExecutor;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let job = Job::new(JobId(7), "unit", ["echo hello"]);
/// let plan = planner::plan(&job, &PlanSettings::default(), Transfers::default())?;
/// let directory = tempfile::tempdir()?;
/// let agent = ["podwright".to_owned(), "agent".to_owned()];
///
/// let executor = LocalExecutor::new(directory.path(), agent.clone());
/// drop(executor.reserve(JobRequest::new(&job, &plan, &Ticket("7".into()))).await?);
///
/// // The manager has died. The next one finds the job, which it may start, or give back as here.
/// let next = LocalExecutor::new(directory.path(), agent);
/// let mut found = next.recover().await?;
/// assert_eq!((found[0].id(), found[0].phase()), (JobId(7), JobPhase::Reserved));
/// found[0].dispose().await?;
/// assert!(next.leftovers().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LocalExecutor {
    root: PathBuf,
    agent: Vec<String>,
    shell: PathBuf,
}

impl LocalExecutor {
    /// Keeps jobs below `root` and runs `agent`: a program and the arguments before the agent's own,
    /// e.g. `["podwright", "agent"]`.
    pub fn new(root: impl Into<PathBuf>, agent: impl IntoIterator<Item = String>) -> Self {
        let shell = PathBuf::from("/bin/sh");
        Self { root: root.into(), agent: agent.into_iter().collect(), shell }
    }

    /// The shell for machines that have none in the usual places. Default: `/bin/sh`.
    #[must_use]
    pub fn shell(mut self, shell: impl Into<PathBuf>) -> Self {
        self.shell = shell.into();
        self
    }

    /// Directory of a job, for tests that look at its spool.
    #[must_use]
    pub fn directory(&self, job: runner_core::ids::JobId) -> PathBuf {
        self.root.join(format!("job-{job}"))
    }

    /// What is left of jobs: nothing, when all were disposed of.
    #[must_use]
    pub fn leftovers(&self) -> Vec<PathBuf> {
        directories(&self.root)
    }

    /// Starts a job's supervisor again in the same directory, as a kubelet restarts a container.
    ///
    /// # Errors
    /// When there is no such job, or the program cannot be started.
    pub async fn restart_supervisor(&self, job: runner_core::ids::JobId) -> std::io::Result<()> {
        let directory = self.directory(job);
        let record = Record::read(&directory)?
            .ok_or_else(|| std::io::Error::other("there is no record of this job"))?;
        self.handle(directory, record).spawn("supervise")
    }

    /// Kills what runs a job and removes what it wrote down, as the loss of a node would.
    ///
    /// # Errors
    /// When there is no such job, or its files cannot be removed.
    pub fn destroy(&self, job: runner_core::ids::JobId) -> std::io::Result<()> {
        let directory = self.directory(job);
        let record = Record::read(&directory)?
            .ok_or_else(|| std::io::Error::other("there is no record of this job"))?;
        self.handle(directory.clone(), record).kill();
        std::fs::remove_dir_all(directory.join("state"))
    }

    fn handle(&self, directory: PathBuf, record: Record) -> LocalHandle {
        LocalHandle::new(self.agent.clone(), self.shell.clone(), directory, record)
    }
}

fn directories(root: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(root)
        .map(|entries| {
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
        })
        .unwrap_or_default()
}

#[async_trait]
impl Executor for LocalExecutor {
    async fn reserve<'a>(
        &self,
        request: JobRequest<'a>,
    ) -> Result<Box<dyn JobHandle>, ExecutorError> {
        let directory = self.directory(request.job.id);
        let record = Record::create(&directory, &request).map_err(unavailable)?;
        Ok(Box::new(self.handle(directory, record)))
    }

    async fn recover(&self) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError> {
        let mut handles: Vec<Box<dyn JobHandle>> = Vec::new();
        for directory in directories(&self.root) {
            let Some(mut record) = Record::read(&directory).map_err(unavailable)? else {
                // Killed before the record was whole: nobody was told of this job.
                std::fs::remove_dir_all(&directory).map_err(unavailable)?;
                continue;
            };
            record.epoch.0 += 1;
            record.write(&directory).map_err(unavailable)?;
            handles.push(Box::new(self.handle(directory, record)));
        }
        Ok(handles)
    }
}

fn unavailable(error: std::io::Error) -> ExecutorError {
    ExecutorError::new(ExecutorErrorKind::Unavailable, "the job's directory cannot be used")
        .caused_by(error)
}
