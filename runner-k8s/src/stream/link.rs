//! A pair of byte streams to a command: what its owner holds, and what it shares with the driver.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::drive::{Driver, Wire};
use super::error::{LostError, OpenError, SessionEnd};
use super::target::{ExecTarget, Patience, Transport};
use super::{spdy, websocket};

/// How many bytes of output are read before somebody asks for them: two of the longest trace
/// frames, so that one can arrive while one is being handled. Reading stops when it is reached, so
/// one message (at most 4 MiB, in practice 32 KiB) can exceed it.
pub const READ_AHEAD: usize = 128 * 1024;

/// How many bytes of input may be unsent before [`send`](super::Session::send) waits. What managers
/// say is some hundred bytes long. One frame can exceed it.
pub const WRITE_BEHIND: usize = 64 * 1024;

/// One command's stdin and stdout, as bytes. Dropping it closes the connection.
#[derive(Debug)]
pub struct Link {
    shared: Arc<Shared>,
    driver: AbortOnDropHandle<()>,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// The task with the socket.
    pub(super) driver: AtomicWaker,
    /// Who waits for output or the end.
    pub(super) reader: AtomicWaker,
    /// Who waits for room in the outbox.
    pub(super) writer: AtomicWaker,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.state.lock().fmt(formatter)
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// Output that nobody has taken; bounded by [`READ_AHEAD`].
    inbox: VecDeque<Bytes>,
    inbox_bytes: usize,
    /// Whether the driver waits for the inbox to be emptied.
    pub(super) paused: bool,
    /// Input that is not sent; bounded by [`WRITE_BEHIND`].
    pub(super) outbox: BytesMut,
    pub(super) wish: Wish,
    pub(super) end: Option<SessionEnd>,
}

/// What the owner wants to happen when the outbox is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    #[default]
    GoOn,
    /// The command's stdin is to end.
    EndInput,
    /// The connection is to end.
    Close,
}

impl State {
    /// Keeps output. Whether there is room for more.
    pub(super) fn store(&mut self, bytes: Bytes) {
        // Nobody asks any more, and a full inbox would keep the driver from seeing the end.
        if self.wish < Wish::Close {
            self.inbox_bytes += bytes.len();
            self.inbox.push_back(bytes);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.inbox_bytes >= READ_AHEAD && self.wish < Wish::Close
    }

    fn take(&mut self) -> Option<Bytes> {
        let bytes = self.inbox.pop_front()?;
        self.inbox_bytes -= bytes.len();
        Some(bytes)
    }
}

impl Link {
    /// Runs a command and connects to it.
    ///
    /// # Errors
    /// When there is no stream; [`OpenError::suggests`] says whether to try the other transport.
    pub async fn open(
        client: &kube::Client,
        target: &ExecTarget,
        transport: Transport,
        patience: Patience,
    ) -> Result<Self, OpenError> {
        Ok(match transport {
            Transport::WebSocket => {
                Self::over(websocket::open(client, target, patience.open).await?, patience)
            }
            Transport::Spdy => {
                Self::over(spdy::open(client, target, patience.open).await?, patience)
            }
        })
    }

    /// Starts the driver of a connection.
    pub(super) fn over<W: Wire>(wire: W, patience: Patience) -> Self {
        let shared = Arc::new(Shared::default());
        let driver = Driver::new(wire, Arc::clone(&shared), patience);
        Self { shared, driver: AbortOnDropHandle::new(tokio::spawn(driver)) }
    }

    /// The next bytes of stdout. Cancel safe. After the last of them, the end.
    ///
    /// # Errors
    /// The end.
    pub async fn recv(&mut self) -> Result<Bytes, SessionEnd> {
        poll_fn(|cx| {
            let mut state = self.shared.state.lock();
            if let Some(bytes) = state.take() {
                // Half full rather than not full: the driver is woken once for many messages.
                if state.paused && state.inbox_bytes <= READ_AHEAD / 2 {
                    self.shared.driver.wake();
                }
                return Poll::Ready(Ok(bytes));
            }
            if let Some(end) = &state.end {
                return Poll::Ready(Err(end.clone()));
            }
            // Under the lock: the driver stores first and wakes then.
            self.shared.reader.register(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Queues bytes for stdin as a whole. Cancel safe.
    ///
    /// # Errors
    /// The end.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), SessionEnd> {
        poll_fn(|cx| {
            let mut state = self.shared.state.lock();
            if let Some(end) = &state.end {
                return Poll::Ready(Err(end.clone()));
            }
            if state.wish > Wish::GoOn {
                let closed = Arc::new(LostError::Closed);
                return Poll::Ready(Err(SessionEnd::Lost(closed)));
            }
            if state.outbox.len() >= WRITE_BEHIND {
                self.shared.writer.register(cx.waker());
                return Poll::Pending;
            }
            state.outbox.extend_from_slice(&bytes);
            self.shared.driver.wake();
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Lets the command read the end of its stdin, once all that was sent is through. By
    /// `v4.channel.k8s.io` there is no way to say that, and nothing happens.
    pub fn end_input(&mut self) {
        let mut state = self.shared.state.lock();
        state.wish = state.wish.max(Wish::EndInput);
        self.shared.driver.wake();
    }

    /// Sends what is queued, says good-bye and waits for the end; the driver has a deadline for it.
    pub async fn close(self) {
        self.shared.state.lock().wish = Wish::Close;
        self.shared.driver.wake();
        // The driver ends with the connection; that it was cancelled (the runtime stops) or
        // panicked makes no difference here.
        let _ = self.driver.await;
    }
}
