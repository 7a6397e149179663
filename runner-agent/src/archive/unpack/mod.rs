//! Unpacking: a stream or a file to a directory, whatever the archive says.
//!
//! Nothing is written outside of the directory: names that lead out are refused, every directory on
//! the way is opened by its parent and never through a link (`place`), links are made last, and an
//! archive with anything below one of its own links is refused. What an archive may unpack to is
//! bounded (`limits`).
//!
//! A link with an absolute target is made as it is: that is what virtual environments in caches
//! consist of, and nothing of ours ever follows it. One that climbs out of the directory with `..`
//! is refused: where it leads depends on where the project happens to lie, so no honest archive
//! needs it.

mod limits;
mod name;
mod place;
mod pread;
mod tar;
mod tar_entries;
mod tar_writers;
mod zip;
mod zip_data;
mod zip_list;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

pub use limits::Limits;

use pread::PositionedFile;

/// Why an archive was not unpacked (whole).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// A name that leads out of the directory.
    #[error("the archive was refused: its entry {0:?} lies outside of the project directory")]
    Outside(String),
    /// A link that leads out of the directory.
    #[error("the archive was refused: its link {0:?} leads out of the project directory")]
    Link(String),
    /// An entry below one of the archive's own links or files.
    #[error("the archive was refused: its entry {0:?} lies below something that is no directory")]
    Through(String),
    /// A device, a pipe or another thing that no build makes.
    #[error("the archive was refused: its entry {0:?} is neither file, directory nor link")]
    Special(String),
    /// More data than any archive may hold.
    #[error("the archive was refused: it unpacks to more than {} GiB", .0 >> 30)]
    TooLarge(u64),
    /// More entries than any archive may hold.
    #[error("the archive was refused: it has more than {0} entries")]
    TooMany(u64),
    /// Data that is there more than once, or packed as no honest data is.
    #[error("the archive was refused: it unpacks to far more than its size allows for")]
    Bomb,
    /// A format that nobody unpacks here.
    #[error("{0:?} format: unsupported archive format")]
    Unsupported(&'static str),
    /// Not an archive, or a broken one.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// The file system does not let us.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        error: io::Error,
    },
}

/// What came out of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// What an archive is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    /// Zstandard, so a tar archive in it.
    TarZstd,
    /// Nothing unpacks it.
    Gzip,
    /// Anything else has to be a zip archive.
    Zip,
}

/// Bytes that [`Magic::of`] wants to see.
pub const MAGIC: usize = 4;

impl Magic {
    /// Looks at the first bytes; fewer than [`MAGIC`] are enough of a broken archive.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::TarZstd,
            [0x1f, 0x8b, ..] => Self::Gzip,
            _ => Self::Zip,
        }
    }
}

/// Unpacks an archive that lies in a file.
///
/// # Errors
/// At the first entry that must not or cannot be written. A zip archive is checked as a whole
/// before anything is written.
pub fn unpack(file: File, root: &Path, limits: Limits) -> Result<Unpacked, UnpackError> {
    let mut magic = [0; MAGIC];
    let unreadable = |error: io::Error| UnpackError::Damaged(format!("it cannot be read: {error}"));
    let count = file.read_at(&mut magic, 0).map_err(unreadable)?;
    match Magic::of(&magic[..count]) {
        // From its beginning, wherever whoever wrote the file has left off.
        Magic::TarZstd => tar::unpack(PositionedFile::new(file).map_err(unreadable)?, root, limits),
        Magic::Gzip => Err(UnpackError::Unsupported("gzip")),
        Magic::Zip => zip::unpack(file, root, limits),
    }
}

/// Unpacks a tar archive in Zstandard while it comes in.
///
/// # Errors
/// As [`unpack`]; what came before the error has been written.
pub fn unpack_tar_zstd(
    stream: impl Read,
    root: &Path,
    limits: Limits,
) -> Result<Unpacked, UnpackError> {
    tar::unpack(stream, root, limits)
}
