//! Which streams a trace is made of.

use serde::{Deserialize, Serialize};

/// Who speaks. Each stream has its own masks and its own lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The runner itself (`00`).
    Runner,
    /// The job's commands (`01`).
    Job,
    /// A service container (`0f`). The number tells services apart here; the trace does not.
    Service(u16),
}

/// Through which of its two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Standard output (`O`).
    Out,
    /// Standard error (`E`).
    Err,
}

/// The part of a line's header after the time: space, stream, kind; the flag follows.
pub(super) fn label(stream: Stream, kind: Kind) -> [u8; 4] {
    match (stream, kind) {
        (Stream::Runner, Kind::Out) => *b" 00O",
        (Stream::Runner, Kind::Err) => *b" 00E",
        (Stream::Job, Kind::Out) => *b" 01O",
        (Stream::Job, Kind::Err) => *b" 01E",
        (Stream::Service(_), Kind::Out) => *b" 0fO",
        (Stream::Service(_), Kind::Err) => *b" 0fE",
    }
}
