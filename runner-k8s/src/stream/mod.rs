//! One stream into a pod: runs a command by exec and speaks frames with it.
//!
//! Owns the way from a [`kube::Client`] to [`AgentFrame`](runner_core::wire::AgentFrame)s: opening
//! (websocket or SPDY), channels, keep-alive, limits, and how it ended. Does not own what the frames
//! mean, when to open again, or which transport to choose; that is the job handle's.
//!
//! ```text
//!   Session ── FrameDecoder ── Link ═══ Driver ── Wire: WebSocketWire ──┐
//!   (frames)   (no copies)    (bytes)   (task:          or SpdyWire  ──┴── upgraded connection
//!                                        clock, exit status)
//! ```
//!
//! kube's own exec is not used: it hangs when the connection drops, and copies every byte often.

mod drive;
mod error;
mod exit;
mod frames;
mod keepalive;
mod link;
mod reading;
mod session;
#[doc(hidden)]
pub mod spdy;
mod target;
#[cfg(test)]
mod tests;
mod upgrade;
#[doc(hidden)]
pub mod websocket;

pub use error::{LostError, OpenError, OpenErrorKind, SessionEnd, Silence, StderrTail};
#[doc(hidden)]
pub use frames::FrameDecoder;
pub use link::{Link as ByteLink, READ_AHEAD, WRITE_BEHIND};
pub use session::{Session, open};
pub use target::{ExecTarget, Patience, Transport};
