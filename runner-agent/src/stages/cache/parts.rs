//! An archive that is handed over while it is made, in parts, and is nowhere as a whole.
//!
//! ```text
//!   pack (a blocking thread) ──► Cutter ──► parts of 8 MiB ──► Parts::next ──► one request each
//!                                   ▲                               │
//!                                   └────────── permits ◄───────────┘
//! ```
//!
//! A part is in memory until the store has it, so it can be sent again without packing anything again. How many
//! there are at once is bounded by permits, which all archives of a stage share: who waits for one holds a
//! part that needs nothing more to be sent, so they never wait for each other.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use runner_core::cache::PART;
use runner_core::plan::Directories;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::archive::pack::{Format, PackError, pack};
use crate::archive::{Entries, Level, Origin};

/// Parts in memory at once, of all archives of a stage together: 24 MiB.
pub(super) const PARTS_AT_ONCE: usize = 3;

/// A part, and its place in memory.
pub(super) struct Part {
    pub(super) bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

/// The parts of an archive in the making.
pub(super) struct Parts {
    parts: mpsc::Receiver<Part>,
    packing: JoinHandle<Result<(), PackError>>,
}

impl Parts {
    /// Begins to pack on a thread of its own, which ends when nobody wants the parts any more.
    ///
    /// # Errors
    /// When there is no project.
    pub(super) fn pack(
        places: &Directories,
        entries: Entries,
        format: Format,
        level: Level,
        permits: &Arc<Semaphore>,
    ) -> io::Result<Self> {
        let origin = Origin::open(Path::new(&places.project))?;
        Ok(Self::cut(permits, move |out| pack(&origin, &entries, format, level, out)))
    }

    /// An archive that lies in a file.
    pub(super) fn of_file(file: Arc<File>, permits: &Arc<Semaphore>) -> Self {
        Self::cut(permits, move |out| {
            let mut file = &*file;
            let copied = file.rewind().and_then(|()| io::copy(&mut file, out));
            copied.map(drop).map_err(PackError::Write)
        })
    }

    fn cut(
        permits: &Arc<Semaphore>,
        make: impl FnOnce(&mut Cutter) -> Result<(), PackError> + Send + 'static,
    ) -> Self {
        // A part that waits holds its permit, so there are never more than permits.
        let (sender, parts) = mpsc::channel(1);
        let (runtime, permits) = (Handle::current(), Arc::clone(permits));
        let packing = tokio::task::spawn_blocking(move || {
            let mut cutter = Cutter { runtime, permits, sender, part: Vec::new(), permit: None };
            make(&mut cutter)?;
            cutter.submit().map_err(PackError::Write)
        });
        Self { parts, packing }
    }

    /// The next part. The last one is shorter than [`PART`], and may be empty. `None`: after that, or when the
    /// archive cannot be made.
    pub(super) async fn next(&mut self) -> Option<Part> {
        self.parts.recv().await
    }

    /// How packing ended. It is to be asked after the last part.
    pub(super) async fn end(self) -> Result<(), PackError> {
        drop(self.parts);
        let interrupted = || PackError::Write(io::Error::other("packing was interrupted"));
        self.packing.await.unwrap_or_else(|_| Err(interrupted()))
    }
}

/// Cuts what is written to it.
struct Cutter {
    runtime: Handle,
    permits: Arc<Semaphore>,
    sender: mpsc::Sender<Part>,
    part: Vec<u8>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Cutter {
    fn permit(&mut self) -> io::Result<OwnedSemaphorePermit> {
        let gone = || io::Error::other("nobody wants the archive any more");
        if let Some(permit) = self.permit.take() {
            return Ok(permit);
        }
        let sender = self.sender.clone();
        let permits = Arc::clone(&self.permits);
        self.runtime
            .block_on(async {
                tokio::select! {
                    permit = permits.acquire_owned() => permit.ok(),
                    () = sender.closed() => None,
                }
            })
            .ok_or_else(gone)
    }

    /// Hands the part over, whatever its length.
    fn submit(&mut self) -> io::Result<()> {
        let permit = self.permit()?;
        let bytes = Bytes::from(std::mem::take(&mut self.part));
        let gone = |_| io::Error::other("nobody wants the archive any more");
        self.sender.blocking_send(Part { bytes, _permit: permit }).map_err(gone)
    }
}

impl Write for Cutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.permit.is_none() {
            self.permit = Some(self.permit()?);
            self.part.reserve_exact(PART as usize);
        }
        let count = bytes.len().min(PART as usize - self.part.len());
        self.part.extend_from_slice(&bytes[..count]);
        if self.part.len() == PART as usize {
            self.submit()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use runner_core::cache::PART;
    use tokio::sync::Semaphore;

    use super::Parts;

    #[tokio::test]
    async fn an_archive_is_cut_and_never_whole_in_memory() {
        let permits = Arc::new(Semaphore::new(2));
        let length = PART as usize * 3;
        let mut parts = Parts::cut(&permits, move |out| {
            out.write_all(&vec![7; length]).unwrap();
            Ok(())
        });
        let mut lengths = Vec::new();
        while let Some(part) = parts.next().await {
            lengths.push(part.bytes.len());
            // This one, and the one that is being filled or waits.
            assert!(permits.available_permits() <= 1);
        }
        assert_eq!(lengths, [PART as usize, PART as usize, PART as usize, 0]);
        parts.end().await.unwrap();
        assert_eq!(permits.available_permits(), 2);
    }

    #[tokio::test]
    async fn packing_ends_when_nobody_wants_the_parts() {
        let permits = Arc::new(Semaphore::new(1));
        let parts = Parts::cut(&permits, |out| {
            let error = out.write_all(&vec![7; 5 * PART as usize]).unwrap_err();
            assert_eq!(error.to_string(), "nobody wants the archive any more");
            Ok(())
        });
        assert!(parts.end().await.is_err());
    }
}
