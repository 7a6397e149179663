//! Frames to bytes and back.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::{Decoder, Encoder};

use super::frame::{AgentFrame, AssignFrame, ManagerFrame, OutputFrame};
use crate::ids::Offset;

/// Longest trace piece in one frame, in bytes. Small enough for the frame to fit one websocket
/// message of any proxy, large enough that its header does not count.
pub const MAX_TRACE: usize = 64 * 1024;
/// Longest JSON body, in bytes. A verdict lists its stages and their messages, nothing else grows.
pub const MAX_CONTROL: usize = 256 * 1024;
/// Longest frame after the length field, in bytes.
pub const MAX_FRAME: usize = MAX_CONTROL + 1;

const HEADER: usize = 4;

/// Why a byte stream is not a stream of frames. The connection is of no more use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The transport failed.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// A length that no frame has.
    #[error("a frame claims {length} bytes, at most {MAX_FRAME} are allowed")]
    Length {
        /// What it claims.
        length: usize,
    },
    /// A body that does not fit its kind.
    #[error("a frame of kind {kind} has an unreadable body")]
    Body {
        /// The frame's kind.
        kind: u8,
        /// Why, where JSON was expected.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// A trace piece that is empty, too long, or ends beyond the last possible offset.
    #[error("a trace frame at offset {offset} with {length} bytes is not allowed")]
    Trace {
        /// Where it claims to begin.
        offset: u64,
        /// How many bytes it has.
        length: usize,
    },
}

/// Decodes what agents say, encodes what managers say: the manager's end.
#[derive(Clone, Copy, Debug, Default)]
pub struct ManagerCodec;

/// Decodes what managers say, encodes what agents say: the agent's end.
#[derive(Clone, Copy, Debug, Default)]
pub struct AgentCodec;

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const WANT: u8 = 2;
    pub(super) const BEAT: u8 = 3;
    pub(super) const STOP: u8 = 4;
    pub(super) const RELEASE: u8 = 5;
    pub(super) const ANSWER: u8 = 6;
    pub(super) const CONTAINER: u8 = 7;
    pub(super) const OUTPUT: u8 = 8;
    pub(super) const ASSIGN: u8 = 9;
    pub(super) const DISRUPTION: u8 = 10;
    pub(super) const START: u8 = 11;
    pub(super) const WELCOME: u8 = 65;
    pub(super) const REFUSED: u8 = 66;
    pub(super) const TRACE: u8 = 67;
    pub(super) const STAGE: u8 = 68;
    pub(super) const AGENT_BEAT: u8 = 69;
    pub(super) const VERDICT: u8 = 70;
    pub(super) const ASK: u8 = 71;
}

/// Takes one whole frame off the front: its kind and body.
fn split(buffer: &mut BytesMut) -> Result<Option<(u8, Bytes)>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*header) as usize;
    if length == 0 || length > MAX_FRAME {
        return Err(FrameError::Length { length });
    }
    if buffer.len() < HEADER + length {
        buffer.reserve(HEADER + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEADER);
    let mut frame = buffer.split_to(length).freeze();
    let kind = frame.get_u8();
    Ok(Some((kind, frame)))
}

fn json<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(|error| FrameError::Body { kind, source: Some(error) })
}

fn put_json(kind: u8, body: &impl Serialize, out: &mut BytesMut) -> Result<(), FrameError> {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(kind);
    serde_json::to_writer(out.writer(), body)
        .map_err(|error| FrameError::Body { kind, source: Some(error) })?;
    let length = out.len() - start - HEADER;
    if length > MAX_FRAME {
        out.truncate(start);
        return Err(FrameError::Length { length });
    }
    // `length` is at most MAX_FRAME, far below u32::MAX.
    out[start..start + HEADER].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(())
}

fn put_empty(kind: u8, out: &mut BytesMut) {
    out.put_u32(1);
    out.put_u8(kind);
}

impl Decoder for AgentCodec {
    type Item = ManagerFrame;
    type Error = FrameError;

    /// A kind that this release does not know is skipped: a later manager may say more.
    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<ManagerFrame>, FrameError> {
        while let Some((kind, body)) = split(buffer)? {
            let frame = match kind {
                kind::HELLO => ManagerFrame::Hello(json(kind, &body)?),
                kind::WANT => ManagerFrame::Want(json(kind, &body)?),
                kind::BEAT => ManagerFrame::Beat(json(kind, &body)?),
                kind::STOP => ManagerFrame::Stop(json(kind, &body)?),
                kind::RELEASE => ManagerFrame::Release,
                kind::ANSWER => ManagerFrame::Answer(json(kind, &body)?),
                kind::CONTAINER => ManagerFrame::Container(json(kind, &body)?),
                kind::OUTPUT => ManagerFrame::Output(output(body)?),
                kind::ASSIGN => ManagerFrame::Assign(assign(body)?),
                kind::DISRUPTION => ManagerFrame::Disruption(json(kind, &body)?),
                kind::START => ManagerFrame::Start(json(kind, &body)?),
                _ => continue,
            };
            return Ok(Some(frame));
        }
        Ok(None)
    }
}

impl Encoder<ManagerFrame> for ManagerCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: ManagerFrame, out: &mut BytesMut) -> Result<(), FrameError> {
        match frame {
            ManagerFrame::Hello(body) => put_json(kind::HELLO, &body, out),
            ManagerFrame::Want(body) => put_json(kind::WANT, &body, out),
            ManagerFrame::Beat(body) => put_json(kind::BEAT, &body, out),
            ManagerFrame::Stop(body) => put_json(kind::STOP, &body, out),
            ManagerFrame::Release => {
                put_empty(kind::RELEASE, out);
                Ok(())
            }
            ManagerFrame::Answer(body) => put_json(kind::ANSWER, &body, out),
            ManagerFrame::Container(body) => put_json(kind::CONTAINER, &body, out),
            ManagerFrame::Output(body) => put_output(&body, out),
            ManagerFrame::Assign(body) => put_assign(&body, out),
            ManagerFrame::Disruption(body) => put_json(kind::DISRUPTION, &body, out),
            ManagerFrame::Start(body) => put_json(kind::START, &body, out),
        }
    }
}

fn assign(mut body: Bytes) -> Result<AssignFrame, FrameError> {
    if body.is_empty() || body.len() > 1 + MAX_TRACE {
        return Err(FrameError::Body { kind: kind::ASSIGN, source: None });
    }
    let last = body.get_u8() != 0;
    Ok(AssignFrame { last, bytes: body })
}

fn put_assign(frame: &AssignFrame, out: &mut BytesMut) -> Result<(), FrameError> {
    if frame.bytes.len() > MAX_TRACE {
        return Err(FrameError::Body { kind: kind::ASSIGN, source: None });
    }
    out.reserve(HEADER + 2 + frame.bytes.len());
    // At most MAX_TRACE + 2, far below u32::MAX.
    out.put_u32((2 + frame.bytes.len()) as u32);
    out.put_u8(kind::ASSIGN);
    out.put_u8(u8::from(frame.last));
    out.put_slice(&frame.bytes);
    Ok(())
}

/// Time, whether a line begins, length of the name, name, bytes.
const OUTPUT_HEADER: usize = 10;

fn output(mut body: Bytes) -> Result<OutputFrame, FrameError> {
    let malformed = FrameError::Body { kind: kind::OUTPUT, source: None };
    if body.len() < OUTPUT_HEADER {
        return Err(malformed);
    }
    let (time, begins, name) = (body.get_i64(), body.get_u8(), usize::from(body.get_u8()));
    if name >= body.len() || body.len() - name > MAX_TRACE {
        return Err(malformed);
    }
    let name = body.split_to(name);
    let Ok(container) = std::str::from_utf8(&name) else { return Err(malformed) };
    Ok(OutputFrame { container: container.to_owned(), time, begins: begins != 0, bytes: body })
}

fn put_output(frame: &OutputFrame, out: &mut BytesMut) -> Result<(), FrameError> {
    let OutputFrame { container, time, begins, bytes } = frame;
    let name = u8::try_from(container.len());
    let (Ok(name), 1..=MAX_TRACE) = (name, bytes.len()) else {
        return Err(FrameError::Body { kind: kind::OUTPUT, source: None });
    };
    let length = 1 + OUTPUT_HEADER + container.len() + bytes.len();
    out.reserve(HEADER + length);
    // At most MAX_TRACE and some hundred bytes, far below u32::MAX.
    out.put_u32(length as u32);
    out.put_u8(kind::OUTPUT);
    out.put_i64(*time);
    out.put_u8(u8::from(*begins));
    out.put_u8(name);
    out.put_slice(container.as_bytes());
    out.put_slice(bytes);
    Ok(())
}

impl Decoder for ManagerCodec {
    type Item = AgentFrame;
    type Error = FrameError;

    /// A kind that this release does not know is skipped: a later agent may say more.
    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<AgentFrame>, FrameError> {
        while let Some((kind, mut body)) = split(buffer)? {
            let frame = match kind {
                kind::WELCOME => AgentFrame::Welcome(json(kind, &body)?),
                kind::REFUSED => AgentFrame::Refused(json(kind, &body)?),
                kind::TRACE => {
                    if body.len() < 8 {
                        return Err(FrameError::Body { kind, source: None });
                    }
                    let offset = body.get_u64();
                    let length = body.len();
                    let fits = offset.checked_add(length as u64).is_some();
                    if length == 0 || length > MAX_TRACE || !fits {
                        return Err(FrameError::Trace { offset, length });
                    }
                    AgentFrame::Trace { offset: Offset(offset), bytes: body }
                }
                kind::STAGE => AgentFrame::Stage(json(kind, &body)?),
                kind::AGENT_BEAT => AgentFrame::Beat(json(kind, &body)?),
                kind::VERDICT => AgentFrame::Verdict(json(kind, &body)?),
                kind::ASK => AgentFrame::Ask(json(kind, &body)?),
                _ => continue,
            };
            return Ok(Some(frame));
        }
        Ok(None)
    }
}

impl Encoder<AgentFrame> for AgentCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: AgentFrame, out: &mut BytesMut) -> Result<(), FrameError> {
        match frame {
            AgentFrame::Welcome(body) => put_json(kind::WELCOME, &body, out),
            AgentFrame::Refused(body) => put_json(kind::REFUSED, &body, out),
            AgentFrame::Trace { offset, bytes } => {
                if bytes.is_empty() || bytes.len() > MAX_TRACE {
                    return Err(FrameError::Trace { offset: offset.0, length: bytes.len() });
                }
                out.reserve(HEADER + 9 + bytes.len());
                // At most MAX_TRACE + 9, far below u32::MAX.
                out.put_u32((9 + bytes.len()) as u32);
                out.put_u8(kind::TRACE);
                out.put_u64(offset.0);
                out.put_slice(&bytes);
                Ok(())
            }
            AgentFrame::Stage(body) => put_json(kind::STAGE, &body, out),
            AgentFrame::Beat(body) => put_json(kind::AGENT_BEAT, &body, out),
            AgentFrame::Verdict(body) => put_json(kind::VERDICT, &body, out),
            AgentFrame::Ask(body) => put_json(kind::ASK, &body, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};
    use tokio_util::codec::{Decoder, Encoder};

    use super::{AgentCodec, FrameError, MAX_TRACE, ManagerCodec};
    use crate::ids::{Epoch, JobId, Offset};
    use crate::outcome::{Outcome, TraceSummary, Verdict};
    use crate::wire::{
        AgentFrame, AssignFrame, ContainerFrame, ContainerState, Hello, ImagePull, ManagerFrame,
        OutputFrame, StartFrame, StopFrame, StopMode, WIRE_VERSION, Want,
    };

    fn agent_frames() -> Vec<AgentFrame> {
        vec![
            AgentFrame::Trace { offset: Offset(7), bytes: Bytes::from_static(b"\x00\xffline\n") },
            AgentFrame::Trace { offset: Offset(0), bytes: Bytes::from(vec![b'x'; MAX_TRACE]) },
            AgentFrame::Verdict(Verdict {
                outcome: Outcome::Exited(37),
                trace: TraceSummary::of(b"abc"),
                stages: Vec::new(),
            }),
        ]
    }

    #[test]
    fn frames_survive_being_fed_one_byte_at_a_time() {
        let mut wire = BytesMut::new();
        for frame in agent_frames() {
            AgentCodec.encode(frame, &mut wire).unwrap();
        }
        let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
        for byte in wire {
            buffer.put_u8(byte);
            seen.extend(ManagerCodec.decode(&mut buffer).unwrap());
        }
        assert_eq!(seen, agent_frames());
    }

    #[test]
    fn what_a_manager_says_arrives() {
        let frames = [
            ManagerFrame::Hello(Hello {
                version: WIRE_VERSION,
                job: JobId(1),
                epoch: Epoch(2),
                from: Offset(3),
                until: Offset(4),
            }),
            ManagerFrame::Want(Want { from: None, until: Offset(9) }),
            ManagerFrame::Stop(StopFrame { mode: StopMode::Cancel }),
            ManagerFrame::Release,
            ManagerFrame::Container(ContainerFrame {
                name: "db".into(),
                state: ContainerState::Ended(1),
            }),
            ManagerFrame::Output(OutputFrame {
                container: "db".into(),
                time: -5,
                begins: true,
                bytes: Bytes::from_static(b"\x00\xffready\n"),
            }),
            ManagerFrame::Assign(AssignFrame { last: true, bytes: Bytes::from_static(b"{}") }),
            ManagerFrame::Start(StartFrame {
                placed_ms: Some(5),
                pulls: vec![ImagePull { container: "build".into(), took_ms: 7, bytes: Some(9) }],
            }),
        ];
        let mut wire = BytesMut::new();
        for frame in frames.clone() {
            ManagerCodec.encode(frame, &mut wire).unwrap();
        }
        for frame in frames {
            assert_eq!(AgentCodec.decode(&mut wire).unwrap(), Some(frame));
        }
        assert!(wire.is_empty());
    }

    #[test]
    fn an_unknown_kind_is_skipped() {
        let mut wire = BytesMut::new();
        wire.put_slice(&[0, 0, 0, 3, 200, 1, 2]);
        ManagerCodec.encode(ManagerFrame::Release, &mut wire).unwrap();
        assert_eq!(AgentCodec.decode(&mut wire).unwrap(), Some(ManagerFrame::Release));
    }

    #[test]
    fn a_trace_piece_is_handed_on_without_a_copy() {
        let mut wire = BytesMut::new();
        let bytes = Bytes::from_static(b"payload");
        AgentCodec.encode(AgentFrame::Trace { offset: Offset(0), bytes }, &mut wire).unwrap();
        let place = wire[13..].as_ptr();
        match ManagerCodec.decode(&mut wire).unwrap() {
            Some(AgentFrame::Trace { bytes, .. }) => assert_eq!(bytes.as_ptr(), place),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn impossible_frames_are_errors_and_not_allocations() {
        let mut huge = BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 67][..]);
        assert!(matches!(ManagerCodec.decode(&mut huge), Err(FrameError::Length { .. })));
        let mut nothing = BytesMut::from(&[0, 0, 0, 0][..]);
        assert!(matches!(ManagerCodec.decode(&mut nothing), Err(FrameError::Length { length: 0 })));
        let mut short = BytesMut::from(&[0, 0, 0, 3, 67, 0, 0][..]);
        assert!(matches!(ManagerCodec.decode(&mut short), Err(FrameError::Body { kind: 67, .. })));
        let mut overflow = BytesMut::from(&[0, 0, 0, 10, 67][..]);
        overflow.put_u64(u64::MAX);
        overflow.put_u8(b'x');
        assert!(matches!(ManagerCodec.decode(&mut overflow), Err(FrameError::Trace { .. })));
        // An output frame whose name would end where its bytes should begin.
        let mut output = BytesMut::from(&[0, 0, 0, 13, 7][..]);
        output.put_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 2, b'd', b'b']);
        assert!(matches!(AgentCodec.decode(&mut output), Err(FrameError::Body { kind: 7, .. })));
        let mut json = BytesMut::from(&[0, 0, 0, 2, 65, b'{'][..]);
        assert!(matches!(ManagerCodec.decode(&mut json), Err(FrameError::Body { kind: 65, .. })));
    }
}
