//! Packing: entries to a stream of bytes.
//!
//! Memory is bounded by the blocks in flight (see `blocks`), whatever the size of the files.

mod blocks;
mod headers;
mod single;
mod tar;
mod tar_batches;
mod zip;

use std::ffi::OsString;
use std::io::{self, Write};

use super::entry::Entries;
use super::level::Level;
use super::origin::Origin;

/// How an archive looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Zip with deflate.
    Zip,
    /// Zip with Zstandard (method 93).
    ZipZstd,
    /// Tar in one Zstandard frame.
    TarZstd,
    /// One gzip member for each file.
    Gzip,
    /// The one file itself.
    Raw,
}

/// Why an archive could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A file could not be read.
    #[error("{name:?} cannot be read: {error}")]
    Read {
        /// Which.
        name: OsString,
        /// Why.
        error: io::Error,
    },
    /// The archive could not be written.
    #[error("the archive cannot be written: {0}")]
    Write(io::Error),
    /// Gzip and raw hold files only.
    #[error("the {0:?} is not a regular file")]
    NotRegular(OsString),
    /// Raw is one file.
    #[error("only one file can be sent as raw")]
    NotOne,
    /// Zip has two bytes for a name's length.
    #[error("the name of {0:?} is too long for a zip archive")]
    NameTooLong(OsString),
}

/// Packs the entries below `root` in their order: archives of the same files are the same.
///
/// A file that has vanished since it was listed is left out.
///
/// # Errors
/// At the first file that cannot be read, and when `out` takes no more.
pub fn pack(
    root: &Origin,
    entries: &Entries,
    format: Format,
    level: Level,
    out: &mut dyn Write,
) -> Result<(), PackError> {
    match format {
        Format::Zip => zip::pack(root, entries, zip::Method::Deflate(level.deflate()), out),
        Format::ZipZstd => zip::pack(root, entries, zip::Method::Zstd(level.zstd()), out),
        Format::TarZstd => tar::pack(root, entries, level.zstd(), out),
        Format::Gzip => single::gzip(root, entries, out),
        Format::Raw => single::raw(root, entries, out),
    }
}

fn unreadable(name: &OsString) -> impl FnOnce(io::Error) -> PackError {
    let name = name.clone();
    move |error| PackError::Read { name, error }
}
