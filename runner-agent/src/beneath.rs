//! Directories that the job may have changed, opened so that no link leads out of the volume they are in.
//!
//! The job owns its builds directory: it can put a link to `/podwright/plan` in the place of the project
//! or of a directory above it. `helper` has files there that no archive may hold and nobody may
//! overwrite. So every work of `helper` on what a job has left begins with [`Directory::open`], and goes
//! on from its [`path`](Directory::path), which stays that directory whatever is renamed meanwhile.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

/// An open directory.
#[derive(Clone, Debug)]
pub struct Directory(Arc<OwnedFd>);

impl Directory {
    /// Opens `path`, which lies below `above`: the mount point of a volume, which no job can change.
    /// Links are followed on the way to `above` and nowhere else.
    ///
    /// # Errors
    /// `NotFound` when it is not there; with a word for the job's author when a link or a file has taken
    /// its place.
    pub fn open(above: &Path, path: &Path) -> io::Result<Self> {
        Self::walk(above, path, |_, _| Ok(()))
    }

    /// The same, made first where it is missing.
    ///
    /// # Errors
    /// As [`open`](Self::open), or when it cannot be made.
    pub fn make(above: &Path, path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(above)?;
        Self::walk(above, path, |parent, name| match mkdirat(parent, name, Mode::from(0o777)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }

    fn walk(
        above: &Path,
        path: &Path,
        before: impl Fn(&OwnedFd, &OsStr) -> io::Result<()>,
    ) -> io::Result<Self> {
        let below = path.strip_prefix(above).map_err(|_| {
            let (path, above) = (path.display(), above.display());
            io::Error::new(io::ErrorKind::InvalidInput, format!("{path} does not lie in {above}"))
        })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut now = rustix::fs::open(above, flags, Mode::empty())?;
        for component in below.components() {
            let Component::Normal(name) = component else {
                return Err(exchanged(path));
            };
            before(&now, name)?;
            now = openat(&now, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(|error| {
                match error {
                    Errno::LOOP | Errno::NOTDIR => exchanged(path),
                    other => other.into(),
                }
            })?;
        }
        Ok(Self(Arc::new(now)))
    }

    /// A path to it for as long as this lives, in this process only.
    pub fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.0.as_raw_fd().to_string())
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Directory {
    fn from(directory: OwnedFd) -> Self {
        Self(Arc::new(directory))
    }
}

fn exchanged(path: &Path) -> io::Error {
    let path = path.display();
    let text = format!(
        "{path} is no directory of its own any more: the job has put a link or a file in its place, or \
         in that of a directory above it"
    );
    io::Error::new(io::ErrorKind::NotADirectory, text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::Directory;

    #[test]
    fn no_link_is_followed_below_the_volume_and_renaming_changes_nothing() {
        let outer = tempfile::tempdir().unwrap();
        let real = outer.path().join("real");
        fs::create_dir_all(real.join("g/p")).unwrap();
        fs::write(real.join("g/p/file"), "f").unwrap();
        // The volume itself may be reached by a link of the operator's.
        let builds = outer.path().join("builds");
        symlink(&real, &builds).unwrap();
        let open = |path: &str| Directory::open(&builds, &builds.join(path));
        let project = open("g/p").unwrap();
        fs::rename(real.join("g"), real.join("moved")).unwrap();
        symlink("moved", real.join("g")).unwrap();
        symlink(outer.path(), real.join("out")).unwrap();
        for path in ["g/p", "g", "out", "moved/p/file", "moved/../moved"] {
            let error = open(path).unwrap_err().to_string();
            assert!(error.contains("no directory of its own"), "{path}: {error}");
        }
        assert_eq!(open("none").unwrap_err().kind(), std::io::ErrorKind::NotFound);
        assert!(Directory::make(&builds, &builds.join("new/one")).is_ok());
        assert!(Directory::make(&builds, &builds.join("out/one")).is_err());
        assert!(!outer.path().join("one").exists());
        assert!(Directory::open(&builds, outer.path()).is_err());
        assert_eq!(fs::read_to_string(project.path().join("file")).unwrap(), "f");
    }
}
