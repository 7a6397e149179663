//! What the supervisor has done so far, in a file that survives it.
//!
//! Each record is a length, a CRC-32 and a JSON body. A record that is torn or damaged ends the
//! journal: everything after it was never acknowledged to anybody. The file is rewritten as one
//! snapshot when it has grown, so a talkative job does not fill the disk with commits.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use runner_core::ids::Epoch;
use runner_core::log::Checkpoint;
use runner_core::outcome::{Outcome, StageReport, TraceSummary, Verdict};
use serde::{Deserialize, Serialize};

use crate::companions::Heard;

/// The file is rewritten when it is longer than this many bytes.
const COMPACT_ABOVE: u64 = 1 << 20;
/// Longest record that is believed. A snapshot holds the stages' reports and a checkpoint.
const LONGEST_RECORD: usize = 16 << 20;

/// Everything a supervisor has to know to go on where another one was killed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The trace as far as it counts.
    pub trace: TraceSummary,
    /// The log pipeline at that point.
    pub checkpoint: Option<Checkpoint>,
    /// How many bytes of the running script's output are in the trace.
    pub input: u64,
    /// Highest claim of a manager so far.
    pub epoch: Epoch,
    /// What `serve` has to say to come back.
    pub token: Option<String>,
    /// When the job began, in milliseconds since the Unix epoch.
    pub began_ms: Option<u64>,
    /// Stages that are over, in order, with the index of each in the plan.
    pub finished: Vec<(usize, StageReport)>,
    /// The stage that runs.
    pub running: Option<Running>,
    /// How the job stands: the first failure counts.
    pub outcome: Option<Outcome>,
    /// Time already spent of each shared limit, in milliseconds.
    pub spent_ms: Vec<(u32, u64)>,
    /// How far the output of other containers is in the trace, by container.
    #[serde(default)]
    pub heard: BTreeMap<String, Heard>,
    /// The last word.
    pub verdict: Option<Verdict>,
}

/// A stage that has begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Index in the plan.
    pub index: usize,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// When it began, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Record {
    Commit {
        trace: TraceSummary,
        checkpoint: Checkpoint,
        input: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heard: Option<(String, Heard)>,
    },
    Snapshot(Box<State>),
}

/// The journal, open for writing.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    state: State,
}

impl Journal {
    /// Reads what is there and cuts off what is damaged.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let (state, length) = replay(&bytes);
        let file = options().create(true).append(true).open(path)?;
        file.set_len(length as u64)?;
        Ok(Self { path: path.to_owned(), file, length: length as u64, state })
    }

    /// What is written down.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Notes how far the trace counts, and how far a container's output is in it.
    ///
    /// # Errors
    /// When it cannot be written; nothing has changed then.
    pub fn commit(
        &mut self,
        trace: TraceSummary,
        checkpoint: Checkpoint,
        input: u64,
        heard: Option<(String, Heard)>,
    ) -> io::Result<()> {
        let (kept, of) = (checkpoint.clone(), heard.clone());
        self.append(&Record::Commit { trace, checkpoint: kept, input, heard: of })?;
        self.state.trace = trace;
        self.state.checkpoint = Some(checkpoint);
        self.state.input = input;
        self.state.heard.extend(heard);
        if self.length > COMPACT_ABOVE { self.rewrite() } else { Ok(()) }
    }

    /// Changes anything else and notes the whole.
    ///
    /// # Errors
    /// When it cannot be written; the change is kept in memory all the same.
    pub fn change(&mut self, change: impl FnOnce(&mut State)) -> io::Result<()> {
        change(&mut self.state);
        if self.length > COMPACT_ABOVE {
            return self.rewrite();
        }
        self.append(&Record::Snapshot(Box::new(self.state.clone())))
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let bytes = encode(record)?;
        if let Err(error) = self.file.write_all(&bytes) {
            // Half a record would hide everything that comes after it.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Puts one snapshot in the place of all records, in one step.
    fn rewrite(&mut self) -> io::Result<()> {
        let bytes = encode(&Record::Snapshot(Box::new(self.state.clone())))?;
        let fresh = self.path.with_extension("new");
        let mut file = options().create(true).write(true).truncate(true).open(&fresh)?;
        file.write_all(&bytes)?;
        fs::rename(&fresh, &self.path)?;
        self.file = options().append(true).open(&self.path)?;
        self.length = bytes.len() as u64;
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn encode(record: &Record) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(record)?;
    let mut bytes = Vec::with_capacity(body.len() + 8);
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The state after all whole records, and their length.
fn replay(bytes: &[u8]) -> (State, usize) {
    let (mut state, mut at) = (State::default(), 0);
    while let Some(header) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let crc = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        if length > LONGEST_RECORD {
            break;
        }
        let Some(body) = bytes.get(at + 8..at + 8 + length) else { break };
        if crc32fast::hash(body) != crc {
            break;
        }
        match serde_json::from_slice(body) {
            Ok(Record::Commit { trace, checkpoint, input, heard }) => {
                state.trace = trace;
                state.checkpoint = Some(checkpoint);
                state.input = input;
                state.heard.extend(heard);
            }
            Ok(Record::Snapshot(whole)) => state = *whole,
            Err(_) => break,
        }
        at += 8 + length;
    }
    (state, at)
}

#[cfg(test)]
mod tests {
    use runner_core::ids::Epoch;

    use super::Journal;

    #[test]
    fn a_torn_record_is_as_if_it_had_never_been() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.change(|state| state.epoch = Epoch(1)).unwrap();
        let whole = std::fs::metadata(&path).unwrap().len();
        journal.change(|state| state.epoch = Epoch(2)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for cut in whole..bytes.len() as u64 {
            std::fs::write(&path, &bytes[..usize::try_from(cut).unwrap()]).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            assert_eq!(journal.state().epoch, Epoch(1));
            journal.change(|state| state.epoch = Epoch(3)).unwrap();
            assert_eq!(Journal::open(&path).unwrap().state().epoch, Epoch(3));
        }
    }

    #[test]
    fn a_damaged_record_ends_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.change(|state| state.epoch = Epoch(1)).unwrap();
        journal.change(|state| state.epoch = Epoch(2)).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Journal::open(&path).unwrap().state().epoch, Epoch(1));
    }

    #[test]
    fn a_long_journal_is_rewritten_and_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        for epoch in 0..20_000 {
            journal.change(|state| state.epoch = Epoch(epoch)).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() < 2 << 20);
        assert_eq!(Journal::open(&path).unwrap().state().epoch, Epoch(19_999));
    }
}
