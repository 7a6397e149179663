//! What a manager and an agent say to each other.
//!
//! A frame is a length (`u32`, big endian, of what follows), a kind (`u8`) and a body. Trace bytes
//! are `u64` offset plus raw bytes, so that they can be passed on without a copy; output of other
//! containers is bytes too, after its time, a flag and the container's name; everything else is a
//! small JSON object, so that a field can be added without a new version.
//!
//! ```text
//!   manager                         agent
//!     Hello{epoch, from, until} ───►
//!                              ◄─── Welcome | Refused
//!                              ◄─── Trace, Stage, Beat …   (Trace only up to `until`)
//!     Want, Beat, Stop         ───►
//!                              ◄─── Ask
//!     Answer                   ───►
//!     Container, Output        ───►                        (what the agent cannot see by itself)
//!                              ◄─── Verdict                (after the last trace byte asked for)
//!     Release                  ───►                        (the source has everything)
//! ```

mod codec;
mod frame;
mod terminal;

pub use codec::{AgentCodec, FrameError, MAX_CONTROL, MAX_FRAME, MAX_TRACE, ManagerCodec};
pub use frame::{
    AgentFrame, AnswerFrame, AskFrame, AssignFrame, Beat, ContainerFrame, ContainerState,
    DisruptionFrame, Hello, MOST_ASKS, ManagerFrame, OLDEST_WIRE_VERSION, OutputFrame,
    RefusalReason, Refused, StageFrame, StopFrame, StopMode, WIRE_VERSION, Want, Welcome, speaks,
};
pub use terminal::{MAX_TERMINAL_FRAME, TerminalCodec, TerminalError, TerminalFrame, TerminalSize};
