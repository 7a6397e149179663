//! The trace as a file that only grows.
//!
//! Owns the bytes and their running checksum. What of it counts is decided by the
//! [journal](crate::journal): bytes beyond the last commit are cut off when the file is opened, and
//! no reader ever sees them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use runner_core::ids::Offset;
use runner_core::outcome::TraceSummary;

/// The writer's end of the trace file.
#[derive(Debug)]
pub struct Spool {
    file: Arc<File>,
    summary: TraceSummary,
}

/// A reader's end: positional, so any number may read side by side.
#[derive(Clone, Debug)]
pub struct SpoolReader {
    file: Arc<File>,
}

impl Spool {
    /// Opens or makes the file and cuts it to what was committed.
    ///
    /// # Errors
    /// When the file cannot be opened, or is shorter than it was committed to be.
    pub fn open(path: &Path, committed: TraceSummary) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        if file.metadata()?.len() < committed.length.0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the trace file is shorter than its journal says",
            ));
        }
        file.set_len(committed.length.0)?;
        Ok(Self { file: Arc::new(file), summary: committed })
    }

    /// Appends bytes and says what the trace is then.
    ///
    /// # Errors
    /// When the disk is full or broken. Nothing has been appended then.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<TraceSummary> {
        // Positional, so that a failed write leaves no half of itself before the next one.
        self.file.write_all_at(bytes, self.summary.length.0)?;
        self.summary = self.summary.then(TraceSummary::of(bytes));
        Ok(self.summary)
    }

    /// What the trace is now.
    pub fn summary(&self) -> TraceSummary {
        self.summary
    }

    /// Takes back what was appended since it was this long.
    pub fn rewind(&mut self, summary: TraceSummary) {
        self.summary = summary;
    }

    /// A reader of the same file.
    pub fn reader(&self) -> SpoolReader {
        SpoolReader { file: Arc::clone(&self.file) }
    }
}

impl SpoolReader {
    /// Fills `buffer` from this offset on. The caller keeps below the committed length.
    ///
    /// The file was written moments ago and lies in the page cache, so this blocks for
    /// microseconds at most.
    ///
    /// # Errors
    /// When the disk is broken or the range is not there.
    pub fn read(&self, from: Offset, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, from.0)
    }
}

#[cfg(test)]
mod tests {
    use runner_core::ids::Offset;
    use runner_core::outcome::TraceSummary;

    use super::Spool;

    #[test]
    fn bytes_beyond_the_last_commit_are_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        let mut spool = Spool::open(&path, TraceSummary::default()).unwrap();
        let committed = spool.append(b"kept").unwrap();
        spool.append(b"torn").unwrap();
        drop(spool);
        let mut spool = Spool::open(&path, committed).unwrap();
        assert_eq!(spool.append(b"!").unwrap(), TraceSummary::of(b"kept!"));
        assert_eq!(std::fs::read(&path).unwrap(), b"kept!");
        let mut piece = [0; 2];
        spool.reader().read(Offset(3), &mut piece).unwrap();
        assert_eq!(&piece, b"t!");
    }

    #[test]
    fn a_trace_that_lost_bytes_is_not_silently_extended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        assert!(Spool::open(&path, TraceSummary::of(b"gone")).is_err());
    }
}
