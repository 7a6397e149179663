//! The directory that files are packed from, and nothing outside of it.
//!
//! The job may still run something that swaps a directory for a link between the listing and the
//! packing: without care the archive would hold files of the helper container.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::beneath::Directory;

/// A directory whose files are opened without ever following a link.
#[derive(Clone, Debug)]
pub struct Origin {
    directory: Directory,
    /// The kernel (5.6) and the sandbox (gVisor, old seccomp profiles) know `openat2`.
    has_openat2: Arc<AtomicBool>,
}

impl Origin {
    /// Opens the directory; links on the way to it are followed.
    ///
    /// # Errors
    /// When it is none, or cannot be opened.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())?;
        Ok(Directory::from(directory).into())
    }

    /// A path to the directory for as long as this lives, in this process only.
    pub fn path(&self) -> PathBuf {
        self.directory.path()
    }

    /// A regular file below it. `None`: it is gone, or something else has taken its place.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub fn file(&self, name: &Path) -> io::Result<Option<File>> {
        // Without NONBLOCK a pipe in the file's place would hold us for ever.
        let Some(file) = self.descend(name, OFlags::RDONLY | OFlags::NONBLOCK)? else {
            return Ok(None);
        };
        let file = File::from(file);
        Ok(file.metadata()?.is_file().then_some(file))
    }

    /// The target of a link below it. `None`: it is gone, or no link any more.
    pub fn link(&self, name: &Path) -> Option<OsString> {
        let base = name.file_name()?;
        let target = match name.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => {
                let parent = self.descend(parent, OFlags::PATH | OFlags::DIRECTORY).ok()??;
                readlinkat(&parent, base, Vec::new())
            }
            None => readlinkat(&self.directory, base, Vec::new()),
        };
        target.ok().map(|target| OsString::from_vec(target.into_bytes()))
    }

    fn descend(&self, name: &Path, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        if !name.components().all(|part| matches!(part, Component::Normal(_))) {
            return Ok(None);
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if self.has_openat2.load(Ordering::Relaxed) {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match openat2(&self.directory, name, flags, Mode::empty(), resolve) {
                Err(Errno::NOSYS | Errno::PERM) => self.has_openat2.store(false, Ordering::Relaxed),
                other => return known(other),
            }
        }
        let mut parts: Vec<&OsStr> = name.iter().collect();
        let Some(last) = parts.pop() else { return Ok(None) };
        let mut now: Option<OwnedFd> = None;
        for part in parts {
            let parent = now.as_ref().map_or(self.directory.as_fd(), AsFd::as_fd);
            let way = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match known(openat(parent, part, way, Mode::empty()))? {
                Some(next) => now = Some(next),
                None => return Ok(None),
            }
        }
        let parent = now.as_ref().map_or(self.directory.as_fd(), AsFd::as_fd);
        known(openat(parent, last, flags, Mode::empty()))
    }
}

impl From<Directory> for Origin {
    fn from(directory: Directory) -> Self {
        Self { directory, has_openat2: Arc::new(AtomicBool::new(true)) }
    }
}

/// What is gone, or has become a link or something below a file, is no error.
fn known(result: rustix::io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::atomic::Ordering;

    use super::Origin;

    #[test]
    fn nothing_is_read_through_a_link() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "s").unwrap();
        let root = outer.path().join("project");
        fs::create_dir_all(root.join("dir")).unwrap();
        fs::write(root.join("dir/file"), "f").unwrap();
        symlink("..", root.join("out")).unwrap();
        symlink("dir", root.join("alias")).unwrap();
        for has_openat2 in [true, false] {
            let origin = Origin::open(&root).unwrap();
            origin.has_openat2.store(has_openat2, Ordering::Relaxed);
            assert!(origin.file(Path::new("dir/file")).unwrap().is_some());
            for name in ["out/secret", "../secret", "out", "dir", "none", "dir/file/x"] {
                let found = origin.file(Path::new(name));
                assert!(!matches!(found, Ok(Some(_))), "{name}");
            }
            assert!(origin.file(Path::new("alias/file")).unwrap().is_none());
            assert_eq!(origin.link(Path::new("out")).unwrap(), "..");
            assert_eq!(origin.link(Path::new("dir/file")), None);
        }
    }
}
