//! Output that the supervisor has not acknowledged yet.

use std::collections::VecDeque;

use bytes::Bytes;

/// Most bytes that are kept. When it is full the script's pipe is not read, and the script waits:
/// nothing is lost and nothing grows.
const MOST: u64 = 256 * 1024;

/// The last part of a run's output.
#[derive(Debug, Default)]
pub struct Window {
    start: u64,
    length: u64,
    pieces: VecDeque<Bytes>,
}

impl Window {
    /// Whether more may be read.
    pub fn has_room(&self) -> bool {
        self.length < MOST
    }

    /// Where the kept part begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Where the output ends so far.
    pub fn end(&self) -> u64 {
        self.start + self.length
    }

    /// Keeps a piece; the result is its offset.
    pub fn push(&mut self, bytes: Bytes) -> u64 {
        let offset = self.end();
        self.length += bytes.len() as u64;
        self.pieces.push_back(bytes);
        offset
    }

    /// Forgets what lies before this offset.
    pub fn acknowledge(&mut self, offset: u64) {
        while self.start < offset {
            let Some(front) = self.pieces.front_mut() else { return };
            let known = (offset - self.start).min(front.len() as u64);
            self.start += known;
            self.length -= known;
            if known == front.len() as u64 {
                self.pieces.pop_front();
            } else {
                // Below the piece's length, so it fits usize.
                *front = front.split_off(known as usize);
            }
        }
    }

    /// Everything that is kept, with offsets.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, Bytes)> + '_ {
        self.pieces.iter().scan(self.start, |offset, piece| {
            let at = *offset;
            *offset += piece.len() as u64;
            Some((at, piece.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Window;

    #[test]
    fn what_is_not_acknowledged_can_be_sent_again() {
        let mut window = Window::default();
        assert_eq!(window.push(Bytes::from_static(b"abc")), 0);
        assert_eq!(window.push(Bytes::from_static(b"def")), 3);
        window.acknowledge(4);
        let kept: Vec<_> = window.pieces().collect();
        assert_eq!(kept, [(4, Bytes::from_static(b"ef"))]);
        window.acknowledge(100);
        assert_eq!((window.start(), window.end()), (6, 6));
    }

    #[test]
    fn a_full_window_takes_no_more_until_something_is_acknowledged() {
        let mut window = Window::default();
        window.push(Bytes::from(vec![0; 256 * 1024]));
        assert!(!window.has_room());
        window.acknowledge(1);
        assert!(window.has_room());
    }
}
