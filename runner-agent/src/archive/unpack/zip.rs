//! Zip archives, from a file.
//!
//! The list at the end of the archive counts, as it does for GitLab, `unzip` and GitLab Runner: the
//! whole of it is checked before anything is written. That, and stored entries whose length follows
//! their data (GitLab Runner writes them), is why an archive is not unpacked while it comes in.
//! Files are unpacked on several threads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::available_parallelism;

use super::limits::{Budget, DEFLATE_RATIO, Limits};
use super::name::{check_target, inside, shown};
use super::place::{Place, Properties, finish};
use super::pread::PositionedFile;
use super::zip_data::{DataError, Unpacker};
use super::zip_list::{Listed, read};
use super::{UnpackError, Unpacked};

/// Most threads: more of them wait for the disk.
const MOST_THREADS: usize = 8;
/// Longest target of a link that Linux takes.
const LONGEST_TARGET: u64 = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Link,
}

/// What is to be made, by path.
type Contents<'l> = BTreeMap<PathBuf, (Kind, &'l Listed)>;

pub(super) fn unpack(file: File, root: &Path, limits: Limits) -> Result<Unpacked, UnpackError> {
    let io = |error| UnpackError::Io { path: root.display().to_string(), error };
    let file = PositionedFile::new(file).map_err(io)?;
    let list = read(&file, limits)?;
    let (contents, budget) = check(&list, file.length(), limits)?;
    let mut place = Place::open(root).map_err(io)?;
    let mut unpacker = Unpacker::new(file.clone());

    let of = |wanted| contents.iter().filter(move |(_, (kind, _))| *kind == wanted);
    for (path, _) in of(Kind::Directory) {
        place.directory(path).map_err(|error| failed(path, error))?;
    }
    let files: Vec<_> = of(Kind::File).map(|(path, (_, entry))| (path.as_path(), *entry)).collect();
    extract_files(&file, &place, &files)?;
    for (path, (_, entry)) in of(Kind::Link) {
        let target = target(&mut unpacker, path, entry)?;
        place.link(path, &target, entry.modified).map_err(|error| failed(path, error))?;
    }
    // Deepest first, so that a directory without the right to write can still be filled.
    for (path, (_, entry)) in of(Kind::Directory).rev() {
        // A directory that is there and somebody else's stays as it is.
        let _ = place.finish_directory(path, properties(entry));
    }
    Ok(Unpacked { entries: budget.entries, bytes: budget.bytes })
}

/// Judges the list at the end of the archive.
fn check(
    list: &[Listed],
    length: u64,
    limits: Limits,
) -> Result<(Contents<'_>, Budget), UnpackError> {
    let mut contents = Contents::new();
    let mut budget = Budget::new(limits);
    let mut deflated: u64 = 0;
    for entry in list {
        let name = entry.name.as_slice();
        budget.spend(entry.plain)?;
        if matches!(entry.method, 0 | 8) {
            deflated = deflated.saturating_add(entry.plain);
        }
        let kind = match entry.mode.unwrap_or(0) & 0o170_000 {
            0o120_000 => Kind::Link,
            0o040_000 => Kind::Directory,
            _ if name.ends_with(b"/") => Kind::Directory,
            0 | 0o100_000 => Kind::File,
            _ => return Err(UnpackError::Special(shown(name))),
        };
        // A later entry of the same name counts, as it does when they are unpacked in turn.
        if let Some(path) = inside(name)? {
            contents.insert(path, (kind, entry));
        }
    }
    if deflated / DEFLATE_RATIO > length {
        return Err(UnpackError::Bomb);
    }
    below_directories_only(&contents)?;
    Ok((contents, budget))
}

/// Nothing lies below a file or a link of the same archive.
fn below_directories_only(contents: &Contents<'_>) -> Result<(), UnpackError> {
    for path in contents.keys() {
        let mut above = path.ancestors().skip(1).filter_map(|above| contents.get(above));
        if above.any(|(kind, _)| *kind != Kind::Directory) {
            return Err(UnpackError::Through(path.display().to_string()));
        }
    }
    Ok(())
}

/// Unpacks the files; the threads take them in turn and stop at the first error.
fn extract_files(
    archive: &PositionedFile,
    place: &Place,
    files: &[(&Path, &Listed)],
) -> Result<(), UnpackError> {
    let threads = available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = |mut place: Place| {
        let mut unpacker = Unpacker::new(archive.clone());
        while let Some((path, entry)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let result = extract(&mut unpacker, &mut place, path, entry);
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
                return result;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for _ in 0..threads.min(files.len()) {
            let place = place.try_clone().map_err(|error| failed(Path::new("."), error))?;
            running.push(scope.spawn(|| work(place)));
        }
        let results = running.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(UnpackError::Damaged("it cannot be read".into())))
        });
        results.fold(Ok(()), Result::and)
    })
}

fn extract(
    unpacker: &mut Unpacker,
    place: &mut Place,
    path: &Path,
    entry: &Listed,
) -> Result<(), UnpackError> {
    let mut out = place.file(path).map_err(|error| failed(path, error))?;
    unpacker.unpack(entry, &mut out).map_err(|error| unusable(path, error))?;
    finish(&out, properties(entry)).map_err(|error| failed(path, error))
}

fn target(unpacker: &mut Unpacker, path: &Path, entry: &Listed) -> Result<OsString, UnpackError> {
    if entry.plain > LONGEST_TARGET {
        return Err(UnpackError::Link(path.display().to_string()));
    }
    let mut target = Vec::new();
    unpacker.unpack(entry, &mut target).map_err(|error| unusable(path, error))?;
    check_target(path, &target)?;
    Ok(OsString::from_vec(target))
}

fn properties(entry: &Listed) -> Properties {
    Properties {
        mode: entry.mode.map(|mode| mode & 0o7777),
        modified: entry.modified,
        owner: entry.owner,
    }
}

fn failed(path: &Path, error: io::Error) -> UnpackError {
    UnpackError::Io { path: path.display().to_string(), error }
}

fn unusable(path: &Path, error: DataError) -> UnpackError {
    match error {
        DataError::Damaged(what) => UnpackError::Damaged(format!("{}: {what}", path.display())),
        DataError::Bomb => UnpackError::Bomb,
        DataError::Write(error) => failed(path, error),
    }
}
