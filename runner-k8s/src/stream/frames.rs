//! Pieces of stdout to frames, without copying trace bytes.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use runner_core::ids::Offset;
use runner_core::wire::{AgentFrame, FrameError, MAX_FRAME, MAX_TRACE, ManagerCodec};
use tokio_util::codec::Decoder;

/// The kind of a trace frame, fixed by version 1 of the protocol.
const TRACE: u8 = 67;
/// Length and kind.
const HEADER: usize = 5;
/// Length, kind and offset.
const TRACE_HEADER: usize = 13;

/// Decodes frames from the pieces in which they arrive, whatever their borders.
///
/// Trace bytes come out as slices of what was pushed. A trace frame that spans pieces comes out as
/// several frames, each with its own offset, the first of them before the rest has arrived: the
/// protocol allows any division of the trace, and a resumed session goes on behind the last piece.
/// Only headers and JSON bodies are gathered, at most [`MAX_FRAME`] bytes.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    /// What was pushed and not looked at. Bounded by its user: [`push`](Self::push) only what fits,
    /// and only after [`next_frame`](Self::next_frame) said that there is nothing left.
    pieces: VecDeque<Bytes>,
    /// A header, or a JSON frame from its header on, as far as it has arrived.
    partial: BytesMut,
    /// Where the current trace frame goes on, and how much of it is missing.
    trace: Option<(u64, usize)>,
}

impl FrameDecoder {
    /// Appends what arrived.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// The next frame, or `None` when all that was pushed has been used.
    ///
    /// # Errors
    /// When the bytes are not frames. There is no way to find back into the stream.
    pub fn next_frame(&mut self) -> Result<Option<AgentFrame>, FrameError> {
        loop {
            if let Some((offset, missing)) = self.trace {
                let Some(bytes) = self.take(missing) else { return Ok(None) };
                let left = missing - bytes.len();
                // It was checked with the header that offset + length does not overflow.
                self.trace = (left > 0).then(|| (offset + bytes.len() as u64, left));
                return Ok(Some(AgentFrame::Trace { offset: Offset(offset), bytes }));
            }
            if !self.gather(HEADER) {
                return Ok(None);
            }
            let length = (&self.partial[..4]).get_u32() as usize;
            if length == 0 || length > MAX_FRAME {
                return Err(FrameError::Length { length });
            }
            if self.partial[4] == TRACE {
                if length < TRACE_HEADER - 4 {
                    return Err(FrameError::Body { kind: TRACE, source: None });
                }
                if !self.gather(TRACE_HEADER) {
                    return Ok(None);
                }
                let offset = (&self.partial[HEADER..]).get_u64();
                let length = length - (TRACE_HEADER - 4);
                let fits = offset.checked_add(length as u64).is_some();
                if length == 0 || length > MAX_TRACE || !fits {
                    return Err(FrameError::Trace { offset, length });
                }
                self.partial.clear();
                self.trace = Some((offset, length));
                continue;
            }
            if !self.gather(4 + length) {
                return Ok(None);
            }
            // A fresh buffer rather than `clear`: a long verdict's memory is not kept.
            let mut whole = std::mem::take(&mut self.partial);
            if let Some(frame) = ManagerCodec.decode(&mut whole)? {
                return Ok(Some(frame));
            }
            // A kind of a later release was skipped.
        }
    }

    /// Up to `most` bytes of the first piece.
    fn take(&mut self, most: usize) -> Option<Bytes> {
        let piece = self.pieces.front_mut()?;
        if piece.len() > most {
            return Some(piece.split_to(most));
        }
        self.pieces.pop_front()
    }

    /// Fills `partial` up to `length` bytes, if they are there.
    fn gather(&mut self, length: usize) -> bool {
        while self.partial.len() < length {
            let Some(bytes) = self.take(length - self.partial.len()) else { return false };
            self.partial.extend_from_slice(&bytes);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};
    use proptest::prelude::*;
    use runner_core::ids::Offset;
    use runner_core::wire::{AgentCodec, AgentFrame, Beat, FrameError, MAX_TRACE, ManagerCodec};
    use tokio_util::codec::{Decoder, Encoder};

    use super::{FrameDecoder, TRACE};

    fn wire(frames: &[AgentFrame]) -> Bytes {
        let mut wire = BytesMut::new();
        for frame in frames {
            AgentCodec.encode(frame.clone(), &mut wire).unwrap();
        }
        wire.freeze()
    }

    fn trace(offset: u64, bytes: &'static [u8]) -> AgentFrame {
        AgentFrame::Trace { offset: Offset(offset), bytes: Bytes::from_static(bytes) }
    }

    fn beat(length: u64) -> AgentFrame {
        AgentFrame::Beat(Beat { length: Some(Offset(length)) })
    }

    /// Joins neighbouring trace pieces, so that divisions do not matter.
    fn joined(frames: Vec<AgentFrame>) -> Vec<AgentFrame> {
        let mut out: Vec<AgentFrame> = Vec::new();
        for frame in frames {
            if let (
                Some(AgentFrame::Trace { offset: start, bytes: before }),
                AgentFrame::Trace { offset, bytes },
            ) = (out.last_mut(), &frame)
                && start.advance(before.len()) == *offset
            {
                *before = [&before[..], &bytes[..]].concat().into();
                continue;
            }
            out.push(frame);
        }
        out
    }

    #[test]
    fn the_kind_of_a_trace_frame_is_what_the_codec_writes() {
        assert_eq!(wire(&[trace(0, b"x")])[4], TRACE);
    }

    #[test]
    fn trace_bytes_are_slices_of_what_arrived_even_where_a_frame_spans_pieces() {
        let whole = wire(&[trace(7, b"hello world"), trace(18, b"!")]);
        let (first, second) = (whole.slice(..18), whole.slice(18..));
        let mut decoder = FrameDecoder::default();
        decoder.push(first.clone());
        match decoder.next_frame().unwrap() {
            Some(AgentFrame::Trace { offset: Offset(7), bytes }) => {
                assert_eq!(bytes, "hello");
                assert_eq!(bytes.as_ptr(), first[13..].as_ptr());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(decoder.next_frame().unwrap(), None);
        decoder.push(second.clone());
        match decoder.next_frame().unwrap() {
            Some(AgentFrame::Trace { offset: Offset(12), bytes }) => {
                assert_eq!(bytes, " world");
                assert_eq!(bytes.as_ptr(), second.as_ptr());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(decoder.next_frame().unwrap(), Some(trace(18, b"!")));
        assert_eq!(decoder.next_frame().unwrap(), None);
    }

    #[test]
    fn an_unknown_kind_is_skipped_even_in_pieces() {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[0, 0, 0, 3, 200, 1, 2]);
        bytes.put_slice(&wire(&[beat(3)]));
        let mut decoder = FrameDecoder::default();
        let mut seen = Vec::new();
        for byte in bytes {
            decoder.push(Bytes::copy_from_slice(&[byte]));
            seen.extend(decoder.next_frame().unwrap());
        }
        assert_eq!(seen, [beat(3)]);
    }

    #[test]
    fn impossible_frames_are_refused_by_their_header() {
        let refused = |bytes: &[u8]| {
            let mut decoder = FrameDecoder::default();
            decoder.push(Bytes::copy_from_slice(bytes));
            decoder.next_frame().unwrap_err()
        };
        assert!(matches!(refused(&[255, 255, 255, 255, 67]), FrameError::Length { .. }));
        assert!(matches!(refused(&[0, 0, 0, 0, 1]), FrameError::Length { length: 0 }));
        assert!(matches!(refused(b"HTTP/1.1 200 OK"), FrameError::Length { .. }));
        assert!(matches!(refused(&[0, 0, 0, 3, 67, 0, 0]), FrameError::Body { kind: 67, .. }));
        let mut long = vec![0, 0, 0, 0, 67, 0, 0, 0, 0, 0, 0, 0, 0];
        long[..4].copy_from_slice(&(MAX_TRACE as u32 + 10).to_be_bytes());
        assert!(matches!(refused(&long), FrameError::Trace { .. }));
        let mut beyond = vec![0, 0, 0, 10, 67];
        beyond.extend_from_slice(&u64::MAX.to_be_bytes());
        assert!(matches!(refused(&beyond), FrameError::Trace { .. }));
        assert!(matches!(refused(&[0, 0, 0, 2, 65, b'{']), FrameError::Body { kind: 65, .. }));
    }

    fn frame() -> impl Strategy<Value = AgentFrame> {
        prop_oneof![
            (any::<u32>(), prop::collection::vec(any::<u8>(), 1..300)).prop_map(|(at, bytes)| {
                AgentFrame::Trace { offset: Offset(at.into()), bytes: bytes.into() }
            }),
            any::<u64>().prop_map(beat),
        ]
    }

    proptest! {
        #[test]
        fn it_says_what_the_codec_says_however_the_bytes_are_cut(
            frames in prop::collection::vec(frame(), 0..8),
            cuts in prop::collection::vec(1usize..40, 1..200),
        ) {
            let mut wire = wire(&frames);
            let mut plain = BytesMut::from(&wire[..]);
            let mut expected = Vec::new();
            while let Some(frame) = ManagerCodec.decode(&mut plain).unwrap() {
                expected.push(frame);
            }
            let (mut decoder, mut seen) = (FrameDecoder::default(), Vec::new());
            for cut in cuts.iter().cycle() {
                if wire.is_empty() {
                    break;
                }
                decoder.push(wire.split_to((*cut).min(wire.len())));
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(joined(seen), joined(expected));
        }

        #[test]
        fn any_bytes_give_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = FrameDecoder::default();
            decoder.push(bytes.into());
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }
}
