//! A job as files: all that there is of it, for whoever looks.
//!
//! | File | Written by | What it says |
//! |---|---|---|
//! | `record` | manager | ticket, claim, what managers said in the trace |
//! | `plan` | manager | what runs |
//! | `trace` | supervisor | the log. There is one: the job was started. It is locked: the job runs |
//! | `stop` | manager | how the job is to be stopped |
//! | `group` | supervisor | process group of the commands that run now |
//! | `end` | supervisor | the verdict, and the only proof that there is one |

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use runner_core::executor::{JobPhase, Remarks};
use runner_core::ids::{Epoch, JobId};
use runner_core::outcome::Verdict;
use runner_core::source::Ticket;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(crate) const PLAN: &str = "plan";
pub(crate) const STOP: &str = "stop";
pub(crate) const GROUP: &str = "group";
const RECORD: &str = "record";
const TRACE: &str = "trace";
const END: &str = "end";

/// What managers know about a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) job: JobId,
    pub(crate) ticket: Ticket,
    /// How often it was claimed: whoever has a lower number has lost the job.
    pub(crate) epoch: Epoch,
    pub(crate) remarks: Remarks,
}

/// The directory of one job.
#[derive(Clone, Debug)]
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Puts a whole file in place, in one step.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(self.path(name)).map_err(|error| error.error)?;
        Ok(())
    }

    /// A file's content; `None`: there is no such file.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn record(&self) -> io::Result<Option<Record>> {
        self.read(RECORD)
    }

    pub(crate) fn save(&self, record: &Record) -> io::Result<()> {
        self.write(RECORD, &serde_json::to_vec(record)?)
    }

    /// Changes the record if it is still ours; `false`: somebody else has claimed the job.
    pub(crate) fn change(
        &self,
        epoch: Epoch,
        change: impl FnOnce(&mut Record),
    ) -> io::Result<bool> {
        // Nobody claims it between the look and the change.
        let lock = File::open(&self.0)?;
        lock.lock()?;
        match self.record()? {
            Some(mut record) if record.epoch == epoch => {
                change(&mut record);
                self.save(&record).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Makes the trace, which only the first one can, and holds it for the program that will run.
    pub(crate) fn begin(&self) -> io::Result<File> {
        let trace = OpenOptions::new().append(true).create_new(true).open(self.path(TRACE))?;
        trace.lock()?;
        Ok(trace)
    }

    pub(crate) fn trace(&self) -> io::Result<File> {
        File::open(self.path(TRACE))
    }

    pub(crate) fn phase(&self) -> JobPhase {
        match self.path(TRACE).exists() {
            true => JobPhase::Started,
            false => JobPhase::Reserved,
        }
    }

    /// Whether the job's supervisor lives. Its trace is locked as long as it does, however it ends.
    pub(crate) fn is_alive(&self) -> bool {
        self.trace().is_ok_and(|trace| trace.try_lock_shared().is_err())
    }

    pub(crate) fn end(&self) -> io::Result<Option<Verdict>> {
        self.read(END)
    }

    pub(crate) fn conclude(&self, verdict: &Verdict) -> io::Result<()> {
        self.write(END, &serde_json::to_vec(verdict)?)
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Directories of all jobs below `root`.
pub(crate) fn places(root: &Path) -> io::Result<Vec<Place>> {
    let mut places = Vec::new();
    for entry in fs::read_dir(root)? {
        places.push(Place(entry?.path()));
    }
    Ok(places)
}
