//! Which bytes go to the source next: the arithmetic of passing a trace on, without any I/O.
//!
//! The source sees one trace; it is made of three parts:
//!
//! ```text
//!   0          before.len()                    before.len() + job's own length
//!   ├─ before ─┼─────────── the job's own ─────┼─ after ─┤
//!   (manager)        (spool in the pod)          (manager)
//! ```

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ids::Offset;
use crate::outcome::TraceSummary;

/// Bytes that are fetched ahead of the next turn: enough for a screen, so that the source sees life
/// at once, and small, because every running job holds as much: a thousand of them 8 MiB.
pub(super) const AHEAD: u64 = 8 * 1024;
/// Most bytes in one piece for the source, as GitLab Runner sends at most.
pub(super) const PIECE: u64 = 1024 * 1024;

/// The state of one trace on its way.
#[derive(Debug)]
pub(super) struct TraceRelay {
    before: Bytes,
    after: Bytes,
    /// The source has everything up to here (in its own count).
    stored: u64,
    /// What follows `stored`, without a gap.
    waiting: VecDeque<Bytes>,
    waiting_bytes: u64,
    /// Where the job's own trace ends, once known.
    own_end: Option<u64>,
    /// The job's own trace cannot be fetched any more: what the source has of it is all there is.
    own_lost: bool,
    /// Where `after` is, when the job's own trace is lost.
    last_words: LastWords,
    /// Whether the source has said where it stands.
    is_known: bool,
    /// The source has said that it has more than there can be.
    is_overlong: bool,
    /// Checksum of the job's own trace as far as it was fetched, while that was from its beginning
    /// and in one go.
    own_seen: Option<TraceSummary>,
}

/// How sure it is where the manager's last words stand in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastWords {
    /// The place is noted in the job's record: the source may have a part of them already.
    Placed,
    /// The source has not said yet where it stands.
    Guessed,
}

/// A piece to be given to the source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) from: Offset,
    pub(super) chunks: Vec<Bytes>,
}

impl TraceRelay {
    /// A relay that begins at the beginning; the source says if it is further.
    pub(super) fn new(before: Bytes) -> Self {
        let mut relay = Self {
            before: Bytes::new(),
            after: Bytes::new(),
            stored: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            own_end: None,
            own_lost: false,
            last_words: LastWords::Guessed,
            is_known: false,
            is_overlong: false,
            own_seen: Some(TraceSummary::default()),
        };
        relay.set_before(before);
        relay
    }

    /// Whether something can still be said before the job's own trace.
    pub(super) fn is_untouched(&self) -> bool {
        self.own_seen == Some(TraceSummary::default()) && self.stored <= self.before.len() as u64
    }

    /// Changes what comes before the job's own trace; it may only grow, and only while
    /// [`is_untouched`](Self::is_untouched).
    pub(super) fn set_before(&mut self, before: Bytes) {
        debug_assert!(before.starts_with(&self.before) && self.is_untouched());
        self.before = before;
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.queue_before();
    }

    fn queue_before(&mut self) {
        if self.stored < self.before.len() as u64 {
            // `stored` is below the length of a buffer, so it fits usize.
            self.queue(self.before.slice(self.stored as usize..));
        }
    }

    fn queue(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.waiting_bytes += bytes.len() as u64;
            self.waiting.push_back(bytes);
        }
    }

    /// Where the next byte of the job's own trace has to begin.
    pub(super) fn own_next(&self) -> Offset {
        let next = (self.stored + self.waiting_bytes).saturating_sub(self.before.len() as u64);
        Offset(next.min(self.own_end.unwrap_or(u64::MAX)))
    }

    /// How far the job's own trace is wanted, with room for `window` bytes.
    pub(super) fn own_until(&self, window: u64) -> Offset {
        Offset((self.stored + window).saturating_sub(self.before.len() as u64))
    }

    /// Takes a piece of the job's own trace. What is already there is skipped; a piece after a gap
    /// is refused (`false`), and the caller asks again from [`own_next`](Self::own_next).
    pub(super) fn receive(&mut self, offset: Offset, mut bytes: Bytes) -> bool {
        let next = self.own_next();
        if offset > next {
            return false;
        }
        let known = next.0 - offset.0;
        if known >= bytes.len() as u64 {
            return true;
        }
        // Below the length of `bytes`, so it fits usize.
        let fresh = bytes.split_off(known as usize);
        if let Some(seen) = self.own_seen.filter(|seen| seen.length == next) {
            self.own_seen = Some(seen.then(TraceSummary::of(&fresh)));
        }
        self.queue(fresh);
        self.queue_after();
        true
    }

    /// Bytes that the source does not have yet and that are here.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting_bytes
    }

    /// The next piece for the source. `None`: there is nothing to send.
    pub(super) fn piece(&self) -> Option<Piece> {
        if self.waiting.is_empty() {
            return None;
        }
        let mut left = PIECE as usize;
        let mut chunks = Vec::new();
        for chunk in &self.waiting {
            if left == 0 {
                break;
            }
            let part = chunk.slice(..chunk.len().min(left));
            left -= part.len();
            chunks.push(part);
        }
        Some(Piece { from: Offset(self.stored), chunks })
    }

    /// The source has stored this many bytes more.
    pub(super) fn stored(&mut self, mut bytes: u64) {
        self.is_known = true;
        self.stored += bytes;
        while bytes > 0 {
            let Some(front) = self.waiting.front_mut() else { break };
            let part = (front.len() as u64).min(bytes);
            bytes -= part;
            self.waiting_bytes -= part;
            if part == front.len() as u64 {
                self.waiting.pop_front();
            } else {
                // Below the chunk's length, so it fits usize.
                *front = front.split_off(part as usize);
            }
        }
    }

    /// The source has the trace up to `has` and nothing else: go on from there. An offset beyond
    /// anything that can exist counts as 0; said again, it is what somebody else has brought there, and
    /// the last words follow it, or the verdict would never be delivered. The result says whether what
    /// comes after the job's own trace has moved.
    pub(super) fn rewind(&mut self, has: Offset) -> bool {
        self.is_known = true;
        if self.own_lost {
            let here = self.stored..=self.stored + self.waiting_bytes;
            if self.last_words == LastWords::Placed && here.contains(&has.0) {
                // It has a part of what waits: an answer was lost. The rest cannot be had again.
                self.stored(has.0 - self.stored);
                return false;
            }
            let moved = self.settle_for(has.0);
            self.settle_at(has.0);
            return moved;
        }
        let end = self.own_end.map(|own| own + (self.before.len() + self.after.len()) as u64);
        let has = match end {
            Some(end) if has.0 > end && self.is_overlong => {
                (self.own_lost, self.last_words) = (true, LastWords::Guessed);
                let moved = self.settle_for(has.0);
                self.settle_at(has.0);
                return moved;
            }
            Some(end) if has.0 > end => {
                self.is_overlong = true;
                0
            }
            _ => has.0,
        };
        if (self.stored..=self.stored + self.waiting_bytes).contains(&has) {
            // Somebody else brought it a part of what waits. The rest is here already.
            self.stored(has - self.stored);
        } else {
            self.settle_at(has);
        }
        false
    }

    /// The job's own trace cannot be fetched beyond what was received. `after` follows it at
    /// `own_end`; where that is a guess, wherever the source stands has precedence.
    pub(super) fn end_lost(&mut self, own_end: Offset, after: Bytes, place: LastWords) {
        self.own_lost = true;
        self.own_end = Some(own_end.0);
        self.after = after;
        self.last_words = place;
        let begins = own_end.0 + self.before.len() as u64;
        let said = begins..=begins + self.after.len() as u64;
        if place == LastWords::Placed && (!self.is_known || said.contains(&self.stored)) {
            // An earlier manager ended the trace there and may have said so; what came of it since
            // has no place any more.
            self.keep_until(begins);
        }
        let position = self.stored + self.waiting_bytes;
        if position < begins {
            // Only the source can have the bytes in between; it will say if it does not.
            self.settle_at(begins);
        } else if self.is_known {
            self.settle_for(position);
        }
        self.queue_after();
    }

    /// Drops what waits from this place on.
    fn keep_until(&mut self, place: u64) {
        let mut keep = place.saturating_sub(self.stored).min(self.waiting_bytes);
        self.waiting_bytes = keep;
        self.waiting.retain_mut(|chunk| {
            // Not longer than the chunk, so it fits usize.
            chunk.truncate(keep.min(chunk.len() as u64) as usize);
            keep -= chunk.len() as u64;
            !chunk.is_empty()
        });
    }

    /// Takes what the source has as all there will ever be of the job's own trace, unless it already
    /// has a part of `after`. The result says whether `after` has moved.
    fn settle_for(&mut self, has: u64) -> bool {
        let before = self.before.len() as u64;
        let begins = self.own_end.unwrap_or_default() + before;
        let inside = (begins..=begins + self.after.len() as u64).contains(&has);
        let moved = match self.last_words {
            LastWords::Placed => !inside,
            LastWords::Guessed => has != begins,
        };
        if moved {
            self.own_end = Some(has.saturating_sub(before));
        }
        self.last_words = LastWords::Placed;
        moved
    }

    fn settle_at(&mut self, stored: u64) {
        self.stored = stored;
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.queue_before();
        self.queue_after();
    }

    /// Whether the job's own trace cannot be had any more, so that nobody knows its checksum.
    pub(super) fn is_lost(&self) -> bool {
        self.own_lost
    }

    /// Whether the source has said where it stands.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Nothing more can be had and the source has to be content with what it has.
    pub(super) fn abandon(&mut self) {
        self.own_lost = true;
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.stored =
            self.own_end.unwrap_or_default() + (self.before.len() + self.after.len()) as u64;
    }

    /// What follows the job's own trace.
    pub(super) fn after(&self) -> Bytes {
        self.after.clone()
    }

    /// Where `after` begins in the job's own trace.
    pub(super) fn own_end(&self) -> Option<Offset> {
        self.own_end.map(Offset)
    }

    /// The job's own trace ends here; `after` follows it.
    pub(super) fn end(&mut self, own_end: Offset, after: Bytes) {
        self.own_end = Some(own_end.0);
        self.after = after;
        self.queue_after();
    }

    /// Queues what comes after the job's own trace, if it is its turn.
    fn queue_after(&mut self) {
        let Some(own_end) = self.own_end else { return };
        let begins = own_end + self.before.len() as u64;
        let position = self.stored + self.waiting_bytes;
        if position >= begins && position - begins < self.after.len() as u64 {
            // Below the length of `after`, so it fits usize.
            self.queue(self.after.slice((position - begins) as usize..));
        }
    }

    /// Whether all of the job's own trace has been received (once its end is known).
    pub(super) fn needs_more(&self) -> bool {
        self.own_end.is_some_and(|end| self.own_next().0 < end)
    }

    /// Whether the source has everything.
    pub(super) fn is_complete(&self) -> bool {
        self.waiting.is_empty()
            && self.own_end.is_some_and(|own| {
                self.stored >= own + (self.before.len() + self.after.len()) as u64
            })
    }

    /// How much of the job's own trace has been fetched from its beginning, if that is how it was.
    pub(super) fn own_seen(&self) -> Option<TraceSummary> {
        self.own_seen.filter(|seen| seen.length == self.own_next())
    }

    /// The whole trace, given the job's own.
    pub(super) fn summary(&self, own: TraceSummary) -> TraceSummary {
        TraceSummary::of(&self.before).then(own).then(TraceSummary::of(&self.after))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{LastWords, PIECE, Piece, TraceRelay};
    use crate::ids::Offset;
    use crate::outcome::TraceSummary;

    fn flat(piece: Option<Piece>) -> (u64, Vec<u8>) {
        let piece = piece.expect("a piece");
        (piece.from.0, piece.chunks.concat())
    }

    #[test]
    fn the_three_parts_follow_each_other() {
        let mut relay = TraceRelay::new(Bytes::from_static(b"wait\n"));
        assert_eq!(relay.own_next(), Offset(0));
        assert!(relay.receive(Offset(0), Bytes::from_static(b"own")));
        assert_eq!(flat(relay.piece()), (0, b"wait\nown".to_vec()));
        relay.stored(8);
        relay.end(Offset(3), Bytes::from_static(b"lost"));
        assert_eq!(flat(relay.piece()), (8, b"lost".to_vec()));
        assert!(!relay.is_complete());
        relay.stored(4);
        assert!(relay.is_complete() && relay.piece().is_none());
        let own = relay.own_seen().map(|_| TraceSummary::of(b"own")).unwrap();
        assert_eq!(relay.summary(own), TraceSummary::of(b"wait\nownlost"));
    }

    #[test]
    fn a_source_that_is_further_is_believed_and_nothing_is_fetched_twice() {
        let mut relay = TraceRelay::new(Bytes::from_static(b"AB"));
        relay.receive(Offset(0), Bytes::from_static(b"0123"));
        relay.rewind(Offset(5));
        assert_eq!(flat(relay.piece()), (5, b"3".to_vec()));
        assert_eq!(relay.own_next(), Offset(4));
        assert!(relay.receive(Offset(3), Bytes::from_static(b"3456")));
        assert_eq!(flat(relay.piece()), (5, b"3456".to_vec()));
    }

    #[test]
    fn a_source_that_is_further_than_all_that_is_here_is_believed() {
        let mut relay = TraceRelay::new(Bytes::from_static(b"AB"));
        relay.receive(Offset(0), Bytes::from_static(b"0123"));
        relay.rewind(Offset(9));
        assert!(relay.piece().is_none());
        assert_eq!(relay.own_next(), Offset(7));
    }

    #[test]
    fn a_source_that_lost_everything_gets_everything_again() {
        let mut relay = TraceRelay::new(Bytes::from_static(b"AB"));
        relay.receive(Offset(0), Bytes::from_static(b"0123"));
        relay.stored(6);
        relay.end(Offset(4), Bytes::from_static(b"Z"));
        relay.stored(1);
        relay.rewind(Offset(0));
        assert!(relay.needs_more());
        assert_eq!(flat(relay.piece()), (0, b"AB".to_vec()));
        relay.receive(Offset(0), Bytes::from_static(b"0123"));
        assert!(!relay.needs_more());
        assert_eq!(flat(relay.piece()), (0, b"AB0123Z".to_vec()));
    }

    #[test]
    fn an_offset_beyond_the_end_counts_as_nothing() {
        let mut relay = TraceRelay::new(Bytes::new());
        relay.receive(Offset(0), Bytes::from_static(b"0123"));
        relay.end(Offset(4), Bytes::new());
        relay.rewind(Offset(99));
        assert_eq!(flat(relay.piece()), (0, b"0123".to_vec()));
    }

    #[test]
    fn a_source_that_insists_on_more_than_there_is_gets_the_last_words_after_that() {
        let mut relay = TraceRelay::new(Bytes::new());
        relay.end(Offset(0), Bytes::from_static(b"refused\n"));
        assert!(!relay.rewind(Offset(2548)));
        assert_eq!(flat(relay.piece()), (0, b"refused\n".to_vec()));
        assert!(relay.rewind(Offset(2548)), "another manager's job ran after all");
        assert!(relay.is_lost());
        assert_eq!(flat(relay.piece()), (2548, b"refused\n".to_vec()));
        relay.stored(8);
        assert!(relay.is_complete());
    }

    #[test]
    fn pieces_that_come_twice_are_taken_once_and_gaps_are_refused() {
        let mut relay = TraceRelay::new(Bytes::new());
        assert!(relay.receive(Offset(0), Bytes::from_static(b"0123")));
        assert!(relay.receive(Offset(2), Bytes::from_static(b"2345")));
        assert!(relay.receive(Offset(0), Bytes::from_static(b"01")));
        assert!(!relay.receive(Offset(7), Bytes::from_static(b"7")));
        assert_eq!(flat(relay.piece()), (0, b"012345".to_vec()));
        assert_eq!(relay.own_seen(), Some(TraceSummary::of(b"012345")));
    }

    #[test]
    fn when_the_jobs_own_trace_is_gone_the_last_words_follow_what_the_source_has() {
        let mut relay = TraceRelay::new(Bytes::new());
        relay.end_lost(Offset(0), Bytes::from_static(b"lost\n"), LastWords::Guessed);
        assert_eq!(flat(relay.piece()), (0, b"lost\n".to_vec()));
        assert!(relay.rewind(Offset(5000)));
        assert_eq!(flat(relay.piece()), (5000, b"lost\n".to_vec()));
        assert_eq!(relay.own_end(), Some(Offset(5000)));
        relay.stored(2);
        assert!(!relay.rewind(Offset(5002)));
        assert_eq!(flat(relay.piece()), (5002, b"st\n".to_vec()));
        relay.stored(3);
        assert!(relay.is_complete());
    }

    #[test]
    fn a_lost_answer_to_the_last_words_moves_nothing() {
        let mut relay = TraceRelay::new(Bytes::new());
        relay.receive(Offset(0), Bytes::from_static(b"abcdef"));
        relay.end_lost(Offset(6), Bytes::from_static(b"lost\n"), LastWords::Placed);
        // The source stored a part of the piece, and then all of it.
        assert!(!relay.rewind(Offset(4)));
        assert_eq!(
            flat(relay.piece()),
            (4, b"eflost\n".to_vec()),
            "what waits cannot be had again"
        );
        assert!(!relay.rewind(Offset(11)));
        assert!(relay.piece().is_none() && relay.is_complete());
    }

    #[test]
    fn what_came_of_a_trace_since_its_end_was_said_is_not_put_behind_that() {
        // Seed 1412: the pod that was given up came back, and the heir had its whole trace.
        for has in [0, 2, 3, 5, 8] {
            let mut relay = TraceRelay::new(Bytes::new());
            relay.receive(Offset(0), Bytes::from_static(b"abc"));
            relay.receive(Offset(3), Bytes::from_static(b"defghijkl"));
            relay.end_lost(Offset(3), Bytes::from_static(b"lost\n"), LastWords::Placed);
            assert!(!relay.rewind(Offset(has)), "{has}");
            let rest = &b"abclost\n"[has as usize..];
            assert_eq!(relay.piece().map_or(Vec::new(), |piece| piece.chunks.concat()), rest);
            relay.stored(rest.len() as u64);
            assert!(relay.is_complete(), "{has}");
        }
        // Here the source has more than the end: it was never said.
        let mut relay = TraceRelay::new(Bytes::new());
        relay.end_lost(Offset(3), Bytes::from_static(b"lost\n"), LastWords::Placed);
        assert!(relay.rewind(Offset(10)));
        assert_eq!(flat(relay.piece()), (10, b"lost\n".to_vec()));
    }

    #[test]
    fn a_source_that_stands_where_guessed_last_words_would_end_gets_them_after_that() {
        let mut relay = TraceRelay::new(Bytes::new());
        relay.end_lost(Offset(0), Bytes::from_static(b"lost\n"), LastWords::Guessed);
        assert!(relay.rewind(Offset(5)), "an earlier manager may have said as much");
        assert_eq!(flat(relay.piece()), (5, b"lost\n".to_vec()));
        relay.stored(5);
        assert!(relay.is_complete());
    }

    #[test]
    fn a_piece_is_never_longer_than_the_limit() {
        let mut relay = TraceRelay::new(Bytes::new());
        let long = Bytes::from(vec![b'x'; PIECE as usize + 7]);
        relay.receive(Offset(0), long);
        let (from, bytes) = flat(relay.piece());
        assert_eq!((from, bytes.len() as u64), (0, PIECE));
        relay.stored(PIECE);
        assert_eq!(flat(relay.piece()), (PIECE, b"xxxxxxx".to_vec()));
    }
}
