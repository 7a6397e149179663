//! Archives of files below a directory: packing and unpacking.
//!
//! ```text
//!   entries (stages::files) ──► pack ──► any Write      zip, zipzstd, tarzstd, gzip, raw
//!   a file or any Read      ──► unpack ──► a directory  zip (any method), tar.zst
//! ```
//!
//! Owns the formats, the threads that compress, and the rule that nothing is written outside of the
//! directory. Does not own which files go in (`stages::files`), HTTP, or messages in the trace.
//!
//! The zip writer is ours, because the blocks of one file are compressed on several threads and
//! the result is a stream that is sent while it is made; the reader of foreign zip archives is the
//! `zip` crate's.

mod entry;
mod level;
mod origin;
pub mod pack;
pub mod unpack;

pub use entry::{Entries, Entry, Kind};
pub use level::Level;
pub use origin::Origin;
