//! What the executor knows about a job, in a file that survives the manager.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use runner_core::executor::{JobPhase, JobRequest, Remarks};
use runner_core::ids::{Epoch, JobId, Offset};
use runner_core::outcome::Outcome;
use runner_core::source::Ticket;
use serde::{Deserialize, Serialize};

/// One job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) job: JobId,
    pub(super) ticket: Ticket,
    pub(super) epoch: Epoch,
    pub(super) started: bool,
    before: Vec<u8>,
    after: Option<(Offset, Vec<u8>)>,
    outcome: Option<Outcome>,
}

impl Record {
    /// Writes down a new job: its plan, then the record.
    pub(super) fn create(directory: &Path, request: &JobRequest<'_>) -> io::Result<Self> {
        for part in ["plan", "state", "link", "root"] {
            fs::create_dir_all(directory.join(part))?;
        }
        fs::write(directory.join("plan/plan.0"), request.plan.to_json())?;
        let record = Self {
            job: request.job.id,
            ticket: request.ticket.clone(),
            epoch: Epoch(1),
            started: false,
            before: Vec::new(),
            after: None,
            outcome: None,
        };
        record.write(directory)?;
        Ok(record)
    }

    /// Reads a job's record; `None` when it was never whole.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Self>> {
        match fs::read(directory.join("record")) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the record in one step.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.persist(directory.join("record")).map_err(|error| error.error)?;
        Ok(())
    }

    pub(super) fn phase(&self) -> JobPhase {
        if self.started { JobPhase::Started } else { JobPhase::Reserved }
    }

    pub(super) fn remarks(&self) -> Remarks {
        Remarks {
            before: self.before.clone().into(),
            after: self.after.clone().map(|(at, bytes)| (at, bytes.into())),
            outcome: self.outcome.clone(),
        }
    }

    pub(super) fn set_remarks(&mut self, remarks: Remarks) {
        self.before = remarks.before.to_vec();
        self.after = remarks.after.map(|(at, bytes)| (at, bytes.to_vec()));
        self.outcome = remarks.outcome;
    }
}
