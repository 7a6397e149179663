//! The task that owns a connection: moves bytes both ways, pings, watches the clock, and finds out
//! how it ended. What the bytes look like is the business of a [`Wire`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, Sleep, sleep_until};

use super::error::{LostError, SessionEnd, StderrTail};
use super::exit::{self, Exit};
use super::keepalive::{Check, Keepalive, Situation};
use super::link::{Shared, Wish};
use super::target::{Patience, Transport};

/// Longest piece of input in one message; proxies choke on longer ones.
const INPUT_PIECE: usize = 32 * 1024;
/// How many messages are handled before other tasks get their turn.
const TURN: usize = 64;
/// Longest exit status that is read. It is a small JSON object.
const MAX_STATUS: usize = 64 * 1024;

/// Where bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Stdout,
    Stderr,
    /// Carries the exit status.
    Error,
}

/// What arrives.
#[derive(Debug)]
pub(super) enum Event {
    Output(Channel, Bytes),
    /// A sign of life without meaning for the command.
    Alive,
    /// The other side is done, in good order.
    Closed,
}

/// A connection to a command: frames of one transport over one socket.
pub(super) trait Wire: Send + Unpin + 'static {
    const TRANSPORT: Transport;

    /// The next event. After an error or `Closed` it is not called again.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, LostError>>;
    /// Whether one more piece of input can be taken.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LostError>>;
    /// Takes input; only after `poll_ready`.
    fn input(&mut self, bytes: Bytes) -> Result<(), LostError>;
    /// Ends the command's stdin; only after `poll_ready`.
    fn end_input(&mut self) -> Result<(), LostError>;
    /// Takes a ping, or drops it when there is no room: then there is traffic enough.
    fn ping(&mut self) -> Result<(), LostError>;
    /// Says good-bye; only after `poll_ready`.
    fn close(&mut self) -> Result<(), LostError>;
    /// Ready when everything taken so far, and every answer to a ping, is in the socket.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LostError>>;
}

/// What can still be sent.
enum Output {
    Open,
    /// Stdin was ended.
    InputEnded,
    /// The farewell was sent.
    Closed,
    /// Sending failed. What the other side had sent before is still read.
    Broken(LostError),
}

/// See the module.
pub(super) struct Driver<W> {
    wire: W,
    shared: Arc<Shared>,
    patience: Patience,
    keepalive: Keepalive,
    timer: Pin<Box<Sleep>>,
    output: Output,
    unsent: bool,
    stderr: StderrTail,
    status: BytesMut,
    exit: Option<Exit>,
    /// When reading stops although the other side is not done.
    leave_at: Option<Instant>,
    /// Ours, or the other side's, farewell.
    done: bool,
}

impl<W: Wire> Driver<W> {
    pub(super) fn new(wire: W, shared: Arc<Shared>, patience: Patience) -> Self {
        let now = Instant::now();
        Self {
            wire,
            shared,
            patience,
            keepalive: Keepalive::new(patience, now),
            timer: Box::pin(sleep_until(now + patience.ping)),
            output: Output::Open,
            unsent: false,
            stderr: StderrTail::default(),
            status: BytesMut::new(),
            exit: None,
            leave_at: None,
            done: false,
        }
    }

    /// Reads until there is nothing, nobody wants more, or others should have their turn.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        for _ in 0..TURN {
            {
                let mut state = self.shared.state.lock();
                let full = state.is_full();
                let was_paused = std::mem::replace(&mut state.paused, full);
                if full {
                    return Ok(());
                }
                if was_paused && let Some(leave_at) = &mut self.leave_at {
                    // The consumer was slow, not the other side.
                    *leave_at = Instant::now() + self.patience.linger;
                }
            }
            let event = match self.wire.poll_event(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(event)) => event,
                Poll::Ready(Err(error)) => return Err(self.end(Some(error))),
            };
            let now = Instant::now();
            self.keepalive.heard(now);
            match event {
                Event::Alive => {}
                Event::Closed => return Err(self.end(None)),
                // The API server opens each channel with an empty message.
                Event::Output(_, bytes) if bytes.is_empty() => {}
                Event::Output(Channel::Stdout, bytes) => {
                    self.keepalive.heard_agent(now);
                    self.shared.state.lock().store(bytes);
                    self.shared.reader.wake();
                }
                Event::Output(Channel::Stderr, bytes) => self.stderr.push(&bytes),
                Event::Output(Channel::Error, bytes) => self.take_status(&bytes, now)?,
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn take_status(&mut self, bytes: &[u8], now: Instant) -> Result<(), SessionEnd> {
        if self.status.len() + bytes.len() > MAX_STATUS {
            let problem = format!("an exit status longer than {MAX_STATUS} bytes");
            return Err(self.end(Some(LostError::Transport { transport: W::TRANSPORT, problem })));
        }
        self.status.extend_from_slice(bytes);
        // SPDY may divide it; it is whole when it can be read.
        if self.exit.is_none()
            && let Some(exit) = exit::parse(&self.status)
        {
            self.exit = Some(exit);
            self.leave_at.get_or_insert(now + self.patience.linger);
        }
        Ok(())
    }

    /// Sends what can be sent.
    fn poll_output(&mut self, cx: &mut Context<'_>) {
        if matches!(self.output, Output::Broken(_)) {
            return;
        }
        if let Err(error) = self.try_output(cx) {
            self.broken(error);
        }
    }

    fn broken(&mut self, error: LostError) {
        self.unsent = false;
        self.output = Output::Broken(error);
        self.leave_at.get_or_insert(Instant::now() + self.patience.linger);
    }

    fn try_output(&mut self, cx: &mut Context<'_>) -> Result<(), LostError> {
        loop {
            let (wish, waiting) = {
                let state = self.shared.state.lock();
                (state.wish, !state.outbox.is_empty())
            };
            let wanted = match self.output {
                Output::Open => waiting || wish > Wish::GoOn,
                Output::InputEnded => wish == Wish::Close,
                Output::Closed | Output::Broken(_) => false,
            };
            if wish == Wish::Close {
                self.leave_at.get_or_insert_with(|| Instant::now() + self.patience.linger);
            }
            if !wanted {
                break;
            }
            if self.wire.poll_ready(cx)?.is_pending() {
                self.unsent = true;
                return Ok(());
            }
            match (waiting, wish) {
                (true, _) => {
                    let bytes = {
                        let mut state = self.shared.state.lock();
                        let length = state.outbox.len().min(INPUT_PIECE);
                        let bytes = state.outbox.split_to(length).freeze();
                        if state.outbox.is_empty() {
                            // The next frame starts a new, small buffer.
                            state.outbox = BytesMut::new();
                        }
                        bytes
                    };
                    self.wire.input(bytes)?;
                    self.shared.writer.wake();
                }
                (false, Wish::Close) => {
                    self.wire.close()?;
                    self.output = Output::Closed;
                }
                (false, _) => {
                    self.wire.end_input()?;
                    self.output = Output::InputEnded;
                }
            }
        }
        self.unsent = self.wire.poll_flush(cx)?.is_pending();
        Ok(())
    }

    /// Pings, or ends the session, or sets the timer.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        loop {
            let now = Instant::now();
            let paused = self.shared.state.lock().paused;
            let situation = Situation { unsent: self.unsent, paused };
            let mut next = match self.keepalive.check(now, situation) {
                Check::Wait(next) => next,
                Check::GiveUp(silence) => {
                    return Err(match self.exit {
                        Some(_) => self.end(None),
                        None => SessionEnd::Silent(silence),
                    });
                }
                Check::Ping => {
                    if matches!(self.output, Output::Open | Output::InputEnded) && !self.unsent {
                        let sent = match self.wire.ping() {
                            Ok(()) => self.wire.poll_flush(cx),
                            Err(error) => Poll::Ready(Err(error)),
                        };
                        match sent {
                            Poll::Pending => self.unsent = true,
                            Poll::Ready(Ok(())) => {}
                            Poll::Ready(Err(error)) => self.broken(error),
                        }
                    }
                    continue;
                }
            };
            if let Some(leave_at) = self.leave_at
                && !paused
            {
                if now >= leave_at {
                    let cause = match std::mem::replace(&mut self.output, Output::Closed) {
                        Output::Broken(error) => Some(error),
                        _ => None,
                    };
                    return Err(self.end(cause));
                }
                next = next.min(leave_at);
            }
            // The timer is moved only towards the present; what moves away is found out when it
            // rings. So a busy stream does not touch the timer wheel for every message.
            if self.timer.deadline() > next || self.timer.is_elapsed() {
                self.timer.as_mut().reset(next);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
        }
    }

    /// How the session ended: an exit status says more than how the connection went down.
    fn end(&mut self, cause: Option<LostError>) -> SessionEnd {
        let stderr = std::mem::take(&mut self.stderr);
        match (self.exit.take(), cause) {
            (Some(Exit::Code(code)), _) => SessionEnd::Exited { code, stderr },
            (Some(Exit::Refused(status)), _) => SessionEnd::Refused { status, stderr },
            (None, Some(cause)) => SessionEnd::Lost(Arc::new(cause)),
            (None, None) if !self.status.is_empty() => {
                let problem = "the exit status cannot be read".to_owned();
                let cause = LostError::Transport { transport: W::TRANSPORT, problem };
                SessionEnd::Lost(Arc::new(cause))
            }
            (None, None) => SessionEnd::ClosedWithoutStatus { stderr },
        }
    }

    fn poll_all(&mut self, cx: &mut Context<'_>) -> Result<(), SessionEnd> {
        // Input first: it may bring what output waits for (SPDY's replies), and pings, whose answer
        // the flush then sends.
        self.poll_input(cx)?;
        self.poll_output(cx);
        self.poll_clock(cx)
    }
}

impl<W: Wire> Future for Driver<W> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = self.get_mut();
        driver.shared.driver.register(cx.waker());
        match driver.poll_all(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => {
                // The answer to a close frame; nobody waits for it.
                if matches!(driver.output, Output::Open | Output::InputEnded) {
                    let _ = driver.wire.poll_flush(cx);
                }
                driver.shared.state.lock().end = Some(end);
                driver.done = true;
                driver.shared.reader.wake();
                driver.shared.writer.wake();
                Poll::Ready(())
            }
        }
    }
}

impl<W> Drop for Driver<W> {
    /// A driver that is gone without an end (the runtime stops, a panic) must not leave its owner
    /// waiting.
    fn drop(&mut self) {
        if !self.done {
            let mut state = self.shared.state.lock();
            state.end.get_or_insert_with(|| SessionEnd::Lost(Arc::new(LostError::Closed)));
            drop(state);
            self.shared.reader.wake();
            self.shared.writer.wake();
        }
    }
}
