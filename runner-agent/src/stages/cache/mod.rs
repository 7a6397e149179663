//! Caches: restored before the user's commands, archived after them. Nothing here fails a job.
//!
//! ```text
//!   restore:  key, fallbacks ──► remote (ask, GET) or local archive ──► unpack ──► manifest
//!   archive:  files ──► as the manifest says? ──► pack ──► local archive ──► remote (ask, PUT)
//!                                                  └─────► parts ──────────► remote (ask, PUT) each
//! ```
//!
//! An archive is in a file only where it is kept for the next job, or where the store takes it as a whole only.
//!
//! Several are fetched and sent side by side; they are unpacked and packed one after the other, in
//! their order, since later ones overwrite what earlier ones brought.

mod archive;
mod fetch;
mod local;
mod manifest;
mod parts;
mod remote;
mod restore;
mod upload;

pub(super) use archive::archive;
pub(super) use restore::restore;

use runner_core::log::Message;
use runner_core::plan::{HeaderLine, LineLevel};

/// Caches whose transfers run at once. Each is at most one question to the manager at a time.
const SIDE_BY_SIDE: usize = 4;

/// What the planner says about a cache, as the trace shows it.
fn notice(line: &HeaderLine) -> Message {
    match line.level {
        LineLevel::Warning => Message::warning(&line.text),
        LineLevel::Error => Message::error(&line.text),
        LineLevel::Info => Message::info(&line.text),
        _ => Message::plain(&line.text),
    }
}
