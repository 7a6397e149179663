//! The four streams of an exec.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::frame::{Decoder, Frame, StreamId, encode};
use super::headers::{HeadersError, open_streams};
use crate::stream::drive::{Channel, Event, Wire};
use crate::stream::error::LostError;
use crate::stream::reading::poll_read;
use crate::stream::target::Transport;

/// The SYN_STREAMs, which are the same for every connection because each begins a zlib stream of its
/// own. Made once: zlib needs more memory for a moment than a session does for its whole life.
static OPENING: LazyLock<Result<Bytes, HeadersError>> = LazyLock::new(|| {
    let mut opening = BytesMut::new();
    open_streams(STREAMS, &mut opening)?;
    Ok(opening.freeze())
});

/// In the order in which kubectl opens them. The kubelet waits until all of them are there.
const STREAMS: [(StreamId, &[(&str, &str)]); 4] = [
    (ERROR, &[("streamtype", "error")]),
    (STDIN, &[("streamtype", "stdin")]),
    (STDOUT, &[("streamtype", "stdout")]),
    (STDERR, &[("streamtype", "stderr")]),
];
const ERROR: StreamId = 1;
const STDIN: StreamId = 3;
const STDOUT: StreamId = 5;
const STDERR: StreamId = 7;

/// Unsent bytes after which nothing more is taken.
const MAX_UNSENT: usize = 64 * 1024;
/// Answers to pings that are not sent yet; more are dropped. Who sends more does not read.
const MAX_ANSWERS: usize = 16;

/// Which streams the other side has ended.
#[derive(Clone, Copy, Debug, Default)]
struct Ended {
    error: bool,
    stdout: bool,
    stderr: bool,
}

/// An exec over SPDY.
///
/// There is no flow control but TCP's. The draft has windows of 64 KiB, but Kubernetes' SPDY library
/// has none: a sender that waited for its updates would stop for ever, and a kubelet (1.36.2) that
/// is sent one drops the connection.
pub(in crate::stream) struct SpdyWire<T> {
    io: T,
    decoder: Decoder,
    input: BytesMut,
    output: BytesMut,
    /// Answers to pings, in order.
    answers: VecDeque<u32>,
    /// Whether the zlib stream could be written; told at the first chance.
    broken: Option<HeadersError>,
    /// Whether input can be sent: nothing goes into a stream before it is accepted.
    accepted: bool,
    /// Whether the other side still takes input.
    stdin_gone: bool,
    ended: Ended,
    next_ping: u32,
    going_away: bool,
    /// Whether the last read brought nothing, so that the next event needs the socket.
    drained: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> SpdyWire<T> {
    /// Opens the streams on a fresh connection.
    pub(in crate::stream) fn new(io: T) -> Self {
        let (output, broken) = match &*OPENING {
            Ok(opening) => (BytesMut::from(&opening[..]), None),
            Err(error) => (BytesMut::new(), Some(*error)),
        };
        Self {
            io,
            decoder: Decoder::default(),
            input: BytesMut::new(),
            output,
            answers: VecDeque::new(),
            broken,
            accepted: false,
            stdin_gone: false,
            ended: Ended::default(),
            next_ping: 1,
            going_away: false,
            drained: true,
        }
    }

    /// What a frame means for the exec; `None` where it means nothing.
    fn handle(&mut self, frame: Frame) -> Result<Event, LostError> {
        match frame {
            Frame::Data { stream, bytes, fin } => {
                let channel = match stream {
                    ERROR => Channel::Error,
                    STDOUT => Channel::Stdout,
                    STDERR => Channel::Stderr,
                    STDIN => return Ok(Event::Alive),
                    _ => return Err(broken(format!("data in stream {stream}"))),
                };
                if fin {
                    self.end(stream);
                }
                Ok(Event::Output(channel, bytes))
            }
            Frame::SynReply { stream, fin, .. } => {
                self.accepted |= stream == STDIN;
                if fin {
                    self.end(stream);
                }
                Ok(Event::Alive)
            }
            Frame::Headers { stream, fin: true, .. } => {
                self.end(stream);
                Ok(Event::Alive)
            }
            Frame::Reset { stream: STDIN, .. } => {
                // The command closed its stdin, or is over: output goes on until its own end.
                self.stdin_gone = true;
                Ok(Event::Alive)
            }
            Frame::Reset { stream, status } => {
                self.end(stream);
                tracing::debug!(stream, status, "the kubelet broke a stream off");
                Ok(Event::Alive)
            }
            Frame::Ping(id) => {
                // Ours are odd: those are answers.
                if id % 2 == 0 && self.answers.len() < MAX_ANSWERS {
                    self.answers.push_back(id);
                }
                Ok(Event::Alive)
            }
            Frame::GoAway { status: 0, .. } => {
                self.going_away = true;
                Ok(Event::Alive)
            }
            Frame::GoAway { status, .. } => {
                Err(broken(format!("the other side goes away with status {status}")))
            }
            Frame::SynStream { .. } => Err(broken("the other side opened a stream")),
            Frame::Headers { .. } | Frame::WindowUpdate { .. } | Frame::Other(_) => {
                Ok(Event::Alive)
            }
        }
    }

    fn end(&mut self, stream: StreamId) {
        match stream {
            ERROR => self.ended.error = true,
            STDOUT => self.ended.stdout = true,
            STDERR => self.ended.stderr = true,
            _ => {}
        }
    }

    fn is_over(&self) -> bool {
        let Ended { error, stdout, stderr } = self.ended;
        error && stdout && stderr
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for SpdyWire<T> {
    const TRANSPORT: Transport = Transport::Spdy;

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, LostError>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(broken(error.to_string())));
        }
        loop {
            if self.is_over() {
                return Poll::Ready(Ok(Event::Closed));
            }
            if !self.drained {
                let frame = self.decoder.decode(&mut self.input);
                if let Some(frame) = frame.map_err(|error| broken(error.to_string()))? {
                    return Poll::Ready(self.handle(frame));
                }
                self.drained = true;
            }
            if self.input.is_empty() {
                // Even an empty slice keeps its buffer.
                self.input = BytesMut::new();
            }
            let piece = ready!(poll_read(&mut self.io, cx))?;
            if piece.is_empty() {
                return Poll::Ready(if self.going_away || self.ended.error {
                    Ok(Event::Closed)
                } else {
                    Err(LostError::Io(io::ErrorKind::UnexpectedEof.into()))
                });
            }
            if self.input.is_empty() {
                self.input = piece;
            } else {
                // The beginning of a header or of a control frame, at most one in a read.
                self.input.extend_from_slice(&piece);
            }
            self.drained = false;
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LostError>> {
        if !self.accepted {
            // The SYN_STREAMs have to go out; the reply is an event, after which this is asked
            // again.
            let _ = self.poll_flush(cx)?;
            return Poll::Pending;
        }
        if self.output.len() >= MAX_UNSENT {
            return self.poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn input(&mut self, bytes: Bytes) -> Result<(), LostError> {
        if !self.stdin_gone {
            encode(&Frame::Data { stream: STDIN, bytes, fin: false }, &mut self.output);
        }
        Ok(())
    }

    fn end_input(&mut self) -> Result<(), LostError> {
        if !self.stdin_gone {
            self.stdin_gone = true;
            let fin = Frame::Data { stream: STDIN, bytes: Bytes::new(), fin: true };
            encode(&fin, &mut self.output);
        }
        Ok(())
    }

    fn ping(&mut self) -> Result<(), LostError> {
        if self.output.len() < MAX_UNSENT {
            encode(&Frame::Ping(self.next_ping), &mut self.output);
            self.next_ping = self.next_ping.wrapping_add(2);
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), LostError> {
        self.end_input()?;
        encode(&Frame::GoAway { last: 0, status: 0 }, &mut self.output);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LostError>> {
        while self.output.len() < MAX_UNSENT
            && let Some(id) = self.answers.pop_front()
        {
            encode(&Frame::Ping(id), &mut self.output);
        }
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(LostError::Io(io::ErrorKind::WriteZero.into())));
            }
            self.output.advance(written);
        }
        // An idle session keeps no write buffer.
        self.output = BytesMut::new();
        Pin::new(&mut self.io).poll_flush(cx).map_err(LostError::Io)
    }
}

fn broken(problem: impl Into<String>) -> LostError {
    LostError::Transport { transport: Transport::Spdy, problem: problem.into() }
}
