//! The directory that an archive is unpacked into, and nothing else.
//!
//! Every step goes from an open directory to one of its children and never through a link, so
//! nothing that lies there or appears meanwhile leads out of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, fchmod, fchown,
    futimens, linkat, mkdirat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

/// How often something that others change at the same time is tried.
const TRIES: usize = 8;

/// Properties that an archive gives to what it holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Properties {
    pub(super) mode: Option<u32>,
    /// Seconds since 1970.
    pub(super) modified: Option<i64>,
    pub(super) owner: Option<(u32, u32)>,
}

/// A directory that nothing leaves.
#[derive(Debug)]
pub(super) struct Place {
    root: OwnedFd,
    /// The directory that was used last: archives are in order.
    last: Option<(PathBuf, OwnedFd)>,
}

impl Place {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(root, flags, Mode::empty())?, last: None })
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { root: self.root.try_clone()?, last: None })
    }

    /// Makes a directory and those above it; what is in the way and is no directory is removed.
    pub(super) fn directory(&mut self, path: &Path) -> io::Result<BorrowedFd<'_>> {
        if path.as_os_str().is_empty() {
            return Ok(self.root.as_fd());
        }
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            let mut now: Option<OwnedFd> = None;
            for name in path.components() {
                let parent = now.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
                now = Some(enter(parent, name.as_os_str())?);
            }
            self.last = now.map(|now| (path.to_owned(), now));
        }
        Ok(self.last.as_ref().map_or(self.root.as_fd(), |(_, directory)| directory.as_fd()))
    }

    fn parent<'p>(&mut self, path: &'p Path) -> io::Result<(BorrowedFd<'_>, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// Makes something below its directory, in the place of whatever was there.
    fn make<T>(
        &mut self,
        path: &Path,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let (parent, name) = self.parent(path)?;
        match replacing(parent, name, || make(parent, name)) {
            // The directory that was used last may have been removed since, for a file of its name.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.last.take().is_some() => {
                let (parent, name) = self.parent(path)?;
                replacing(parent, name, || make(parent, name))
            }
            made => made,
        }
    }

    /// A new, empty file in the place of whatever was there.
    pub(super) fn file(&mut self, path: &Path) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        self.make(path, |parent, name| openat(parent, name, flags, mode)).map(File::from)
    }

    /// A link in the place of whatever was there.
    pub(super) fn link(
        &mut self,
        path: &Path,
        target: &OsStr,
        modified: Option<i64>,
    ) -> io::Result<()> {
        self.make(path, |parent, name| symlinkat(target, parent, name))?;
        let (parent, name) = self.parent(path)?;
        // Its time matters to nobody as much as its being there.
        let _ = utimensat(parent, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW);
        Ok(())
    }

    /// Another name for a file that this archive has brought.
    pub(super) fn hard_link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let (from, old) = self.parent(target)?;
        let from = from.try_clone_to_owned()?;
        let kind = statat(&from, old, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(kind.st_mode) != FileType::RegularFile {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.make(path, |parent, name| linkat(&from, old, parent, name, AtFlags::empty()))
    }

    /// Gives a directory its properties, after everything below it is there.
    pub(super) fn finish_directory(
        &mut self,
        path: &Path,
        properties: Properties,
    ) -> io::Result<()> {
        finish(self.directory(path)?, properties)
    }
}

/// Gives a file its properties. The owner is what it can be; only root can give files away.
pub(super) fn finish(file: impl AsFd, properties: Properties) -> io::Result<()> {
    if let Some((uid, gid)) = properties.owner {
        // Before the mode: a new owner clears the set-uid bit.
        let _ = fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    }
    if let Some(mode) = properties.mode {
        fchmod(&file, Mode::from_raw_mode(mode & 0o7777))?;
    }
    futimens(&file, &times(properties.modified))?;
    Ok(())
}

fn times(modified: Option<i64>) -> Timestamps {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let modified = modified.map_or(omit, |seconds| Timespec { tv_sec: seconds, tv_nsec: 0 });
    Timestamps { last_access: omit, last_modification: modified }
}

/// Opens a child directory and makes it first if it is not there.
fn enter(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        match openat(parent, name, flags, Mode::empty()) {
            Ok(directory) => return Ok(directory),
            Err(Errno::NOENT) => match mkdirat(parent, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            },
            // A file or a link is in the way; another thread may have removed it already.
            Err(Errno::NOTDIR | Errno::LOOP) => match unlinkat(parent, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("something else keeps changing this directory"))
}

/// Makes something, and removes what is in its way if need be.
fn replacing<T>(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    make: impl Fn() -> rustix::io::Result<T>,
) -> io::Result<T> {
    for _ in 0..TRIES {
        match make() {
            Ok(made) => return Ok(made),
            Err(Errno::EXIST) => remove(parent, name)?,
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("something else keeps making this file"))
}

fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            // The standard library goes through a tree without following links; the parent is
            // named by its descriptor, so it is the one we have checked.
            let path = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
            std::fs::remove_dir_all(path)
        }
        Err(error) => Err(error.into()),
    }
}
