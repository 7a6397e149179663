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
//!
//! Both ends are codecs of `tokio-util`, for any stream of bytes:
//!
//! ```
//! use bytes::{Bytes, BytesMut};
//! use runner_core::ids::{Epoch, JobId, Offset};
//! use runner_core::wire::{
//!     AgentCodec, AgentFrame, FrameError, Hello, ManagerCodec, ManagerFrame, WIRE_VERSION,
//! };
//! use tokio_util::codec::{Decoder, Encoder};
//!
//! # fn main() -> Result<(), FrameError> {
//! let mut line = BytesMut::new();
//! let (job, epoch) = (JobId(7), Epoch(1));
//! // Nothing is pushed: the manager says which bytes it wants.
//! let hello =
//!     Hello { version: WIRE_VERSION, job, epoch, from: Offset::ZERO, until: Offset(65_536) };
//! ManagerCodec.encode(ManagerFrame::Hello(hello.clone()), &mut line)?;
//! assert!(matches!(AgentCodec.decode(&mut line)?, Some(ManagerFrame::Hello(said)) if said == hello));
//!
//! let piece = AgentFrame::Trace { offset: Offset::ZERO, bytes: Bytes::from_static(b"hello\n") };
//! AgentCodec.encode(piece, &mut line)?;
//! let rest = line.split_off(9); // the connection has brought a part of it so far
//! assert!(ManagerCodec.decode(&mut line)?.is_none());
//! line.unsplit(rest);
//! let Some(AgentFrame::Trace { offset, bytes }) = ManagerCodec.decode(&mut line)? else {
//!     panic!("a piece of trace");
//! };
//! assert_eq!((offset, &bytes[..]), (Offset::ZERO, &b"hello\n"[..]));
//!
//! // What is no frame is an error, and the connection of no more use: nothing is guessed.
//! let mut noise = BytesMut::from(&b"HTTP/1.1 200 OK\r\n"[..]);
//! assert!(matches!(ManagerCodec.decode(&mut noise), Err(FrameError::Length { .. })));
//! # Ok(())
//! # }
//! ```

mod codec;
mod frame;
mod terminal;

pub use codec::{AgentCodec, FrameError, MAX_CONTROL, MAX_FRAME, MAX_TRACE, ManagerCodec};
pub use frame::{
    AgentFrame, AnswerFrame, AskFrame, AssignFrame, Beat, ContainerFrame, ContainerState,
    DisruptionFrame, Hello, ImagePull, MOST_ASKS, ManagerFrame, OLDEST_WIRE_VERSION, OutputFrame,
    RefusalReason, Refused, StageFrame, StartFrame, StopFrame, StopMode, WIRE_VERSION, Want,
    Welcome, speaks,
};
pub use terminal::{MAX_TERMINAL_FRAME, TerminalCodec, TerminalError, TerminalFrame, TerminalSize};
