//! The channels of an exec.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::frame::{Decoder, Frame, Said, encode};
use super::{Version, random};
use crate::stream::drive::{Channel, Event, Wire};
use crate::stream::error::LostError;
use crate::stream::reading::poll_read;
use crate::stream::target::Transport;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
/// v5 only: the channel in the second byte is closed.
const CLOSE: u8 = 255;

/// Unsent bytes after which nothing more is taken.
const MAX_UNSENT: usize = 64 * 1024;

/// The websocket after its handshake. Holds no buffer while nothing is under way.
pub(in crate::stream) struct WebSocketWire<T> {
    io: T,
    version: Version,
    decoder: Decoder,
    /// What was read and not looked at.
    input: Bytes,
    /// The channel of the message that is under way, once its first byte was there.
    channel: Option<u8>,
    output: BytesMut,
    /// The payload of the latest ping; who asks again before the answer wants only one (section 5.5.3).
    pong: Option<Bytes>,
    /// Whether our farewell is on its way.
    closing: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> WebSocketWire<T> {
    pub(in crate::stream) fn new(io: T, version: Version) -> Self {
        Self {
            io,
            version,
            decoder: Decoder::default(),
            input: Bytes::new(),
            channel: None,
            output: BytesMut::new(),
            pong: None,
            closing: false,
        }
    }

    fn say(&mut self, said: &Said) -> Result<(), LostError> {
        let mask = random::bytes().map_err(|error| LostError::Io(io::Error::other(error)))?;
        encode(said, mask, &mut self.output);
        Ok(())
    }

    /// The first word of it, or the answer; once.
    fn farewell(&mut self) -> Result<(), LostError> {
        if std::mem::replace(&mut self.closing, true) {
            return Ok(());
        }
        self.say(&Said::Close)
    }

    fn handle(&mut self, frame: Frame) -> Result<Event, LostError> {
        match frame {
            Frame::Data { mut bytes, part } => {
                if self.channel.is_none() {
                    self.channel = bytes.try_get_u8().ok();
                }
                let channel = self.channel;
                if part.last {
                    self.channel = None;
                }
                Ok(match channel {
                    Some(STDOUT) => Event::Output(Channel::Stdout, bytes),
                    Some(STDERR) => Event::Output(Channel::Stderr, bytes),
                    Some(ERROR) => Event::Output(Channel::Error, bytes),
                    None if part.last => return Err(broken("a message without a channel")),
                    // Stdin's opening message, a closed channel, or something of a later protocol;
                    // or the channel is still to come.
                    _ => Event::Alive,
                })
            }
            Frame::Ping(payload) => {
                self.pong = Some(payload);
                Ok(Event::Alive)
            }
            Frame::Pong(_) => Ok(Event::Alive),
            Frame::Close(_) => {
                self.pong = None;
                self.farewell()?;
                Ok(Event::Closed)
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for WebSocketWire<T> {
    const TRANSPORT: Transport = Transport::WebSocket;

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, LostError>> {
        loop {
            let frame = self.decoder.decode(&mut self.input);
            if let Some(frame) = frame.map_err(|error| broken(error.to_string()))? {
                return Poll::Ready(self.handle(frame));
            }
            // Even an empty slice keeps its buffer.
            self.input = Bytes::new();
            let input = ready!(poll_read(&mut self.io, cx))?;
            if input.is_empty() {
                let end = io::ErrorKind::UnexpectedEof.into();
                return Poll::Ready(Err(LostError::Io(end)));
            }
            self.input = input.freeze();
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LostError>> {
        if self.output.len() >= MAX_UNSENT {
            return self.poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    fn input(&mut self, bytes: Bytes) -> Result<(), LostError> {
        self.say(&Said::Message(STDIN, bytes))
    }

    fn end_input(&mut self) -> Result<(), LostError> {
        match self.version {
            Version::V5 => self.say(&Said::Message(CLOSE, Bytes::from_static(&[STDIN]))),
            // There is no way to say it but to close everything, which may lose output.
            Version::V4 => Ok(()),
        }
    }

    fn ping(&mut self) -> Result<(), LostError> {
        if self.output.len() >= MAX_UNSENT {
            return Ok(());
        }
        self.say(&Said::Ping)
    }

    fn close(&mut self) -> Result<(), LostError> {
        self.farewell()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LostError>> {
        // Nothing may follow a farewell; and who does not read gets no answers in store.
        if !self.closing
            && self.output.len() < MAX_UNSENT
            && let Some(payload) = self.pong.take()
        {
            self.say(&Said::Pong(payload))?;
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
    LostError::Transport { transport: Transport::WebSocket, problem: problem.into() }
}
