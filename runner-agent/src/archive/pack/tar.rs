//! Writes a tar archive in one Zstandard frame.
//!
//! Three kinds of threads: `tar_batches` reads small files, this one copies large ones and puts everything in
//! order, and the Zstandard library compresses.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::thread::available_parallelism;

use zstd::stream::write::Encoder;
use zstd::zstd_safe::CParameter;

use super::tar_batches::{Batch, Pending, Readers, SMALL, head, take};
use super::{PackError, unreadable};
use crate::archive::entry::{Entries, Entry, Kind};
use crate::archive::origin::Origin;

/// Most threads that compress; each has a few MiB of its own at the levels used here.
const MOST_THREADS: u32 = 4;
/// Bytes that one of them compresses at a time. The library's own choice, four windows, makes 79 MiB
/// of it all.
const JOB: u32 = 2 << 20;
/// Bytes of a large file that are read and compressed at a time.
const PIECE: usize = 256 * 1024;
/// What everything in a tar archive is a multiple of.
const BLOCK: usize = 512;

pub(super) fn pack(
    root: &Origin,
    entries: &Entries,
    level: i32,
    out: &mut dyn Write,
) -> Result<(), PackError> {
    let mut encoder = Encoder::new(out, level).map_err(PackError::Write)?;
    let threads = available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    encoder
        .multithread(threads.min(MOST_THREADS))
        .and_then(|()| encoder.set_parameter(CParameter::JobSize(JOB)))
        .and_then(|()| encoder.include_checksum(true))
        .map_err(PackError::Write)?;
    std::thread::scope(|scope| {
        let mut readers = Readers::new(scope, root);
        let mut ahead = VecDeque::new();
        let mut batch = Batch::default();
        for (name, entry) in entries {
            let large = entry.kind == Kind::File && entry.size > SMALL;
            if large || batch.push(name, *entry) {
                ahead.push_back(readers.submit(std::mem::take(&mut batch)));
            }
            let most = if large { 0 } else { readers.window() };
            put(&mut encoder, &mut ahead, most)?;
            if large {
                copy(root, name, *entry, &mut encoder)?;
            }
        }
        ahead.push_back(readers.submit(batch));
        put(&mut encoder, &mut ahead, 0)
    })?;
    let end = encoder.write_all(&[0; 2 * BLOCK]).and_then(|()| encoder.finish());
    end.and_then(|out| out.flush()).map_err(PackError::Write)
}

/// Writes the oldest batches until only this many wait.
fn put(out: &mut dyn Write, ahead: &mut VecDeque<Pending>, most: usize) -> Result<(), PackError> {
    while ahead.len() > most {
        let Some(pending) = ahead.pop_front() else { return Ok(()) };
        out.write_all(&take(&pending)?).map_err(PackError::Write)?;
    }
    Ok(())
}

/// Writes a large file.
fn copy(
    root: &Origin,
    name: &OsString,
    entry: Entry,
    out: &mut dyn Write,
) -> Result<(), PackError> {
    let Some(mut file) = root.file(name.as_ref()).map_err(unreadable(name))? else {
        return Ok(());
    };
    out.write_all(&head(name, entry)?).map_err(PackError::Write)?;
    let mut buffer = vec![0; PIECE];
    let mut left = entry.size;
    while left > 0 {
        let most = left.min(PIECE as u64) as usize;
        let count = match file.read(&mut buffer[..most]) {
            // The header says how long it is: one that became shorter is filled up.
            Ok(0) => {
                buffer[..most].fill(0);
                most
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(name)(error)),
        };
        out.write_all(&buffer[..count]).map_err(PackError::Write)?;
        left -= count as u64;
    }
    let padding = entry.size.next_multiple_of(BLOCK as u64) - entry.size;
    out.write_all(&[0; BLOCK][..padding as usize]).map_err(PackError::Write)
}
