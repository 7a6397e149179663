//! Exec by websocket: `v5.channel.k8s.io`, or `v4` where the API server (or a proxy) has no other.
//!
//! Every message starts with the number of its channel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Request};
use kube::client::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::drive::{Channel, Event, Wire};
use super::error::{LostError, OpenError};
use super::target::{ExecTarget, Transport};
use super::upgrade::{Raw, switches_to, upgrade};

/// Longest message. The API server sends 32 KiB.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// Read buffer; it is kept for the session's whole life, and the library lets it grow to the longest
/// message (the API server's are 32 KiB). Larger ones are not faster, smaller ones save little.
const READ_BUFFER: usize = 16 * 1024;
/// Unsent bytes after which nothing more is taken: two pieces of input, or many pings.
const MAX_UNSENT: usize = 128 * 1024;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
/// v5 only: the channel in the second byte is closed.
const CLOSE: u8 = 255;

/// The protocol that was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V5,
}

impl Version {
    const fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
        }
    }
}

pub(super) async fn open(
    client: &kube::Client,
    target: &ExecTarget,
    within: Duration,
) -> Result<WebSocketWire<Raw>, OpenError> {
    let key = generate_key();
    let request = Request::get(target.path())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key)
        // One header with a list: the API server looks only at the first one.
        .header(SEC_WEBSOCKET_PROTOCOL, format!("{}, {}", Version::V5.name(), Version::V4.name()))
        .body(Body::empty());
    let verify = |headers: &HeaderMap| verify(headers, &key);
    let (raw, version) =
        upgrade(client, target, Transport::WebSocket, within, request, verify).await?;
    Ok(WebSocketWire::new(raw, version).await)
}

/// RFC 6455 section 4.1, and the protocol.
fn verify(headers: &HeaderMap, key: &str) -> Result<Version, String> {
    switches_to(headers, "websocket")?;
    let accept = headers.get(SEC_WEBSOCKET_ACCEPT).map(http::HeaderValue::as_bytes);
    if accept != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        return Err("the answer's Sec-WebSocket-Accept is not that of our key".to_owned());
    }
    let chosen = headers.get(SEC_WEBSOCKET_PROTOCOL).map(http::HeaderValue::as_bytes);
    [Version::V5, Version::V4]
        .into_iter()
        .find(|version| chosen == Some(version.name().as_bytes()))
        .ok_or_else(|| format!("the answer chose the protocol {chosen:?}, which was not offered"))
}

/// The websocket after its handshake.
pub(super) struct WebSocketWire<T> {
    socket: WebSocketStream<T>,
    version: Version,
}

impl<T: AsyncRead + AsyncWrite + Unpin> WebSocketWire<T> {
    pub(super) async fn new(raw: T, version: Version) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            // Messages are gathered until the flush; there is one after every turn.
            .write_buffer_size(READ_BUFFER)
            .max_write_buffer_size(MAX_UNSENT)
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let socket = WebSocketStream::from_raw_socket(raw, Role::Client, Some(config)).await;
        Self { socket, version }
    }

    fn message(&mut self, message: Message) -> Result<(), LostError> {
        Pin::new(&mut self.socket).start_send(message).map_err(lost)
    }
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for WebSocketWire<T> {
    const TRANSPORT: Transport = Transport::WebSocket;

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, LostError>> {
        let message = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => {
                return Poll::Ready(Ok(Event::Closed));
            }
            Some(Err(error)) => return Poll::Ready(Err(lost(error))),
            Some(Ok(message)) => message,
        };
        Poll::Ready(match message {
            Message::Binary(bytes) => split(bytes),
            Message::Close(_) => Ok(Event::Closed),
            // The answer to a ping is queued by the library and sent by our next flush.
            Message::Ping(_) | Message::Pong(_) => Ok(Event::Alive),
            Message::Text(_) | Message::Frame(_) => Err(broken("a message that is not binary")),
        })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LostError>> {
        // The library's `poll_ready` says yes until the buffer is over its limit, and then fails;
        // flushing first bounds it by one message.
        self.poll_flush(cx)
    }

    fn input(&mut self, bytes: Bytes) -> Result<(), LostError> {
        let mut message = BytesMut::with_capacity(1 + bytes.len());
        message.put_u8(STDIN);
        message.put_slice(&bytes);
        self.message(Message::Binary(message.freeze()))
    }

    fn end_input(&mut self) -> Result<(), LostError> {
        match self.version {
            Version::V5 => self.message(Message::Binary(Bytes::from_static(&[CLOSE, STDIN]))),
            // There is no way to say it but to close everything, which may lose output.
            Version::V4 => Ok(()),
        }
    }

    fn ping(&mut self) -> Result<(), LostError> {
        self.message(Message::Ping(Bytes::new()))
    }

    fn close(&mut self) -> Result<(), LostError> {
        self.message(Message::Close(None))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LostError>> {
        match ready!(Pin::new(&mut self.socket).poll_flush(cx)) {
            // The other side said good-bye; reading tells.
            Err(Error::ConnectionClosed) => Poll::Ready(Ok(())),
            flushed => Poll::Ready(flushed.map_err(lost)),
        }
    }
}

/// Takes the channel off. The payload stays where it is.
fn split(mut bytes: Bytes) -> Result<Event, LostError> {
    if bytes.is_empty() {
        return Err(broken("a message without a channel"));
    }
    let channel = bytes.split_to(1)[0];
    Ok(match channel {
        STDOUT => Event::Output(Channel::Stdout, bytes),
        STDERR => Event::Output(Channel::Stderr, bytes),
        ERROR => Event::Output(Channel::Error, bytes),
        // Stdin's opening message, a closed channel, or something of a later protocol.
        _ => Event::Alive,
    })
}

fn broken(problem: impl Into<String>) -> LostError {
    LostError::Transport { transport: Transport::WebSocket, problem: problem.into() }
}

fn lost(error: Error) -> LostError {
    match error {
        Error::Io(error) => LostError::Io(error),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            LostError::Io(io::ErrorKind::UnexpectedEof.into())
        }
        error => broken(error.to_string()),
    }
}
