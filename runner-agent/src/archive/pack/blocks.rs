//! Reads and compresses blocks of files on several threads and gives the results back in order.
//!
//! A block is at most [`BLOCK`] bytes of one file. The blocks of a large file are compressed on
//! their own (deflate blocks that end on a byte, or whole Zstandard frames), so that one after the
//! other they are the compressed file. That costs about 1 % of the ratio, as it does in `pigz`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, available_parallelism};

use flate2::{Compress, Compression, FlushCompress, Status};

use super::zip::Method;
use crate::archive::origin::Origin;

/// Longest block, in bytes.
pub(super) const BLOCK: u64 = 1 << 20;
/// Most threads: more of them wait for the disk. It also bounds the memory: a thread has two
/// blocks in hand and [`AHEAD`] of its results wait, 32 MiB together.
const MOST_THREADS: usize = 8;
/// Tasks ahead of the writer, for each thread.
const AHEAD: usize = 2;

/// What to read.
pub(super) enum Task {
    /// A whole file that was at most a block long when it was listed.
    Whole { root: Origin, name: PathBuf, length: u64 },
    /// A piece of a larger one.
    Piece { file: Arc<File>, offset: u64, length: u64, last: bool },
}

/// A block, ready to be written.
#[derive(Debug)]
pub(super) struct Block {
    /// Of the plain bytes.
    pub(super) crc: crc32fast::Hasher,
    /// How many plain bytes there were.
    pub(super) plain: u64,
    /// What is written.
    pub(super) packed: Vec<u8>,
    /// The bytes are as they were: compressing would not have made them fewer. Whole files only.
    pub(super) stored: bool,
}

/// A result that may not be there yet. `None`: the file has vanished.
pub(super) type Pending = Receiver<io::Result<Option<Block>>>;

/// A task, and where its result goes.
type Order = (Task, SyncSender<io::Result<Option<Block>>>);

/// The threads.
pub(super) struct Pool {
    threads: Vec<SyncSender<Order>>,
    next: usize,
}

impl Pool {
    /// Starts them; they end when the pool is dropped.
    pub(super) fn new<'scope>(scope: &'scope Scope<'scope, '_>, method: Method) -> Self {
        let count = available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let start = |_| {
            let (sender, tasks) = sync_channel::<Order>(AHEAD);
            scope.spawn(move || {
                let mut packer = Packer::new(method);
                for (task, answer) in tasks {
                    // Nobody waits for the answer any more when the writer has failed.
                    let _ = answer.send(packer.run(task));
                }
            });
            sender
        };
        Self { threads: (0..count).map(start).collect(), next: 0 }
    }

    /// How many results may wait before the oldest is taken.
    pub(super) fn window(&self) -> usize {
        self.threads.len() * AHEAD
    }

    /// Hands a task to the next thread in turn. Results are taken in order, so a thread that is
    /// slower than the others holds them up by no more than one block.
    pub(super) fn submit(&mut self, task: Task) -> Pending {
        let (answer, pending) = sync_channel(1);
        // A thread that is gone has dropped `answer`, which the receiver notices.
        let _ = self.threads[self.next].send((task, answer));
        self.next = (self.next + 1) % self.threads.len();
        pending
    }
}

/// Takes a result.
pub(super) fn take(pending: &Pending) -> io::Result<Option<Block>> {
    pending.recv().unwrap_or_else(|_| Err(io::Error::other("a packing thread has ended")))
}

/// What a thread keeps between tasks.
struct Packer {
    method: Method,
    deflate: Compress,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    plain: Vec<u8>,
}

impl Packer {
    fn new(method: Method) -> Self {
        let (level, zstd) = match method {
            Method::Deflate(level) => (level, None),
            Method::Zstd(level) => (0, zstd::bulk::Compressor::new(level).ok()),
        };
        let deflate = Compress::new(Compression::new(level), false);
        Self { method, deflate, zstd, plain: Vec::new() }
    }

    fn run(&mut self, task: Task) -> io::Result<Option<Block>> {
        match task {
            Task::Whole { root, name, length } => {
                let Some(file) = root.file(&name)? else { return Ok(None) };
                let crc = self.read(&file, 0, length)?;
                let plain = self.plain.len() as u64;
                let stores = self.method == Method::Deflate(0) || plain == 0;
                if !stores {
                    let packed = self.compress(true)?;
                    if (packed.len() as u64) < plain {
                        return Ok(Some(Block { crc, plain, packed, stored: false }));
                    }
                }
                Ok(Some(Block { crc, plain, packed: self.plain.clone(), stored: true }))
            }
            Task::Piece { file, offset, length, last } => {
                let crc = self.read(&file, offset, length)?;
                let packed = self.compress(last)?;
                Ok(Some(Block { crc, plain: self.plain.len() as u64, packed, stored: false }))
            }
        }
    }

    /// Fills `plain`; the file may have become shorter.
    fn read(&mut self, file: &File, offset: u64, length: u64) -> io::Result<crc32fast::Hasher> {
        // At most BLOCK.
        self.plain.resize(length as usize, 0);
        let mut filled = 0;
        while filled < self.plain.len() {
            match file.read_at(&mut self.plain[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.plain.truncate(filled);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.plain);
        Ok(crc)
    }

    fn compress(&mut self, last: bool) -> io::Result<Vec<u8>> {
        if let Some(zstd) = &mut self.zstd {
            return zstd.compress(&self.plain);
        }
        self.deflate.reset();
        let flush = if last { FlushCompress::Finish } else { FlushCompress::Sync };
        // Deflate adds 5 bytes to each 16 KiB that it cannot compress, and as many for the flush.
        let mut packed = Vec::with_capacity(self.plain.len() + self.plain.len() / 1024 + 64);
        loop {
            let rest = &self.plain[self.deflate.total_in() as usize..];
            let status = self.deflate.compress_vec(rest, &mut packed, flush)?;
            let done = match flush {
                FlushCompress::Finish => status == Status::StreamEnd,
                _ => {
                    self.deflate.total_in() as usize == self.plain.len()
                        && packed.len() < packed.capacity()
                }
            };
            if done {
                return Ok(packed);
            }
            packed.reserve(4096);
        }
    }
}
