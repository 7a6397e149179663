//! Websocket frames (RFC 6455, section 5) as a client reads and writes them.
//!
//! Made for connections that carry binary messages in channels: a message is handed out in the parts
//! in which it arrives, so nothing is gathered and nothing copied, and how the server divides it into
//! frames makes no difference. Text is refused: no exec protocol has it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Longest message that is read, in bytes. The API server sends 32 KiB; nothing is kept of a message,
/// so the limit only tells a peer that talks nonsense.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Longest payload of a control frame (section 5.5).
pub const MAX_CONTROL: usize = 125;

/// Opcode and flags, length, extended length. What a server sends has no mask.
const MAX_HEADER: usize = 10;
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

mod opcode {
    pub(super) const CONTINUATION: u8 = 0;
    pub(super) const TEXT: u8 = 1;
    pub(super) const BINARY: u8 = 2;
    pub(super) const CLOSE: u8 = 8;
    pub(super) const PING: u8 = 9;
    pub(super) const PONG: u8 = 10;
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of a binary message: all of it, or a part.
    Data {
        /// The bytes, a slice of what arrived. Empty only where the message is, or where the server
        /// ends a message with an empty frame.
        bytes: Bytes,
        /// Which part.
        part: Part,
    },
    /// To be answered with its payload.
    Ping(Bytes),
    /// An answer, or a sign of life that nobody asked for.
    Pong(Bytes),
    /// The server's farewell, with its code (section 7.4) where it gave one.
    Close(Option<u16>),
}

/// Where in its message a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The message begins here.
    pub first: bool,
    /// The message ends here.
    pub last: bool,
}

/// What a server must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Bits of an extension that was not agreed on; perhaps no websocket at all.
    #[error("a frame with reserved bits")]
    Reserved,
    /// An opcode without a meaning.
    #[error("a frame with opcode {0}")]
    Opcode(u8),
    /// Only clients mask (section 5.1).
    #[error("a masked frame")]
    Masked,
    /// A text message.
    #[error("a message that is not binary")]
    Text,
    /// A control frame that is too long, or divided.
    #[error("a control frame of {length} bytes, or one that is divided")]
    Control {
        /// What it claims.
        length: u64,
    },
    /// A message that is too long.
    #[error("a message of {length} bytes or more")]
    TooLong {
        /// What is known of its length.
        length: u64,
    },
    /// A continuation of no message, or a new message inside of another.
    #[error("a frame out of order")]
    Order,
    /// A farewell with half a code, or a code that must not be sent.
    #[error("a close frame that cannot be read")]
    Close,
}

/// Takes frames off what arrives. Keeps at most a header or a control frame.
#[derive(Debug, Default)]
pub struct Decoder {
    /// A header, or a whole control frame, as far as it has arrived.
    partial: Vec<u8>,
    /// Bytes that are missing of the current frame of a message.
    missing: usize,
    /// Whether the current frame is the last of its message.
    last: bool,
    /// Bytes of the current message up to the end of its current frame; `None` between messages.
    message: Option<usize>,
    /// Whether nothing of the message was handed out yet.
    fresh: bool,
}

impl Decoder {
    /// The next frame, or `None` when all of `input` has been used and more is needed. After an error
    /// the connection is of no more use.
    ///
    /// # Errors
    /// When the bytes break the protocol.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        loop {
            if self.missing > 0 {
                if input.is_empty() {
                    return Ok(None);
                }
                let bytes = input.split_to(self.missing.min(input.len()));
                self.missing -= bytes.len();
                return Ok(Some(self.data(bytes)));
            }
            let Some((first, length, header)) = self.header(input)? else { return Ok(None) };
            let (fin, code) = (first & FIN != 0, first & 0x0f);
            if code >= opcode::CLOSE {
                if !self.gather(header + length, input) {
                    return Ok(None);
                }
                let payload = std::mem::take(&mut self.partial).split_off(header);
                return control(code, payload.into()).map(Some);
            }
            self.partial.clear();
            self.begin(code, length)?;
            (self.missing, self.last) = (length, fin);
            if length == 0 && (fin || self.fresh) {
                // Of a message that begins with an empty frame, too: who counts messages sees it.
                return Ok(Some(self.data(Bytes::new())));
            }
        }
    }

    /// First byte, payload length and header length, once the header is complete and allowed.
    fn header(&mut self, input: &mut Bytes) -> Result<Option<(u8, usize, usize)>, FrameError> {
        if !self.gather(2, input) {
            return Ok(None);
        }
        let (first, second) = (self.partial[0], self.partial[1]);
        let code = first & 0x0f;
        if first & RESERVED != 0 {
            return Err(FrameError::Reserved);
        }
        match code {
            opcode::TEXT => return Err(FrameError::Text),
            opcode::CONTINUATION | opcode::BINARY => {}
            opcode::CLOSE..=opcode::PONG => {}
            _ => return Err(FrameError::Opcode(code)),
        }
        if second & MASKED != 0 {
            return Err(FrameError::Masked);
        }
        let header = match second {
            126 => 4,
            127 => MAX_HEADER,
            _ => 2,
        };
        if code >= opcode::CLOSE && (header > 2 || first & FIN == 0) {
            return Err(FrameError::Control { length: second.into() });
        }
        if !self.gather(header, input) {
            return Ok(None);
        }
        let mut rest = &self.partial[2..];
        let length = match second {
            126 => rest.get_u16().into(),
            127 => rest.get_u64(),
            short => short.into(),
        };
        match usize::try_from(length) {
            Ok(small) if small <= MAX_MESSAGE => Ok(Some((first, small, header))),
            _ => Err(FrameError::TooLong { length }),
        }
    }

    /// Notes that a frame of a message begins.
    fn begin(&mut self, code: u8, length: usize) -> Result<(), FrameError> {
        let before = match (code, self.message) {
            (opcode::BINARY, None) => {
                self.fresh = true;
                0
            }
            (opcode::CONTINUATION, Some(before)) => before,
            _ => return Err(FrameError::Order),
        };
        let total = before + length;
        if total > MAX_MESSAGE {
            return Err(FrameError::TooLong { length: total as u64 });
        }
        self.message = Some(total);
        Ok(())
    }

    fn data(&mut self, bytes: Bytes) -> Frame {
        let first = std::mem::take(&mut self.fresh);
        let last = self.last && self.missing == 0;
        if last {
            self.message = None;
        }
        Frame::Data { bytes, part: Part { first, last } }
    }

    /// Fills `partial` up to `length` bytes, if they are there.
    fn gather(&mut self, length: usize, input: &mut Bytes) -> bool {
        let wanted = length.saturating_sub(self.partial.len()).min(input.len());
        self.partial.extend_from_slice(&input[..wanted]);
        input.advance(wanted);
        self.partial.len() >= length
    }
}

fn control(code: u8, mut payload: Bytes) -> Result<Frame, FrameError> {
    Ok(match code {
        opcode::PING => Frame::Ping(payload),
        opcode::PONG => Frame::Pong(payload),
        _ if payload.is_empty() => Frame::Close(None),
        _ => match payload.try_get_u16() {
            // Section 7.4: the ones that are for the wire. The text behind it has no use here.
            Ok(code @ (1000..=1003 | 1007..=1014 | 3000..=4999)) => Frame::Close(Some(code)),
            _ => return Err(FrameError::Close),
        },
    })
}

/// What a client says. Each is a frame of its own: nothing that is sent needs to be divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A binary message in a channel: its number, then its bytes.
    Message(u8, Bytes),
    /// A ping without a payload.
    Ping,
    /// The answer to a ping; at most [`MAX_CONTROL`] bytes, as the ping.
    Pong(Bytes),
    /// A farewell without a code.
    Close,
}

/// Appends a frame. The mask has to be fresh random bytes for each.
pub fn encode(said: &Said, mask: [u8; 4], out: &mut BytesMut) {
    let (code, channel, payload): (u8, Option<u8>, &[u8]) = match said {
        Said::Message(channel, bytes) => (opcode::BINARY, Some(*channel), bytes),
        Said::Ping => (opcode::PING, None, &[]),
        Said::Pong(bytes) => (opcode::PONG, None, &bytes[..bytes.len().min(MAX_CONTROL)]),
        Said::Close => (opcode::CLOSE, None, &[]),
    };
    let length = payload.len() + channel.iter().len();
    out.reserve(MAX_HEADER + mask.len() + length);
    out.put_u8(FIN | code);
    match length {
        0..126 => out.put_u8(MASKED | length as u8),
        126..=0xffff => {
            out.put_u8(MASKED | 126);
            out.put_u16(length as u16);
        }
        _ => {
            out.put_u8(MASKED | 127);
            out.put_u64(length as u64);
        }
    }
    out.put_slice(&mask);
    let start = out.len();
    out.put_slice(channel.as_slice());
    out.put_slice(payload);
    for (byte, mask) in out[start..].iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
