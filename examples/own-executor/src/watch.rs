//! Waits until something in a directory has changed. It never says what: the files do.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe::Receiver;

/// Everything that can change about a job. The kernel closes what a program had open when it is
/// killed, so a supervisor's end is seen however it ends.
pub(crate) const ALL: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF);
/// Files that were put in place whole.
pub(crate) const ARRIVALS: WatchFlags = WatchFlags::MOVED_TO;

/// A directory under watch.
pub(crate) struct Watch(Receiver);

impl Watch {
    /// From now on, no change of these kinds is missed.
    ///
    /// # Errors
    /// When the directory is not there, or the user has too many watches.
    pub(crate) fn new(directory: &Path, what: WatchFlags) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&fd, directory, what)?;
        // Not a pipe, but read in the same way: it becomes readable, and a read empties it.
        Ok(Self(Receiver::from_file_unchecked(File::from(fd))?))
    }

    /// Waits for a change since the last call. Cancel safe.
    ///
    /// # Errors
    /// When the kernel takes the watch away.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut [0; 4096]) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
