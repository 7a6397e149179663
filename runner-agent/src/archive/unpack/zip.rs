//! Zip archives, from a file.
//!
//! The list at the end of the archive counts, as it does for GitLab, `unzip` and GitLab Runner: the
//! whole of it is checked before anything is written. That, and stored entries whose length follows
//! their data (GitLab Runner writes them), is why an archive is not unpacked while it comes in.
//! Files are unpacked on several threads.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::available_parallelism;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::limits::{Budget, DEFLATE_RATIO, Limits};
use super::name::{check_target, inside, shown};
use super::place::{Place, Properties, finish};
use super::pread::PositionedFile;
use super::{UnpackError, Unpacked};

type Archive = ZipArchive<PositionedFile>;

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

/// What is to be made, by path, with the entry's number.
type Contents = BTreeMap<PathBuf, (Kind, usize)>;

pub(super) fn unpack(file: File, root: &Path, limits: Limits) -> Result<Unpacked, UnpackError> {
    let io = |error| UnpackError::Io { path: root.display().to_string(), error };
    let file = PositionedFile::new(file).map_err(io)?;
    let length = file.length();
    let mut archive = ZipArchive::new(file).map_err(damaged)?;
    let (contents, budget) = check(&mut archive, length, limits)?;
    let mut place = Place::open(root).map_err(io)?;

    let of = |wanted| contents.iter().filter(move |(_, (kind, _))| *kind == wanted);
    for (path, _) in of(Kind::Directory) {
        place.directory(path).map_err(|error| failed(path, error))?;
    }
    let files: Vec<_> = of(Kind::File).map(|(path, (_, index))| (path, *index)).collect();
    extract_files(&archive, &place, &files)?;
    for (path, (_, index)) in of(Kind::Link) {
        let (target, modified) = link(&mut archive, path, *index)?;
        place.link(path, &target, modified).map_err(|error| failed(path, error))?;
    }
    // Deepest first, so that a directory without the right to write can still be filled.
    for (path, (_, index)) in of(Kind::Directory).rev() {
        let properties = properties(&archive.by_index_raw(*index).map_err(damaged)?);
        // A directory that is there and somebody else's stays as it is.
        let _ = place.finish_directory(path, properties);
    }
    Ok(Unpacked { entries: budget.entries, bytes: budget.bytes })
}

/// Goes through the list at the end of the archive.
fn check(
    archive: &mut Archive,
    length: u64,
    limits: Limits,
) -> Result<(Contents, Budget), UnpackError> {
    let mut contents = Contents::new();
    let mut budget = Budget::new(limits);
    let mut deflated: u64 = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index).map_err(damaged)?;
        let name = entry.name_raw();
        budget.spend(entry.size())?;
        if matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
            deflated = deflated.saturating_add(entry.size());
        }
        let kind = match entry.unix_mode().map_or(0, |mode| mode & 0o170_000) {
            0o120_000 => Kind::Link,
            0o040_000 => Kind::Directory,
            _ if name.ends_with(b"/") => Kind::Directory,
            0 | 0o100_000 => Kind::File,
            _ => return Err(UnpackError::Special(shown(name))),
        };
        // A later entry of the same name counts, as it does when they are unpacked in turn.
        if let Some(path) = inside(name)? {
            contents.insert(path, (kind, index));
        }
    }
    if deflated / DEFLATE_RATIO > length || archive.has_overlapping_files().map_err(damaged)? {
        return Err(UnpackError::Bomb);
    }
    below_directories_only(&contents)?;
    Ok((contents, budget))
}

/// Nothing lies below a file or a link of the same archive.
fn below_directories_only(contents: &Contents) -> Result<(), UnpackError> {
    for path in contents.keys() {
        let above = path.ancestors().skip(1).filter_map(|above| contents.get(above));
        if above.into_iter().any(|(kind, _)| *kind != Kind::Directory) {
            return Err(UnpackError::Through(path.display().to_string()));
        }
    }
    Ok(())
}

/// Unpacks the files; the threads take them in turn and stop at the first error.
fn extract_files(
    archive: &Archive,
    place: &Place,
    files: &[(&PathBuf, usize)],
) -> Result<(), UnpackError> {
    let threads = available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = |mut place: Place| {
        let mut archive = archive.clone();
        let mut buffer = vec![0; 128 * 1024];
        while let Some((path, index)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let result = extract(&mut archive, &mut place, path, *index, &mut buffer);
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
    archive: &mut Archive,
    place: &mut Place,
    path: &Path,
    index: usize,
    buffer: &mut [u8],
) -> Result<(), UnpackError> {
    let mut entry = archive.by_index(index).map_err(damaged)?;
    let properties = properties(&entry);
    let mut out = place.file(path).map_err(|error| failed(path, error))?;
    // What the list says has been checked against the limits; data that goes on is a lie.
    let mut left = entry.size();
    loop {
        let count = match entry.read(buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(UnpackError::Damaged(format!("{}: {error}", path.display())));
            }
        };
        left = left.checked_sub(count as u64).ok_or(UnpackError::Bomb)?;
        out.write_all(&buffer[..count]).map_err(|error| failed(path, error))?;
    }
    if left > 0 {
        return Err(UnpackError::Damaged(format!("{} is cut short", path.display())));
    }
    finish(&out, properties).map_err(|error| failed(path, error))
}

fn link(
    archive: &mut Archive,
    path: &Path,
    index: usize,
) -> Result<(OsString, Option<i64>), UnpackError> {
    let mut entry = archive.by_index(index).map_err(damaged)?;
    let modified = properties(&entry).modified;
    let mut target = Vec::new();
    entry
        .by_ref()
        .take(LONGEST_TARGET)
        .read_to_end(&mut target)
        .map_err(|error| UnpackError::Damaged(format!("{}: {error}", path.display())))?;
    check_target(path, &target)?;
    Ok((OsString::from_vec(target), modified))
}

fn properties<R: Read>(entry: &zip::read::ZipFile<'_, R>) -> Properties {
    let extra = entry.extra_data().unwrap_or_default();
    Properties {
        mode: entry.unix_mode().map(|mode| mode & 0o7777),
        modified: field(&extra, 0x5455)
            .filter(|data| data.first().is_some_and(|flags| flags & 1 == 1))
            .and_then(|data| data.get(1..5)?.try_into().ok())
            .map(|seconds| i32::from_le_bytes(seconds).into()),
        owner: field(&extra, 0x7875).and_then(|data| match data {
            [1, 4, uid @ ..] if uid.len() == 9 && uid[4] == 4 => {
                let number =
                    |at: usize| Some(u32::from_le_bytes(uid.get(at..at + 4)?.try_into().ok()?));
                Some((number(0)?, number(5)?))
            }
            _ => None,
        }),
    }
}

/// The data of an extra field.
fn field(mut extra: &[u8], wanted: u16) -> Option<&[u8]> {
    while let [a, b, c, d, rest @ ..] = extra {
        let data = rest.get(..usize::from(u16::from_le_bytes([*c, *d])))?;
        if u16::from_le_bytes([*a, *b]) == wanted {
            return Some(data);
        }
        extra = &rest[data.len()..];
    }
    None
}

fn failed(path: &Path, error: io::Error) -> UnpackError {
    UnpackError::Io { path: path.display().to_string(), error }
}

fn damaged(error: ZipError) -> UnpackError {
    UnpackError::Damaged(error.to_string())
}
