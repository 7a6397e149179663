//! The jobs, as files: `ID.json` is what is known of one, `ID.log` its log.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a manager may take to accept a job. It does so when the job is written down in the cluster.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(60);

/// What somebody wants to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewJob {
    /// For people.
    pub name: String,
    /// Where the commands run.
    pub image: String,
    /// The commands.
    pub script: Vec<String>,
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// Nobody has accepted it.
    Waiting,
    /// A manager has it, or left it in its pod for the next one.
    Running,
    /// It is over.
    Ended {
        /// Whether its commands did what they should.
        success: bool,
        /// How it ended.
        why: String,
    },
}

/// A job, as it is written down and as people see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// What was asked for.
    #[serde(flatten)]
    pub job: NewJob,
    /// How it stands.
    #[serde(flatten)]
    pub state: State,
    /// Nobody wants it any more.
    pub cancelled: bool,
    /// A manager has it until then. Forgotten when this process ends, and so is that manager.
    #[serde(skip)]
    offered: Option<Instant>,
}

/// All jobs. Clones are the same jobs.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    accepted_within: Duration,
    all: Mutex<BTreeMap<u64, Entry>>,
    /// Something has changed about some job.
    changed: watch::Sender<()>,
}

impl Jobs {
    /// The jobs of this directory, which no other process uses.
    ///
    /// # Errors
    /// When the directory or a file in it cannot be read.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if let Some(id) = id_of(&path) {
                all.insert(id, serde_json::from_slice(&fs::read(&path)?)?);
            }
        }
        let accepted_within = ACCEPTED_WITHIN;
        let (changed, _) = watch::channel(());
        Ok(Self(Arc::new(Inner { directory, accepted_within, all: Mutex::new(all), changed })))
    }

    /// The same with another time in which a manager has to accept a job. Default: 60 s.
    ///
    /// # Panics
    /// When it comes after a clone.
    #[must_use]
    pub fn accepted_within(self, time: Duration) -> Self {
        let inner = Arc::into_inner(self.0).expect("set before the jobs are shared");
        Self(Arc::new(Inner { accepted_within: time, ..inner }))
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    fn log(&self, id: u64) -> PathBuf {
        self.0.directory.join(format!("{id}.log"))
    }

    /// In one step, and on the disk before anybody is told.
    fn save(&self, id: u64, entry: &Entry) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.0.directory)?;
        file.write_all(&serde_json::to_vec(entry)?)?;
        file.as_file().sync_all()?;
        file.persist(self.0.directory.join(format!("{id}.json"))).map_err(|error| error.error)?;
        Ok(())
    }

    /// Adds a job to the queue; its number.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn add(&self, job: NewJob) -> io::Result<u64> {
        let mut all = self.0.all.lock();
        let id = all.last_key_value().map_or(1, |(last, _)| last + 1);
        let entry = Entry { job, state: State::Waiting, cancelled: false, offered: None };
        File::create(self.log(id))?;
        self.save(id, &entry)?;
        all.insert(id, entry);
        self.0.changed.send_replace(());
        Ok(id)
    }

    /// A job as it stands. `None`: there is no such job.
    pub fn get(&self, id: u64) -> Option<Entry> {
        self.0.all.lock().get(&id).cloned()
    }

    /// Changes a job and writes it down. `None`: there is no such job.
    pub(crate) fn change<T>(
        &self,
        id: u64,
        change: impl FnOnce(&mut Entry) -> T,
    ) -> io::Result<Option<T>> {
        let mut all = self.0.all.lock();
        let Some(entry) = all.get_mut(&id) else { return Ok(None) };
        let mut next = entry.clone();
        let result = change(&mut next);
        self.save(id, &next)?;
        *entry = next;
        self.0.changed.send_replace(());
        Ok(Some(result))
    }

    /// Stops a job, or sees to it that it does not start. `false`: there is no such job.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn cancel(&self, id: u64) -> io::Result<bool> {
        // A job that waits is told by `accept`: maybe a manager has it in its hands already.
        Ok(self.change(id, |entry| entry.cancelled = true)?.is_some())
    }

    /// The first job that waits and that no manager has, or when to look again. It is the manager's
    /// until it has accepted it or its time is over.
    pub(crate) fn offer(&self) -> Result<(u64, NewJob), Option<Instant>> {
        let now = Instant::now();
        let mut all = self.0.all.lock();
        let mut waiting = all.iter_mut().filter(|(_, entry)| entry.state == State::Waiting);
        if let Some((id, entry)) =
            waiting.find(|(_, entry)| entry.offered.is_none_or(|at| at < now))
        {
            entry.offered = Some(now + self.0.accepted_within);
            return Ok((*id, entry.job.clone()));
        }
        let waiting = all.values().filter(|entry| entry.state == State::Waiting);
        Err(waiting.filter_map(|entry| entry.offered).min())
    }

    /// Adds to a log whose end is at `from`; what its length is then, or is already.
    pub(crate) fn append(&self, id: u64, from: u64, bytes: &[u8]) -> io::Result<u64> {
        let log = File::options().append(true).open(self.log(id))?;
        let length = log.metadata()?.len();
        if length != from || bytes.is_empty() {
            return Ok(length);
        }
        (&log).write_all(bytes)?;
        self.0.changed.send_replace(());
        Ok(length + bytes.len() as u64)
    }

    /// Bytes of a log from an offset on, 64 KiB at most.
    ///
    /// # Errors
    /// When there is no such log, or it cannot be read.
    pub fn read(&self, id: u64, from: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 64 * 1024];
        let length = File::open(self.log(id))?.read_at(&mut bytes, from)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Does something that waits for the disk, beside the tasks that wait for the network.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let jobs = self.clone();
        tokio::task::spawn_blocking(move || work(&jobs)).await.map_err(io::Error::other)?
    }
}

fn id_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()
}
