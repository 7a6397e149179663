//! Writes a zip archive as a stream.
//!
//! Files up to a block have their sizes in their local header; larger ones have them behind their
//! data, and are never stored plainly, so that their end can be found by whoever reads the archive
//! as a stream (`fastest` makes deflate's own stored blocks of them).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::blocks::{BLOCK, Block, Pending, Pool, Task, take};
use super::headers::{DEFLATED, Record, STORED, ZSTD, end};
use super::{PackError, unreadable};
use crate::archive::entry::{Entries, Entry, Kind};
use crate::archive::origin::Origin;

/// From this length on, sizes get 64 bits: packed, the file may be a little longer than plain.
const LARGE: u64 = 0xf000_0000;

/// How files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// With this level of deflate; 0 stores.
    Deflate(u32),
    /// With this level of Zstandard.
    Zstd(i32),
}

/// What is written next.
enum Step<'a> {
    Plain(&'a OsString, Entry, Vec<u8>),
    Whole(&'a OsString, Entry, Pending),
    Begin(&'a OsString, Entry),
    Piece(Pending),
    End,
}

pub(super) fn pack(
    root: &Origin,
    entries: &Entries,
    method: Method,
    out: &mut dyn Write,
) -> Result<(), PackError> {
    if let Some(name) = entries.keys().find(|name| name.len() >= usize::from(u16::MAX)) {
        return Err(PackError::NameTooLong(name.clone()));
    }
    std::thread::scope(|scope| {
        let mut pool = Pool::new(scope, method);
        let mut writer = Writer::new(method, out);
        for (name, entry) in entries {
            match entry.kind {
                Kind::Directory => {
                    writer.push(&pool, Step::Plain(name, *entry, Vec::new()))?;
                }
                Kind::Link => {
                    // Vanished, or no link any more.
                    let Some(target) = root.link(name.as_ref()) else { continue };
                    let target = target.into_vec();
                    writer.push(&pool, Step::Plain(name, *entry, target))?;
                }
                Kind::File if entry.size <= BLOCK => {
                    let task = Task::Whole {
                        root: root.clone(),
                        name: PathBuf::from(name),
                        length: entry.size,
                    };
                    let pending = pool.submit(task);
                    writer.push(&pool, Step::Whole(name, *entry, pending))?;
                }
                Kind::File => large(root, name, *entry, &mut pool, &mut writer)?,
            }
        }
        writer.finish()
    })
}

/// Cuts a large file into blocks.
fn large<'a>(
    root: &Origin,
    name: &'a OsString,
    entry: Entry,
    pool: &mut Pool,
    writer: &mut Writer<'a, '_>,
) -> Result<(), PackError> {
    let Some(file) = root.file(name.as_ref()).map_err(unreadable(name))? else { return Ok(()) };
    let file = Arc::new(file);
    writer.push(pool, Step::Begin(name, entry))?;
    let mut offset = 0;
    while offset < entry.size {
        let length = BLOCK.min(entry.size - offset);
        let last = offset + length == entry.size;
        let pending = pool.submit(Task::Piece { file: Arc::clone(&file), offset, length, last });
        writer.push(pool, Step::Piece(pending))?;
        offset += length;
    }
    writer.push(pool, Step::End)
}

struct Writer<'a, 'o> {
    out: &'o mut dyn Write,
    method: u16,
    ahead: VecDeque<Step<'a>>,
    offset: u64,
    entries: u64,
    central: Vec<u8>,
    /// The large file that is being written, with the checksum so far.
    open: Option<(Record<'a>, crc32fast::Hasher)>,
    /// Headers; kept for its capacity.
    fresh: Vec<u8>,
}

impl<'a, 'o> Writer<'a, 'o> {
    fn new(method: Method, out: &'o mut dyn Write) -> Self {
        let method = match method {
            Method::Deflate(_) => DEFLATED,
            Method::Zstd(_) => ZSTD,
        };
        Self {
            out,
            method,
            ahead: VecDeque::new(),
            offset: 0,
            entries: 0,
            central: Vec::new(),
            open: None,
            fresh: Vec::new(),
        }
    }

    /// Adds a step; writes the oldest one when enough are under way.
    fn push(&mut self, pool: &Pool, step: Step<'a>) -> Result<(), PackError> {
        self.ahead.push_back(step);
        while self.ahead.len() > pool.window() {
            self.advance()?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), PackError> {
        while !self.ahead.is_empty() {
            self.advance()?;
        }
        let mut tail = std::mem::take(&mut self.central);
        let length = tail.len() as u64;
        end(&mut tail, self.entries, length, self.offset);
        self.out.write_all(&tail).and_then(|()| self.out.flush()).map_err(PackError::Write)
    }

    fn advance(&mut self) -> Result<(), PackError> {
        match self.ahead.pop_front() {
            None => Ok(()),
            Some(Step::Plain(name, entry, data)) => {
                let crc = crc32fast::hash(&data);
                let record = self.record(name, entry, STORED, data.len() as u64);
                self.whole(Record { crc, packed: data.len() as u64, ..record }, &data)
            }
            Some(Step::Whole(name, entry, pending)) => {
                let Some(block) = take(&pending).map_err(unreadable(name))? else { return Ok(()) };
                let Block { crc, plain, packed, stored } = block;
                let method = if stored { STORED } else { self.method };
                let record = self.record(name, entry, method, plain);
                let length = packed.len() as u64;
                self.whole(Record { crc: crc.finalize(), packed: length, ..record }, &packed)
            }
            Some(Step::Begin(name, entry)) => {
                let record = Record {
                    descriptor: true,
                    large: entry.size >= LARGE,
                    ..self.record(name, entry, self.method, 0)
                };
                self.fresh.clear();
                record.local(&mut self.fresh);
                self.open = Some((record, crc32fast::Hasher::new()));
                self.put_fresh()
            }
            Some(Step::Piece(pending)) => self.piece(&pending),
            Some(Step::End) => {
                let Some((record, crc)) = self.open.take() else { return Ok(()) };
                let record = Record { crc: crc.finalize(), ..record };
                self.fresh.clear();
                record.descriptor(&mut self.fresh);
                self.put_fresh()?;
                self.done(&record);
                Ok(())
            }
        }
    }

    fn piece(&mut self, pending: &Pending) -> Result<(), PackError> {
        let Some((record, crc)) = &mut self.open else { return Ok(()) };
        let block = take(pending).map_err(unreadable(&record.name.to_owned()))?;
        let Some(block) = block else { return Ok(()) };
        crc.combine(&block.crc);
        record.plain += block.plain;
        record.packed += block.packed.len() as u64;
        self.put(&block.packed)
    }

    fn record(&self, name: &'a OsString, entry: Entry, method: u16, plain: u64) -> Record<'a> {
        Record {
            name,
            entry,
            method,
            crc: 0,
            packed: 0,
            plain,
            offset: self.offset,
            descriptor: false,
            large: false,
        }
    }

    /// An entry that is known in full.
    fn whole(&mut self, record: Record<'a>, data: &[u8]) -> Result<(), PackError> {
        self.fresh.clear();
        record.local(&mut self.fresh);
        self.put_fresh()?;
        self.put(data)?;
        self.done(&record);
        Ok(())
    }

    fn done(&mut self, record: &Record<'_>) {
        record.central(&mut self.central);
        self.entries += 1;
    }

    fn put_fresh(&mut self) -> Result<(), PackError> {
        let fresh = std::mem::take(&mut self.fresh);
        let result = self.put(&fresh);
        self.fresh = fresh;
        result
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.out.write_all(bytes).map_err(PackError::Write)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
