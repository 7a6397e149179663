//! Pieces of a trace on their way into request bodies, without copying a byte.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{Stream, stream};
use runner_core::ids::Offset;

/// The most that one request carries. GitLab Runner's limit, and nginx's default for a body.
pub(crate) const LARGEST_PIECE: usize = 1 << 20;

/// When a proxy finds a piece of this size too large, smaller ones will not help.
pub(crate) const SMALLEST_PIECE: usize = 64 << 10;

/// The bytes of one request.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Position of the first byte in the trace.
    pub(crate) from: Offset,
    /// Handles on the caller's memory.
    pub(crate) chunks: Vec<Bytes>,
    /// Bytes in all chunks; never 0.
    pub(crate) length: usize,
}

impl Piece {
    /// Up to `limit` bytes of `chunks`, the first of which is at `start`, from position `from` on.
    /// `None` when there is nothing left.
    pub(crate) fn cut(chunks: &[Bytes], start: Offset, from: Offset, limit: usize) -> Option<Self> {
        let mut skip = from.0.saturating_sub(start.0);
        let mut room = limit;
        let mut taken = Vec::new();
        for chunk in chunks {
            if room == 0 {
                break;
            }
            let begin = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= begin as u64;
            let end = begin + (chunk.len() - begin).min(room);
            if end > begin {
                room -= end - begin;
                taken.push(chunk.slice(begin..end));
            }
        }
        let length = limit - room;
        (length > 0).then_some(Self { from, chunks: taken, length })
    }

    /// Position after the last byte.
    pub(crate) fn end(&self) -> Offset {
        self.from.advance(self.length)
    }

    /// `Content-Range` as GitLab wants it: inclusive positions, no unit, no total.
    pub(crate) fn content_range(&self) -> String {
        format!("{}-{}", self.from, self.end().0 - 1)
    }

    /// The body, made anew for each try.
    pub(crate) fn stream(&self) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
        stream::iter(self.chunks.clone().into_iter().map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::StreamExt;
    use proptest::prelude::*;
    use runner_core::ids::Offset;

    use super::Piece;

    #[tokio::test]
    async fn a_body_is_the_callers_memory_in_every_try() {
        let chunks = vec![Bytes::from(vec![b'a'; 100]), Bytes::from(vec![b'b'; 100])];
        let piece = Piece::cut(&chunks, Offset(1000), Offset(1050), 1 << 20).unwrap();
        for _ in 0..3 {
            let sent: Vec<Bytes> = piece.stream().map(Result::unwrap).collect().await;
            assert_eq!(sent.len(), 2);
            assert_eq!(sent[0].as_ptr(), chunks[0][50..].as_ptr());
            assert_eq!(sent[1].as_ptr(), chunks[1].as_ptr());
        }
    }

    #[test]
    fn api_32_the_range_is_inclusive_and_plain() {
        let piece = Piece::cut(&[Bytes::from_static(b"hello")], Offset(10), Offset(10), 3).unwrap();
        assert_eq!(piece.content_range(), "10-12");
        assert_eq!(piece.end(), Offset(13));
    }

    #[test]
    fn nothing_is_no_piece() {
        assert!(Piece::cut(&[], Offset(0), Offset(0), 10).is_none());
        assert!(Piece::cut(&[Bytes::new()], Offset(0), Offset(0), 10).is_none());
        assert!(Piece::cut(&[Bytes::from_static(b"x")], Offset(5), Offset(6), 10).is_none());
    }

    proptest! {
        #[test]
        fn pieces_put_together_are_the_trace(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
            start in 0u64..1_000_000,
            limit in 1usize..40,
        ) {
            let whole = chunks.concat();
            let chunks: Vec<Bytes> = chunks.into_iter().map(Bytes::from).collect();
            let mut at = Offset(start);
            let mut sent = Vec::new();
            while let Some(piece) = Piece::cut(&chunks, Offset(start), at, limit) {
                prop_assert!(piece.length <= limit);
                prop_assert_eq!(piece.length, piece.chunks.iter().map(Bytes::len).sum::<usize>());
                sent.extend(piece.chunks.concat());
                at = piece.end();
            }
            prop_assert_eq!(sent, whole);
        }
    }
}
