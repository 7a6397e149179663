//! Small files of a tar archive, read and given their headers on several threads ahead of the writer.
//!
//! ```text
//!   entries ──► batches ──► readers (in turn) ──► tar bytes, in order ──► the writer
//! ```
//!
//! Opening and reading 20,000 files takes about as long as compressing them, and one thread that does both
//! after the other is slower than `tar | zstd`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, available_parallelism};

use tar::{Builder, EntryType, Header};

use super::{PackError, unreadable};
use crate::archive::entry::{Entry, Kind};
use crate::archive::origin::Origin;

/// Longest file that is read ahead; the writer copies longer ones itself, piece by piece.
pub(super) const SMALL: u64 = 256 * 1024;
/// A batch is full when it has this many bytes of files, or this many entries (whose headers take 512 bytes
/// each, padding not counted). So it is at most twice as long as [`SMALL`].
const BATCH: u64 = SMALL;
const BATCH_ENTRIES: usize = 256;
/// Most threads: compression has its own.
const MOST_THREADS: usize = 4;
/// Batches that wait, for each thread. With those in hand that is 8 MiB.
const AHEAD: usize = 3;

/// Entries that are read together.
#[derive(Default)]
pub(super) struct Batch<'e> {
    entries: Vec<(&'e OsString, Entry)>,
    bytes: u64,
}

impl<'e> Batch<'e> {
    /// Adds one; `true`: it is full now.
    pub(super) fn push(&mut self, name: &'e OsString, entry: Entry) -> bool {
        self.entries.push((name, entry));
        self.bytes += if entry.kind == Kind::File { entry.size } else { 0 };
        self.bytes >= BATCH || self.entries.len() >= BATCH_ENTRIES
    }

    /// The bytes that it is in the archive. What has vanished is left out.
    fn read(self, root: &Origin) -> Result<Vec<u8>, PackError> {
        let room = self.bytes as usize + self.entries.len() * 1024;
        let mut tar = Builder::new(Vec::with_capacity(room));
        let mut content = Vec::new();
        for (name, entry) in self.entries {
            append(&mut tar, root, name, entry, &mut content)?;
        }
        let mut bytes = std::mem::take(tar.get_mut());
        // The builder's end mark goes nowhere.
        drop(tar);
        bytes.shrink_to_fit();
        Ok(bytes)
    }
}

type Answer = Result<Vec<u8>, PackError>;

/// A batch that may not have been read yet.
pub(super) type Pending = Receiver<Answer>;

/// The threads that read; they end when this is dropped.
pub(super) struct Readers<'e> {
    threads: Vec<SyncSender<(Batch<'e>, SyncSender<Answer>)>>,
    next: usize,
}

impl<'e> Readers<'e> {
    pub(super) fn new<'scope>(scope: &'scope Scope<'scope, 'e>, root: &'scope Origin) -> Self
    where
        'e: 'scope,
    {
        let count = available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let start = |_| {
            let (sender, batches) = sync_channel::<(Batch<'e>, SyncSender<Answer>)>(AHEAD);
            scope.spawn(move || {
                for (batch, answer) in batches {
                    // Nobody waits for the answer any more when the writer has failed.
                    let _ = answer.send(batch.read(root));
                }
            });
            sender
        };
        Self { threads: (0..count).map(start).collect(), next: 0 }
    }

    /// How many answers may wait before the oldest is taken.
    pub(super) fn window(&self) -> usize {
        self.threads.len() * AHEAD
    }

    /// Hands a batch to the next thread in turn.
    pub(super) fn submit(&mut self, batch: Batch<'e>) -> Pending {
        let (answer, pending) = sync_channel(1);
        // A thread that is gone has dropped `answer`, which the receiver notices.
        let _ = self.threads[self.next].send((batch, answer));
        self.next = (self.next + 1) % self.threads.len();
        pending
    }
}

/// Takes an answer.
pub(super) fn take(pending: &Pending) -> Answer {
    let gone = || PackError::Write(io::Error::other("a packing thread has ended"));
    pending.recv().unwrap_or_else(|_| Err(gone()))
}

/// Adds a small file, a directory or a link.
fn append(
    tar: &mut Builder<Vec<u8>>,
    root: &Origin,
    name: &OsString,
    entry: Entry,
    content: &mut Vec<u8>,
) -> Result<(), PackError> {
    let mut header = header(entry);
    match entry.kind {
        Kind::Directory => {
            let mut path = name.clone();
            path.push("/");
            tar.append_data(&mut header, path, io::empty())
        }
        Kind::Link => {
            let Some(target) = root.link(name.as_ref()) else { return Ok(()) };
            append_link(tar, &mut header, name.as_ref(), target.as_ref())
        }
        Kind::File => {
            let file = root.file(name.as_ref()).map_err(unreadable(name))?;
            let Some(file) = file else { return Ok(()) };
            content.clear();
            // At most SMALL. The header says how long it is: one that became shorter is filled up.
            content.resize(entry.size as usize, 0);
            let mut filled = 0;
            while filled < content.len() {
                match file.read_at(&mut content[filled..], filled as u64) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(unreadable(name)(error)),
                }
            }
            tar.append_data(&mut header, name, content.as_slice())
        }
    }
    .map_err(PackError::Write)
}

/// The headers of a file whose content follows.
pub(super) fn head(name: &OsString, entry: Entry) -> Result<Vec<u8>, PackError> {
    let mut tar = Builder::new(Vec::new());
    tar.append_data(&mut header(entry), name, io::empty()).map_err(PackError::Write)?;
    Ok(std::mem::take(tar.get_mut()))
}

fn header(entry: Entry) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(match entry.kind {
        Kind::File => EntryType::Regular,
        Kind::Directory => EntryType::Directory,
        Kind::Link => EntryType::Symlink,
    });
    header.set_mode(entry.mode);
    header.set_mtime(entry.modified.try_into().unwrap_or(0));
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_size(if entry.kind == Kind::File { entry.size } else { 0 });
    header
}

/// A target stays as it is: `Builder::append_link` would tidy `./x` and refuse nothing.
fn append_link<W: Write>(
    tar: &mut Builder<W>,
    header: &mut Header,
    name: &Path,
    target: &Path,
) -> io::Result<()> {
    if target.as_os_str().as_bytes().len() < 100 {
        header.set_link_name_literal(target.as_os_str().as_bytes())?;
        tar.append_data(header, name, io::empty())
    } else {
        tar.append_link(header, name, target)
    }
}
