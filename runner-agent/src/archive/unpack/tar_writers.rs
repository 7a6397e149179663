//! Small files of a tar archive, written on several threads behind the reader.
//!
//! Making a file costs far more than unpacking a few kilobytes. The archive still counts as if its entries were
//! made one after the other: whatever has to do with something that has not been written yet waits for it
//! ([`Writers::concerns`], [`Writers::wait`]).

use std::collections::{HashSet, VecDeque};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, available_parallelism};

use super::UnpackError;
use super::place::{Place, Properties, finish};

/// Longest file that is written here; the reader writes longer ones itself.
pub(super) const SMALL: u64 = 256 * 1024;
/// A batch goes to a thread when it has this many bytes or files. Neighbours in an archive mostly share their
/// directory, so a thread that gets them together opens it once and contends with nobody.
const BATCH: usize = 256 * 1024;
const BATCH_FILES: usize = 64;
/// Most threads: more of them wait for the disk.
const MOST_THREADS: usize = 8;
/// Batches that wait, for each thread. With those in hand that is 12 MiB, since a batch is shorter than
/// [`BATCH`] and [`SMALL`] together.
const AHEAD: usize = 2;
/// Bytes of paths that are kept in mind before everything is waited for.
const MOST_PATHS: usize = 4 << 20;
/// Longest path that is taken. A name of a megabyte of `a/a/a/…` has half a million directories above it.
pub(super) const LONGEST_PATH: usize = 1024;

/// Files that are written together.
#[derive(Default)]
struct Batch {
    files: Vec<(PathBuf, Properties, usize)>,
    /// Their content, one after the other.
    content: Vec<u8>,
}

type Answer = Result<(), UnpackError>;
/// What a thread is told: the batch, and where its answer goes.
type Order = (Batch, SyncSender<Answer>);

/// The threads; they end when this is dropped.
pub(super) struct Writers {
    threads: Vec<SyncSender<Order>>,
    next: usize,
    batch: Batch,
    pending: VecDeque<Receiver<Answer>>,
    /// Files that may not have been written yet, and all directories above them.
    files: HashSet<PathBuf>,
    above: HashSet<PathBuf>,
    /// Bytes of both.
    held: usize,
}

impl Writers {
    /// Starts them, each with its own view of the directory.
    pub(super) fn new<'scope>(scope: &'scope Scope<'scope, '_>, place: &Place) -> io::Result<Self> {
        let count = available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let mut threads = Vec::new();
        for _ in 0..count {
            let (sender, orders) = sync_channel::<Order>(AHEAD);
            let mut place = place.try_clone()?;
            scope.spawn(move || {
                for (batch, answer) in orders {
                    // Nobody waits for the answer any more when the reader has failed.
                    let _ = answer.send(batch.write(&mut place));
                }
            });
            threads.push(sender);
        }
        Ok(Self {
            threads,
            next: 0,
            batch: Batch::default(),
            pending: VecDeque::new(),
            files: HashSet::new(),
            above: HashSet::new(),
            held: 0,
        })
    }

    /// Whether this path is, lies below, or has below it a file that may not have been written yet, or is too
    /// long to tell.
    pub(super) fn concerns(&self, path: &Path) -> bool {
        path.as_os_str().len() > LONGEST_PATH
            || self.above.contains(path)
            || path.ancestors().any(|above| self.files.contains(above))
    }

    /// Takes a file of at most [`SMALL`] bytes with a path of at most [`LONGEST_PATH`], whose content `read`
    /// appends.
    ///
    /// # Errors
    /// Those of `read`, and those of files that were taken before.
    pub(super) fn take(
        &mut self,
        path: PathBuf,
        properties: Properties,
        read: impl FnOnce(&mut Vec<u8>) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        let from = self.batch.content.len();
        read(&mut self.batch.content)?;
        for above in path.ancestors().skip(1) {
            if !self.above.insert(above.to_owned()) {
                break;
            }
            self.held += above.as_os_str().len();
        }
        self.held += path.as_os_str().len();
        self.files.insert(path.clone());
        self.batch.files.push((path, properties, self.batch.content.len() - from));
        if self.batch.content.len() >= BATCH || self.batch.files.len() >= BATCH_FILES {
            self.submit()?;
        }
        if self.held >= MOST_PATHS { self.wait() } else { Ok(()) }
    }

    /// Hands the batch to the next thread in turn.
    fn submit(&mut self) -> Result<(), UnpackError> {
        let (answer, pending) = sync_channel(1);
        // A thread that is gone has dropped `answer`, which the receiver notices.
        let _ = self.threads[self.next].send((std::mem::take(&mut self.batch), answer));
        self.next = (self.next + 1) % self.threads.len();
        self.pending.push_back(pending);
        match self.pending.len() > self.threads.len() * AHEAD {
            true => self.oldest(),
            false => Ok(()),
        }
    }

    fn oldest(&mut self) -> Result<(), UnpackError> {
        let gone = || Err(UnpackError::Damaged("it cannot be written".to_owned()));
        self.pending.pop_front().map_or(Ok(()), |pending| pending.recv().unwrap_or_else(|_| gone()))
    }

    /// Waits until everything that was taken has been written.
    ///
    /// # Errors
    /// The first one, in the archive's order.
    pub(super) fn wait(&mut self) -> Result<(), UnpackError> {
        if !self.batch.files.is_empty() {
            self.submit()?;
        }
        while !self.pending.is_empty() {
            self.oldest()?;
        }
        self.files.clear();
        self.above.clear();
        self.held = 0;
        Ok(())
    }
}

impl Batch {
    fn write(self, place: &mut Place) -> Answer {
        let mut rest = self.content.as_slice();
        for (path, properties, length) in self.files {
            let (content, after) = rest.split_at(length);
            rest = after;
            let made = place.file(&path).and_then(|mut out| {
                out.write_all(content)?;
                finish(&out, properties)
            });
            made.map_err(|error| UnpackError::Io { path: path.display().to_string(), error })?;
        }
        Ok(())
    }
}
