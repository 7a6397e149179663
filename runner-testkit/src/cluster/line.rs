//! A server connection that can be cut, stalled, or given only so many more bytes to send.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The control side of one connection.
#[derive(Debug, Default)]
pub(super) struct Line {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    cut: bool,
    stalled: bool,
    /// Bytes that may still be sent before the line is cut.
    budget: Option<u64>,
    /// A pod's stream (exec, attach) rather than plain requests.
    stream: bool,
    readers: Option<Waker>,
    writers: Option<Waker>,
}

impl Line {
    pub(super) fn cut(&self) {
        self.update(|s| s.cut = true);
    }

    pub(super) fn mark_stream(&self, budget: Option<u64>) {
        self.update(|s| {
            s.stream = true;
            s.budget = budget;
        });
    }

    fn is_stream(&self) -> bool {
        self.state.lock().stream
    }

    pub(super) fn stall(&self, stalled: bool) {
        self.update(|s| s.stalled = stalled);
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let wakers = [state.readers.take(), state.writers.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

/// All open connections.
#[derive(Debug, Default)]
pub(super) struct Lines {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Line>>>,
}

impl Lines {
    fn each(&self, act: impl Fn(&Line)) {
        let lines: Vec<_> = self.open.lock().values().cloned().collect();
        lines.iter().for_each(|l| act(l));
    }

    pub(super) fn cut_all(&self) {
        self.each(Line::cut);
    }

    pub(super) fn cut_streams(&self) {
        self.each(|l| {
            if l.is_stream() {
                l.cut();
            }
        });
    }

    pub(super) fn stall_streams(&self, stalled: bool) {
        self.each(|l| {
            if l.is_stream() {
                l.stall(stalled);
            }
        });
    }

    pub(super) fn streams(&self) -> usize {
        self.open.lock().values().filter(|l| l.is_stream()).count()
    }
}

/// What a line carries: a socket, or a pipe in memory.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// The data side.
pub(super) struct LineIo {
    wire: Box<dyn Wire>,
    pub(super) line: Arc<Line>,
    id: u64,
    lines: Arc<Lines>,
}

impl LineIo {
    pub(super) fn new(wire: impl Wire + 'static, lines: Arc<Lines>) -> Self {
        let line = Arc::new(Line::default());
        let id = lines.next.fetch_add(1, Ordering::Relaxed);
        lines.open.lock().insert(id, line.clone());
        LineIo { wire: Box::new(wire), line, id, lines }
    }
}

impl Drop for LineIo {
    fn drop(&mut self) {
        self.lines.open.lock().remove(&self.id);
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "cut by fault injection")
}

impl AsyncRead for LineIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        {
            let mut state = self.line.state.lock();
            if state.cut {
                return Poll::Ready(Err(gone()));
            }
            state.readers = Some(cx.waker().clone());
            if state.stalled {
                return Poll::Pending;
            }
        }
        Pin::new(&mut self.wire).poll_read(cx, buf)
    }
}

impl AsyncWrite for LineIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let allowed = {
            let mut state = self.line.state.lock();
            if state.cut {
                return Poll::Ready(Err(gone()));
            }
            state.writers = Some(cx.waker().clone());
            if state.stalled {
                return Poll::Pending;
            }
            match state.budget {
                Some(left) => buf.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
                None => buf.len(),
            }
        };
        if allowed == 0 && !buf.is_empty() {
            self.line.cut();
            return Poll::Ready(Err(gone()));
        }
        let written = ready!(Pin::new(&mut self.wire).poll_write(cx, &buf[..allowed]))?;
        if let Some(left) = &mut self.line.state.lock().budget {
            *left = left.saturating_sub(written as u64);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
