//! Frames to bytes and back (SPDY/3.1 draft, section 2).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Longest control frame that is read, in bytes. Those of an exec have less than 100; the draft
/// asks for at least 8 KiB.
pub const MAX_CONTROL: usize = 16 * 1024;

const HEADER: usize = 8;
const VERSION: u16 = 3;
const FIN: u8 = 1;
/// Stream ids and window sizes have 31 bits.
const MASK: u32 = 0x7fff_ffff;

/// A stream's number. Those that the client opens are odd.
pub type StreamId = u32;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of a stream: a whole data frame or a part of one; `fin` only with the last part.
    Data {
        /// Whose.
        stream: StreamId,
        /// The bytes, a slice of what arrived.
        bytes: Bytes,
        /// Whether these are the stream's last ones.
        fin: bool,
    },
    /// A stream is opened.
    SynStream {
        /// The new one.
        stream: StreamId,
        /// Whether its opener will send nothing in it.
        fin: bool,
        /// Compressed, see [`headers`](super::headers).
        headers: Bytes,
    },
    /// A stream is accepted.
    SynReply {
        /// Which.
        stream: StreamId,
        /// Whether the accepter will send nothing in it.
        fin: bool,
        /// Compressed, see [`headers`](super::headers).
        headers: Bytes,
    },
    /// A stream is refused or broken off.
    Reset {
        /// Which.
        stream: StreamId,
        /// Why (section 2.4.2).
        status: u32,
    },
    /// To be sent back by the side whose numbers it does not have.
    Ping(u32),
    /// No more streams are accepted; the connection is about to end.
    GoAway {
        /// The last stream that was accepted.
        last: StreamId,
        /// 0 is good order.
        status: u32,
    },
    /// More headers of a stream.
    Headers {
        /// Which.
        stream: StreamId,
        /// Whether the stream ends.
        fin: bool,
        /// Compressed, see [`headers`](super::headers).
        headers: Bytes,
    },
    /// So many more bytes may be sent.
    WindowUpdate {
        /// In this stream; 0 means the whole connection.
        stream: StreamId,
        /// More than 0.
        delta: u32,
    },
    /// A kind that means nothing to an exec (settings, credentials, later ones).
    Other(u16),
}

/// What is not SPDY/3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A control frame of another version; perhaps not SPDY at all.
    #[error("a control frame of version {0}")]
    Version(u16),
    /// A control frame that is too long.
    #[error("a control frame of kind {kind} with {length} bytes")]
    TooLong {
        /// Its kind.
        kind: u16,
        /// What it claims.
        length: usize,
    },
    /// A control frame that has not the length of its kind.
    #[error("a control frame of kind {kind} with only {length} bytes")]
    TooShort {
        /// Its kind.
        kind: u16,
        /// What it has.
        length: usize,
    },
    /// Stream 0 where a stream is needed.
    #[error("a frame for stream 0")]
    NoStream,
}

mod kind {
    pub(super) const SYN_STREAM: u16 = 1;
    pub(super) const SYN_REPLY: u16 = 2;
    pub(super) const RST_STREAM: u16 = 3;
    pub(super) const PING: u16 = 6;
    pub(super) const GOAWAY: u16 = 7;
    pub(super) const HEADERS: u16 = 8;
    pub(super) const WINDOW_UPDATE: u16 = 9;
}

/// Takes frames off a buffer. It never asks for more than [`MAX_CONTROL`] bytes at once: a data
/// frame is handed out in the parts in which it arrives.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The data frame that is under way: stream, missing bytes, whether it is the last one.
    data: Option<(StreamId, usize, bool)>,
}

impl Decoder {
    /// The next frame, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the bytes are not SPDY/3.1. The connection is of no more use.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if let Some((stream, missing, fin)) = self.data {
            if buffer.is_empty() {
                return Ok(None);
            }
            return Ok(Some(self.data(stream, missing, fin, buffer)));
        }
        let Some(header) = buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let mut header = &header[..];
        let (word, tail) = (header.get_u32(), header.get_u32());
        let (flags, length) = ((tail >> 24) as u8, (tail & 0x00ff_ffff) as usize);
        if word & !MASK == 0 {
            if word == 0 {
                return Err(FrameError::NoStream);
            }
            buffer.advance(HEADER);
            return Ok(match length {
                0 => Some(Frame::Data { stream: word, bytes: Bytes::new(), fin: flags & FIN != 0 }),
                _ if buffer.is_empty() => {
                    self.data = Some((word, length, flags & FIN != 0));
                    None
                }
                _ => Some(self.data(word, length, flags & FIN != 0, buffer)),
            });
        }
        let version = ((word & MASK) >> 16) as u16;
        let kind = (word & 0xffff) as u16;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(FrameError::TooLong { kind, length });
        }
        if buffer.len() < HEADER + length {
            return Ok(None);
        }
        buffer.advance(HEADER);
        control(kind, flags, buffer.split_to(length).freeze()).map(Some)
    }

    fn data(
        &mut self,
        stream: StreamId,
        missing: usize,
        fin: bool,
        buffer: &mut BytesMut,
    ) -> Frame {
        let bytes = buffer.split_to(missing.min(buffer.len())).freeze();
        let missing = missing - bytes.len();
        self.data = (missing > 0).then_some((stream, missing, fin));
        Frame::Data { stream, bytes, fin: fin && missing == 0 }
    }
}

fn control(kind: u16, flags: u8, mut body: Bytes) -> Result<Frame, FrameError> {
    let length = body.len();
    let least = match kind {
        kind::SYN_STREAM => 10,
        kind::SYN_REPLY | kind::PING | kind::HEADERS => 4,
        kind::RST_STREAM | kind::GOAWAY | kind::WINDOW_UPDATE => 8,
        _ => return Ok(Frame::Other(kind)),
    };
    if length < least {
        return Err(FrameError::TooShort { kind, length });
    }
    let word = body.get_u32();
    if kind == kind::PING {
        return Ok(Frame::Ping(word));
    }
    let stream = word & MASK;
    if stream == 0 && !matches!(kind, kind::GOAWAY | kind::WINDOW_UPDATE) {
        return Err(FrameError::NoStream);
    }
    let fin = flags & FIN != 0;
    Ok(match kind {
        kind::SYN_STREAM => {
            // The stream it is associated to, priority and slot.
            body.advance(6);
            Frame::SynStream { stream, fin, headers: body }
        }
        kind::SYN_REPLY => Frame::SynReply { stream, fin, headers: body },
        kind::HEADERS => Frame::Headers { stream, fin, headers: body },
        kind::RST_STREAM => Frame::Reset { stream, status: body.get_u32() },
        kind::GOAWAY => Frame::GoAway { last: stream, status: body.get_u32() },
        _ => Frame::WindowUpdate { stream, delta: body.get_u32() & MASK },
    })
}

/// Appends a frame.
///
/// # Panics
/// When data or headers are 16 MiB or longer: the length field has 24 bits.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::Data { stream, bytes, fin } => {
            out.reserve(HEADER + bytes.len());
            out.put_u32(stream & MASK);
            put_tail(*fin, bytes.len(), out);
            out.put_slice(bytes);
        }
        Frame::SynStream { stream, fin, headers } => {
            put_header(kind::SYN_STREAM, *fin, 10 + headers.len(), out);
            out.put_u32(stream & MASK);
            out.put_bytes(0, 6);
            out.put_slice(headers);
        }
        Frame::SynReply { stream, fin, headers } => {
            put_header(kind::SYN_REPLY, *fin, 4 + headers.len(), out);
            out.put_u32(stream & MASK);
            out.put_slice(headers);
        }
        Frame::Headers { stream, fin, headers } => {
            put_header(kind::HEADERS, *fin, 4 + headers.len(), out);
            out.put_u32(stream & MASK);
            out.put_slice(headers);
        }
        Frame::Reset { stream, status } => put_pair(kind::RST_STREAM, *stream, *status, out),
        Frame::GoAway { last, status } => put_pair(kind::GOAWAY, *last, *status, out),
        Frame::WindowUpdate { stream, delta } => {
            put_pair(kind::WINDOW_UPDATE, *stream, delta & MASK, out);
        }
        Frame::Ping(id) => {
            put_header(kind::PING, false, 4, out);
            out.put_u32(*id);
        }
        Frame::Other(kind) => put_header(*kind, false, 0, out),
    }
}

fn put_pair(kind: u16, stream: StreamId, value: u32, out: &mut BytesMut) {
    put_header(kind, false, 8, out);
    out.put_u32(stream & MASK);
    out.put_u32(value);
}

fn put_header(kind: u16, fin: bool, length: usize, out: &mut BytesMut) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_tail(fin, length, out);
}

fn put_tail(fin: bool, length: usize, out: &mut BytesMut) {
    assert!(length < 1 << 24, "a SPDY frame of {length} bytes");
    out.put_u32(u32::from(fin) << 24 | length as u32);
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;

    use super::{Decoder, Frame, FrameError, encode};

    fn bytes_of(frame: &Frame) -> BytesMut {
        let mut out = BytesMut::new();
        encode(frame, &mut out);
        out
    }

    #[test]
    fn frames_have_the_bytes_that_the_draft_shows() {
        let ping = bytes_of(&Frame::Ping(1));
        assert_eq!(&ping[..], [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]);
        let data =
            bytes_of(&Frame::Data { stream: 5, bytes: Bytes::from_static(b"ab"), fin: true });
        assert_eq!(&data[..], [0, 0, 0, 5, 1, 0, 0, 2, b'a', b'b']);
        let window = bytes_of(&Frame::WindowUpdate { stream: 0, delta: 65536 });
        assert_eq!(&window[..], [0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 0]);
        let away = bytes_of(&Frame::GoAway { last: 7, status: 2 });
        assert_eq!(&away[..], [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0, 2]);
    }

    #[test]
    fn a_data_frame_comes_out_in_the_parts_in_which_it_arrives_and_without_a_copy() {
        let whole = bytes_of(&Frame::Data { stream: 5, bytes: vec![b'x'; 10].into(), fin: true });
        let mut decoder = Decoder::default();
        let mut buffer = BytesMut::from(&whole[..8]);
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        buffer.extend_from_slice(&whole[8..12]);
        let place = buffer.as_ptr();
        match decoder.decode(&mut buffer).unwrap() {
            Some(Frame::Data { stream: 5, bytes, fin: false }) => {
                assert_eq!((bytes.len(), bytes.as_ptr()), (4, place));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        buffer.extend_from_slice(&whole[12..]);
        let last = Frame::Data { stream: 5, bytes: vec![b'x'; 6].into(), fin: true };
        assert_eq!(decoder.decode(&mut buffer), Ok(Some(last)));
    }

    #[test]
    fn what_is_not_spdy_is_refused_by_its_header() {
        let refused = |bytes: &[u8]| Decoder::default().decode(&mut BytesMut::from(bytes));
        assert_eq!(refused(&[0x80, 2, 0, 6, 0, 0, 0, 4]), Err(FrameError::Version(2)));
        assert_eq!(
            refused(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]),
            Err(FrameError::TooLong { kind: 1, length: 0xff_ffff })
        );
        assert_eq!(refused(&[0, 0, 0, 0, 0, 0, 0, 1]), Err(FrameError::NoStream));
        assert_eq!(
            refused(&[0x80, 3, 0, 3, 0, 0, 0, 1, 9]),
            Err(FrameError::TooShort { kind: 3, length: 1 })
        );
        assert_eq!(refused(&[0x80, 3, 0, 4, 0, 0, 0, 1, 9]), Ok(Some(Frame::Other(4))));
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from);
        let stream = || 1u32..0x7fff_ffff;
        prop_oneof![
            (stream(), bytes(), any::<bool>()).prop_map(|(stream, bytes, fin)| Frame::Data {
                stream,
                bytes,
                fin
            }),
            (stream(), bytes(), any::<bool>())
                .prop_map(|(stream, headers, fin)| Frame::SynStream { stream, headers, fin }),
            (stream(), bytes(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::SynReply {
                stream,
                headers,
                fin
            }),
            (stream(), bytes(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::Headers {
                stream,
                headers,
                fin
            }),
            (stream(), any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status }),
            (stream(), any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
            any::<u32>().prop_map(Frame::Ping),
            (stream(), stream()).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_the_way(frames in prop::collection::vec(frame(), 0..10)) {
            let mut buffer = BytesMut::new();
            for frame in &frames {
                encode(frame, &mut buffer);
            }
            let mut decoder = Decoder::default();
            for frame in frames {
                prop_assert_eq!(decoder.decode(&mut buffer), Ok(Some(frame)));
            }
            prop_assert_eq!(decoder.decode(&mut buffer), Ok(None));
        }

        #[test]
        fn any_bytes_give_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::from(&bytes[..]));
            while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
        }
    }
}
