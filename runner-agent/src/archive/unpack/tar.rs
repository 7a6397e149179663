//! Tar archives in Zstandard, as they come in: this thread reads, others write (`tar_writers`).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar::EntryType;
use zstd::stream::read::Decoder;

use super::limits::{Budget, Limits};
use super::name::{check_target, inside, shown};
use super::place::{Place, Properties, finish};
use super::tar_entries::{Entries, Head};
use super::tar_writers::{LONGEST_PATH, SMALL, Writers};
use super::{UnpackError, Unpacked};

/// Largest window that the decoder allocates, as a power of two: what `zstd --long` makes.
const WINDOW: u32 = 27;

/// What is made last.
#[derive(Default)]
struct Later {
    /// Target and time by path.
    links: BTreeMap<PathBuf, (Vec<u8>, Option<i64>)>,
    directories: BTreeMap<PathBuf, Properties>,
}

pub(super) fn unpack(
    stream: impl Read,
    root: &Path,
    limits: Limits,
) -> Result<Unpacked, UnpackError> {
    let mut decoder = Decoder::new(stream).map_err(damaged)?;
    decoder.window_log_max(WINDOW).map_err(damaged)?;
    let mut entries = Entries::new(decoder);
    let mut place = Place::open(root).map_err(|error| failed(root, error))?;
    let mut budget = Budget::new(limits);
    let mut later = Later::default();
    let mut buffer = vec![0; 128 * 1024];
    std::thread::scope(|scope| {
        let mut writers = Writers::new(scope, &place).map_err(|error| failed(root, error))?;
        let mut read = || {
            while let Some(head) = entries.next().map_err(damaged)? {
                let writers = &mut writers;
                one(head, &mut entries, &mut place, writers, &mut budget, &mut later, &mut buffer)?;
            }
            Ok(())
        };
        let read = read();
        // What came before an error is written.
        let written = writers.wait();
        read.and(written)
    })?;
    // To the end, so that the frame's checksum is looked at and a cut stream is noticed.
    entries.finish().map_err(damaged)?;
    for (path, (target, modified)) in &later.links {
        if later.directories.contains_key(path) {
            return Err(UnpackError::Through(path.display().to_string()));
        }
        let target = OsStr::from_bytes(target);
        place.link(path, target, *modified).map_err(|error| failed(path, error))?;
    }
    for (path, properties) in later.directories.iter().rev() {
        let _ = place.finish_directory(path, *properties);
    }
    Ok(Unpacked { entries: budget.entries, bytes: budget.bytes })
}

fn one(
    head: Head,
    data: &mut impl Read,
    place: &mut Place,
    writers: &mut Writers,
    budget: &mut Budget,
    later: &mut Later,
    buffer: &mut [u8],
) -> Result<(), UnpackError> {
    let Head { kind, name, target, size, mode, modified } = head;
    let Some(path) = inside(&name)? else { return budget.spend(0) };
    if path.ancestors().skip(1).any(|above| later.links.contains_key(above)) {
        return Err(UnpackError::Through(shown(&name)));
    }
    let properties = Properties { mode, modified, owner: None };
    // A link's target has to be there as well, and what else is known about it is not worth the trouble.
    if kind == EntryType::Link || writers.concerns(&path) {
        writers.wait()?;
    }
    match kind {
        EntryType::Directory => {
            budget.spend(0)?;
            later.links.remove(&path);
            place.directory(&path).map_err(|error| failed(&path, error))?;
            later.directories.insert(path, properties);
        }
        EntryType::Symlink => {
            budget.spend(0)?;
            check_target(&path, &target)?;
            later.links.insert(path, (target, modified));
        }
        EntryType::Link => {
            budget.spend(0)?;
            let Some(target) = inside(&target)? else {
                return Err(UnpackError::Link(shown(&name)));
            };
            if target.ancestors().any(|above| later.links.contains_key(above)) {
                return Err(UnpackError::Through(shown(&name)));
            }
            later.links.remove(&path);
            place.hard_link(&path, &target).map_err(|error| failed(&path, error))?;
        }
        EntryType::Regular | EntryType::Continuous => {
            budget.spend(size)?;
            later.links.remove(&path);
            if size <= SMALL && path.as_os_str().len() <= LONGEST_PATH {
                return writers.take(path, properties, |content| {
                    data.read_to_end(content).map(drop).map_err(damaged)
                });
            }
            let out = place.file(&path).map_err(|error| failed(&path, error))?;
            copy(data, out, &path, properties, buffer)?;
        }
        _ => return Err(UnpackError::Special(shown(&name))),
    }
    Ok(())
}

fn copy(
    data: &mut impl Read,
    mut out: std::fs::File,
    path: &Path,
    properties: Properties,
    buffer: &mut [u8],
) -> Result<(), UnpackError> {
    loop {
        match data.read(buffer) {
            Ok(0) => return finish(&out, properties).map_err(|error| failed(path, error)),
            Ok(count) => {
                out.write_all(&buffer[..count]).map_err(|error| failed(path, error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(damaged(error)),
        }
    }
}

fn failed(path: &Path, error: io::Error) -> UnpackError {
    UnpackError::Io { path: path.display().to_string(), error }
}

fn damaged(error: io::Error) -> UnpackError {
    UnpackError::Damaged(error.to_string())
}
