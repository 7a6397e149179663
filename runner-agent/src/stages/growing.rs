//! An archive that is sent while it is made, and again without being made again.
//!
//! ```text
//!   pack (a blocking thread) ──► Writing ──► file without a name ──► Growing::stream ──► a request
//!                                    └── how much there is ──┘           └──► another try
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use runner_core::plan::Directories;
use tokio::sync::watch;

use crate::archive::pack::{Format, PackError, pack};
use crate::archive::{Entries, Level, Origin};
use crate::beneath::Directory;

/// Bytes that are read and sent at a time. One such piece is in memory.
const PIECE: usize = 256 * 1024;

/// How far the archive is.
#[derive(Clone, Debug, Default)]
struct Extent {
    length: u64,
    /// It is over, well or not.
    end: Option<Result<(), Arc<PackError>>>,
}

/// An archive in the making.
#[derive(Clone, Debug)]
pub(super) struct Growing {
    file: Arc<File>,
    extent: watch::Receiver<Extent>,
}

/// What packs into it.
struct Writing {
    file: Arc<File>,
    extent: watch::Sender<Extent>,
}

impl Growing {
    /// Begins to pack on a thread of its own, which ends when nobody holds the archive any more.
    ///
    /// # Errors
    /// When there is no place for it.
    pub(super) fn pack(
        places: &Directories,
        entries: Arc<Entries>,
        format: Format,
        level: Level,
    ) -> io::Result<Self> {
        let file = nameless(places)?;
        Self::pack_into(file, places, entries, format, level)
    }

    /// The same, into this empty file.
    ///
    /// # Errors
    /// When there is no project.
    pub(super) fn pack_into(
        file: File,
        places: &Directories,
        entries: Arc<Entries>,
        format: Format,
        level: Level,
    ) -> io::Result<Self> {
        let file = Arc::new(file);
        let project = Path::new(&places.project);
        let origin = Origin::from(Directory::open(Path::new(&places.builds), project)?);
        let sender = watch::Sender::new(Extent::default());
        let extent = sender.subscribe();
        let writing = Writing { file: Arc::clone(&file), extent: sender };
        tokio::task::spawn_blocking(move || writing.run(&origin, &entries, format, level));
        Ok(Self { file, extent })
    }

    /// The whole archive, as it comes, from its beginning.
    pub(super) fn stream(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let archive = self.clone();
        futures_util::stream::try_unfold((archive, 0), |(mut archive, offset)| async move {
            let piece = archive.piece(offset).await?;
            let next = offset + piece.len() as u64;
            Ok((!piece.is_empty()).then_some((piece, (archive, next))))
        })
    }

    /// The next bytes; none at the end.
    async fn piece(&mut self, offset: u64) -> io::Result<Bytes> {
        let there = self.extent.wait_for(|extent| extent.length > offset || extent.end.is_some());
        // The thread that packs says how it ended, unless it has panicked.
        let extent = there.await.map_err(|_| io::Error::other("packing was interrupted"))?.clone();
        if extent.length == offset {
            return match extent.end {
                Some(Err(error)) => Err(io::Error::other(error)),
                _ => Ok(Bytes::new()),
            };
        }
        // At most PIECE.
        let length = (extent.length - offset).min(PIECE as u64) as usize;
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; length];
            file.read_exact_at(&mut piece, offset).map(|()| Bytes::from(piece))
        });
        read.await.map_err(io::Error::other)?
    }

    /// Waits until it is whole; its length.
    ///
    /// # Errors
    /// When it could not be made.
    pub(super) async fn whole(&mut self) -> Result<u64, Arc<PackError>> {
        let interrupted =
            || Arc::new(PackError::Write(io::Error::other("packing was interrupted")));
        let extent = self.extent.wait_for(|extent| extent.end.is_some()).await;
        let extent = extent.map_err(|_| interrupted())?;
        match &extent.end {
            Some(Err(error)) => Err(Arc::clone(error)),
            _ => Ok(extent.length),
        }
    }

    /// How much there is, and why it ended too early if so.
    pub(super) fn state(&self) -> (u64, Option<Arc<PackError>>) {
        let extent = self.extent.borrow();
        (extent.length, extent.end.as_ref().and_then(|end| end.as_ref().err().cloned()))
    }
}

/// A file in the job's temporary directory that nobody else can open and that leaves nothing behind.
pub(super) fn nameless(places: &Directories) -> io::Result<File> {
    let temp = Directory::make(Path::new(&places.builds), Path::new(&places.temp))?;
    tempfile::tempfile_in(temp.path())
}

impl Writing {
    fn run(mut self, origin: &Origin, entries: &Entries, format: Format, level: Level) {
        let mut out = io::BufWriter::with_capacity(PIECE, &mut self);
        let result = pack(origin, entries, format, level, &mut out)
            .and_then(|()| out.flush().map_err(PackError::Write));
        // What is left after an error is no archive.
        drop(out.into_parts());
        self.extent.send_modify(|extent| extent.end = Some(result.map_err(Arc::new)));
    }
}

impl Write for &mut Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.extent.is_closed() {
            return Err(io::Error::other("nobody wants the archive any more"));
        }
        let count = (&*self.file).write(bytes)?;
        self.extent.send_modify(|extent| extent.length += count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::TryStreamExt;
    use runner_core::plan::Directories;

    use super::Growing;
    use crate::archive::pack::Format;
    use crate::archive::{Entries, Entry, Level};

    fn places(root: &std::path::Path) -> Directories {
        let project = root.join("p").to_str().unwrap().to_owned();
        Directories {
            builds: root.to_str().unwrap().to_owned(),
            temp: format!("{project}.tmp"),
            cache: project.clone(),
            project,
        }
    }

    #[tokio::test]
    async fn an_archive_is_read_twice_and_made_once() {
        let root = tempfile::tempdir().unwrap();
        let project = root.path().join("p");
        std::fs::create_dir(&project).unwrap();
        let content: Vec<u8> = (0..3_000_000u32).map(|n| (n / 3) as u8).collect();
        std::fs::write(project.join("file"), &content).unwrap();
        let entry = Entry::of(&std::fs::metadata(project.join("file")).unwrap()).unwrap();
        let entries = Arc::new(Entries::from([("file".into(), entry)]));
        let mut growing =
            Growing::pack(&places(root.path()), entries, Format::Raw, Level::Default).unwrap();
        // From the beginning, before it is whole; then once more, when the file is gone.
        let first: Vec<_> = growing.stream().try_collect().await.unwrap();
        assert_eq!(growing.whole().await.unwrap(), 3_000_000);
        std::fs::remove_file(project.join("file")).unwrap();
        let second: Vec<_> = growing.stream().try_collect().await.unwrap();
        assert!(first.concat() == content && second.concat() == content);
    }

    #[tokio::test]
    async fn an_archive_that_cannot_be_made_ends_the_stream_with_the_reason() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("p")).unwrap();
        let growing =
            Growing::pack(&places(root.path()), Arc::default(), Format::Raw, Level::Default)
                .unwrap();
        let error = growing.stream().try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(error.to_string(), "only one file can be sent as raw");
    }
}
