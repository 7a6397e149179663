//! Writes jobs down and finds them again.

use std::fs;
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use runner_core::executor::{
    Executor, ExecutorError, ExecutorErrorKind, JobHandle, JobRequest, Remarks,
};
use runner_core::ids::{Epoch, JobId};
use runner_core::outcome::{Infra, InfraKind, Outcome};
use runner_core::plan::{Operation, Plan};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::follower::Follower;
use crate::record::{GROUP, PLAN, Place, Record, places};

/// Runs jobs as processes of this machine.
#[derive(Clone, Debug)]
pub struct Processes {
    root: PathBuf,
    program: PathBuf,
}

impl Processes {
    /// Keeps jobs below the directory `root`, which is there and belongs to this source alone.
    /// `program` runs one of them: it calls [`supervise`](crate::supervise).
    pub fn new(root: impl Into<PathBuf>, program: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), program: program.into() }
    }

    fn place(&self, job: JobId) -> Place {
        Place(self.root.join(job.to_string()))
    }

    fn follower(&self, place: Place, record: Record) -> Box<dyn JobHandle> {
        Box::new(Follower::new(self.program.clone(), place, record))
    }

    /// Ends what runs a job and removes its files, as the loss of the machine would: for tests.
    ///
    /// # Errors
    /// When the files cannot be removed.
    pub fn destroy(&self, job: JobId) -> io::Result<()> {
        let place = self.place(job);
        if let Ok(Some(group)) = place.read::<i32>(GROUP)
            && let Some(group) = Pid::from_raw(group)
        {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
        place.remove()
    }
}

/// What this executor cannot do, in the words of the job's author.
fn unable(plan: &Plan) -> Option<&'static str> {
    plan.stages.iter().find_map(|stage| match stage.operation {
        Operation::Prepare { .. } | Operation::Script(_) | Operation::Cleanup => None,
        Operation::GetSources(_) => Some("sources"),
        Operation::DownloadArtifacts { .. } | Operation::UploadArtifacts { .. } => {
            Some("artifacts")
        }
        _ => Some("caches"),
    })
}

#[async_trait]
impl Executor for Processes {
    async fn reserve<'a>(
        &self,
        request: JobRequest<'a>,
    ) -> Result<Box<dyn JobHandle>, ExecutorError> {
        let JobRequest { job, plan, ticket, .. } = request;
        if let Some(what) = unable(plan) {
            let message = format!("this runner has no {what}: remove them, or choose another one");
            let outcome = Outcome::Infra(Infra::new(InfraKind::Configuration, message.clone()));
            return Err(ExecutorError::new(ExecutorErrorKind::Refused(outcome), message));
        }
        let place = self.place(job.id);
        let record = Record {
            job: job.id,
            ticket: ticket.clone(),
            epoch: Epoch(1),
            remarks: Remarks::default(),
        };
        let written = fs::create_dir(&place.0)
            .and_then(|()| place.write(PLAN, &plan.to_json()))
            // Last: what has no record was never reserved.
            .and_then(|()| place.save(&record));
        written.map_err(|error| unavailable("cannot write the job down", error))?;
        Ok(self.follower(place, record))
    }

    async fn recover(&self) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError> {
        let failed = |error| unavailable("cannot read the jobs that are there", error);
        let mut found = Vec::new();
        for place in places(&self.root).map_err(failed)? {
            let Some(mut record) = place.record().map_err(failed)? else {
                // Its manager died while it wrote it down: nobody was told of this job.
                place.remove().map_err(failed)?;
                continue;
            };
            let next = Epoch(record.epoch.0 + 1);
            if place.change(record.epoch, |record| record.epoch = next).map_err(failed)? {
                record.epoch = next;
                found.push(self.follower(place, record));
            }
        }
        Ok(found)
    }
}

pub(crate) fn unavailable(what: &str, error: io::Error) -> ExecutorError {
    ExecutorError::new(ExecutorErrorKind::Unavailable, what).caused_by(error)
}
