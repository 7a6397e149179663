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
//! Writer and reader of zip archives are ours: the `zip` crate neither compresses the blocks of one
//! file on several threads nor writes to a stream, and loses set-uid bits, seconds and owners.

mod entry;
mod level;
mod origin;
pub mod pack;
pub mod unpack;

pub use entry::{Entries, Entry, Kind};
pub use level::Level;
pub use origin::Origin;
