//! What a manager and a terminal in a job's build container say to each other.
//!
//! A frame is a length (`u32`, big endian, of what follows), a kind (`u8`) and a body: raw bytes for
//! what is typed and shown, two `u16` for a size, one byte for an exit status. Both ends are of
//! releases that know the same kinds; one that is unknown is passed over.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// Longest frame, kind included. What is longer is split by who sends it.
pub const MAX_TERMINAL_FRAME: usize = 32 * 1024;

const KEYS: u8 = 1;
const SIZE: u8 = 2;
const BEAT: u8 = 3;
const SCREEN: u8 = 4;
const ENDED: u8 = 5;

/// How large a terminal is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Width. Never 0.
    pub columns: u16,
    /// Height. Never 0.
    pub rows: u16,
}

impl Default for TerminalSize {
    /// 80 × 24, which programs take for granted that are not told.
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

/// A word of either side.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TerminalFrame {
    /// To the shell: what was typed.
    Keys(Bytes),
    /// To the shell: the window is this large now.
    Size(TerminalSize),
    /// Both ways: the other side is there. A side that hears nothing for a minute gives up.
    Beat,
    /// From the shell: what is to be shown.
    Screen(Bytes),
    /// From the shell: it has ended, with this status. The last frame.
    Ended(u8),
}

/// Why a stream of frames cannot be read on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TerminalError {
    /// The connection.
    #[error("the terminal's stream failed")]
    Io(#[from] std::io::Error),
    /// Not our frames: the other side is something else.
    #[error("the terminal's stream makes no sense: a frame of {0} bytes")]
    Length(usize),
}

/// Frames to bytes and back.
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use runner_core::wire::{TerminalCodec, TerminalFrame, TerminalSize};
/// use tokio_util::codec::{Decoder, Encoder};
///
/// # fn main() -> Result<(), runner_core::wire::TerminalError> {
/// let mut line = BytesMut::new();
/// let said = [
///     TerminalFrame::Size(TerminalSize { columns: 120, rows: 40 }),
///     TerminalFrame::Keys(Bytes::from_static(b"ls\n")),
/// ];
/// for frame in said.clone() {
///     TerminalCodec.encode(frame, &mut line)?;
/// }
/// for frame in said {
///     assert_eq!(TerminalCodec.decode(&mut line)?, Some(frame));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TerminalCodec;

impl Decoder for TerminalCodec {
    type Item = TerminalFrame;
    type Error = TerminalError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<TerminalFrame>, TerminalError> {
        loop {
            let Some(length) = src.first_chunk::<4>().map(|head| u32::from_be_bytes(*head)) else {
                return Ok(None);
            };
            // u32 fits usize on every platform that this builds for.
            let length = length as usize;
            if length == 0 || length > MAX_TERMINAL_FRAME {
                return Err(TerminalError::Length(length));
            }
            if src.len() < 4 + length {
                return Ok(None);
            }
            src.advance(4);
            let mut body = src.split_to(length).freeze();
            let frame = match body.get_u8() {
                KEYS => TerminalFrame::Keys(body),
                SCREEN => TerminalFrame::Screen(body),
                BEAT => TerminalFrame::Beat,
                SIZE if body.len() >= 4 => TerminalFrame::Size(TerminalSize {
                    columns: body.get_u16().max(1),
                    rows: body.get_u16().max(1),
                }),
                ENDED if !body.is_empty() => TerminalFrame::Ended(body.get_u8()),
                // Of a later release.
                _ => continue,
            };
            return Ok(Some(frame));
        }
    }
}

impl Encoder<TerminalFrame> for TerminalCodec {
    type Error = TerminalError;

    fn encode(&mut self, frame: TerminalFrame, dst: &mut BytesMut) -> Result<(), TerminalError> {
        let mut put = |kind: u8, body: &[u8]| {
            // At most MAX_TERMINAL_FRAME.
            dst.put_u32(body.len() as u32 + 1);
            dst.put_u8(kind);
            dst.put_slice(body);
        };
        match frame {
            TerminalFrame::Keys(bytes) => {
                bytes.chunks(MAX_TERMINAL_FRAME - 1).for_each(|piece| put(KEYS, piece));
            }
            TerminalFrame::Screen(bytes) => {
                bytes.chunks(MAX_TERMINAL_FRAME - 1).for_each(|piece| put(SCREEN, piece));
            }
            TerminalFrame::Size(TerminalSize { columns, rows }) => {
                let [a, b] = columns.to_be_bytes();
                let [c, d] = rows.to_be_bytes();
                put(SIZE, &[a, b, c, d]);
            }
            TerminalFrame::Beat => put(BEAT, &[]),
            TerminalFrame::Ended(status) => put(ENDED, &[status]),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use tokio_util::codec::{Decoder, Encoder};

    use super::{MAX_TERMINAL_FRAME, TerminalCodec, TerminalError, TerminalFrame, TerminalSize};

    fn through(frame: TerminalFrame) -> Vec<TerminalFrame> {
        let (mut bytes, mut arrived, mut frames) = (BytesMut::new(), BytesMut::new(), Vec::new());
        TerminalCodec.encode(frame, &mut bytes).unwrap();
        // Byte by byte: borders mean nothing.
        for byte in bytes {
            arrived.extend_from_slice(&[byte]);
            frames.extend(TerminalCodec.decode(&mut arrived).unwrap());
        }
        assert!(arrived.is_empty());
        frames
    }

    #[test]
    fn every_frame_arrives_as_it_was_sent() {
        for frame in [
            TerminalFrame::Keys(Bytes::from_static(b"ls\r")),
            TerminalFrame::Screen(Bytes::from_static(b"\x1b[0m\xff")),
            TerminalFrame::Size(TerminalSize { columns: 300, rows: 2 }),
            TerminalFrame::Beat,
            TerminalFrame::Ended(130),
        ] {
            assert_eq!(through(frame.clone()), [frame]);
        }
    }

    #[test]
    fn a_long_paste_is_split() {
        let frames = through(TerminalFrame::Keys(Bytes::from(vec![b'x'; 2 * MAX_TERMINAL_FRAME])));
        assert_eq!(frames.len(), 3);
    }

    #[test]
    fn a_kind_of_a_later_release_is_passed_over_and_nonsense_is_an_error() {
        let mut bytes = BytesMut::from(&[0, 0, 0, 2, 99, 1, 0, 0, 0, 1, 3][..]);
        assert_eq!(TerminalCodec.decode(&mut bytes).unwrap(), Some(TerminalFrame::Beat));
        for head in [[0, 0, 0, 0], *b"HTTP"] {
            let mut bytes = BytesMut::from(&head[..]);
            let error = TerminalCodec.decode(&mut bytes).unwrap_err();
            assert!(matches!(error, TerminalError::Length(_)), "{error}");
        }
    }
}
