//! The log pipeline: what the streams of a job print becomes the trace, byte for byte as GitLab
//! wants it. It runs in the agent, beside the job.
//!
//! ```text
//!   bytes of a stream ─► values ─► URL parameters ─► token prefixes ─► UTF-8 ─► lines ─┐
//!   bytes of another  ─► …        (each stream has its own chain)                      ├─► limit, CRC ─► trace
//!   the runner's own  ─► …                                                             ┘
//! ```
//!
//! It owns what is hidden, how lines look, where the trace ends, and its checksum. It does not own a
//! clock, a file or a task: time comes in as an argument and bytes go out into the caller's buffer.
//!
//! Most bytes of a log are in no secret and in no broken character. They are only looked at by
//! vector searches and copied once; the exact automata see the few places where something may
//! begin.

mod automaton;
mod checkpoint;
mod grams;
mod lines;
mod mask;
mod message;
mod phrase;
mod pipeline;
mod prefix;
mod repair;
mod scan;
mod stamp;
mod starts;
mod stream;
mod url;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod rules;

/// When a write came in, as [`LogPipeline`] takes it: the log has no clock of its own.
pub use jiff::Timestamp;

pub use checkpoint::{Checkpoint, ResumeError};
pub use mask::Masker;
pub use message::{Message, section_end, section_start};
pub use pipeline::LogPipeline;
pub use prefix::DEFAULT_TOKEN_PREFIXES;
pub use stream::{Kind, Stream};

/// What stands in place of something secret.
const MASK: &[u8] = b"[MASKED]";

/// What the masks hand to each other. A mask is no text: nothing is searched for in it, and nothing
/// that was found goes across it. Otherwise a prefix such as `x[` would match or not depending on
/// how much of the input was at hand.
#[derive(Clone, Copy)]
enum Symbol {
    Byte(u8),
    Mask,
}
