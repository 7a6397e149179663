//! Where bytes from sockets are read into: one buffer for all connections of a thread, since nearly
//! all of them wait for something nearly all of the time, and one that waits must not cost a buffer.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// Size of the buffer, and so the most that is read at once: two messages of an API server.
const BUFFER: usize = 64 * 1024;
/// When less than this is left, a new buffer is made. TLS hands out up to 16 KiB at once.
const LEAST: usize = 16 * 1024;
/// What is shorter is copied out. A slice keeps the whole buffer alive as long as somebody has it, and
/// a thousand idle jobs have a few last bytes each.
const COPIED: usize = 2 * 1024;

thread_local! {
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// Reads what is there. An empty answer is the end.
pub(super) fn poll_read<T: AsyncRead + Unpin>(
    io: &mut T,
    cx: &mut Context<'_>,
) -> Poll<io::Result<BytesMut>> {
    let mut spare = SPARE.take();
    if spare.capacity() < LEAST {
        // Not `reserve`, which would first look whether the old one is free: that is when all of it
        // was given back, and then its room is no longer here.
        spare = BytesMut::with_capacity(BUFFER);
    }
    let read = poll_read_buf(Pin::new(io), cx, &mut spare);
    let bytes = if spare.len() < COPIED {
        let bytes = BytesMut::from(&spare[..]);
        spare.clear();
        bytes
    } else {
        spare.split()
    };
    SPARE.set(spare);
    ready!(read)?;
    Poll::Ready(Ok(bytes))
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use tokio::io::AsyncWriteExt;

    use super::{BUFFER, COPIED, poll_read};

    #[tokio::test]
    async fn short_pieces_are_copied_and_long_ones_are_not() {
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        let mut read = || {
            let mut cx = Context::from_waker(Waker::noop());
            match poll_read(&mut near, &mut cx) {
                Poll::Ready(bytes) => bytes.unwrap(),
                Poll::Pending => panic!("something was written"),
            }
        };
        far.write_all(&[1; COPIED - 1]).await.unwrap();
        let short = read();
        assert_eq!(short, [1; COPIED - 1][..]);
        assert!(short.capacity() < 2 * COPIED);
        far.write_all(&vec![2; 3 * BUFFER]).await.unwrap();
        let (first, second) = (read(), read());
        assert!(first.iter().chain(&second).all(|byte| *byte == 2));
        assert_eq!(first.len(), BUFFER);
        drop(far);
    }

    #[tokio::test]
    async fn the_end_is_an_empty_piece() {
        let (mut near, far) = tokio::io::duplex(10);
        drop(far);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(
            matches!(poll_read(&mut near, &mut cx), Poll::Ready(Ok(bytes)) if bytes.is_empty())
        );
    }
}
