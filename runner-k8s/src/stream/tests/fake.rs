//! An API server that does what one test wants.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use kube::core::Status;
use runner_core::ids::Offset;
use runner_core::wire::{AgentCodec, AgentFrame, ManagerFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::codec::{Decoder as _, Encoder as _};

use crate::stream::spdy::frame::{Decoder, Frame, encode};
use crate::stream::spdy::headers;
use crate::stream::{ExecTarget, OpenError, Patience, Session, Transport};

pub(super) const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;

/// Listens for the session under test.
pub(super) struct Fake {
    listener: TcpListener,
    pub(super) client: kube::Client,
}

/// A request's head.
#[derive(Debug)]
pub(super) struct Head(String);

impl Head {
    pub(super) fn line(&self) -> &str {
        self.0.lines().next().unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.0.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The answer that upgrades to a websocket.
    pub(super) fn websocket(&self, protocol: &str) -> String {
        let accept = derive_accept_key(self.header("sec-websocket-key").unwrap().as_bytes());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
        )
    }
}

pub(super) const SPDY_UPGRADE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
     X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n";

pub(super) fn target() -> ExecTarget {
    ExecTarget {
        namespace: "ci".into(),
        pod: "job-1".into(),
        container: "helper".into(),
        command: vec!["agent".into(), "relay".into()],
    }
}

/// Deadlines that no test reaches.
pub(super) fn patient() -> Patience {
    let long = Duration::from_secs(60);
    Patience { open: long, ping: long, pong: long, agent: long, linger: long }
}

impl Fake {
    pub(super) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let mut config = kube::Config::new(uri);
        config.default_retry = false;
        Self { listener, client: config.try_into().unwrap() }
    }

    /// The next connection and its request.
    pub(super) async fn accept(&self) -> (TcpStream, Head) {
        let (mut socket, _) = self.listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        (socket, Head(String::from_utf8(head).unwrap()))
    }

    /// Opens a session while the server answers with these bytes, and keeps the connection.
    pub(super) async fn answer(
        &self,
        transport: Transport,
        patience: Patience,
        answer: impl AsyncFnOnce(&Head) -> String,
    ) -> (Result<Session, OpenError>, TcpStream, Head) {
        let target = target();
        let serve = async {
            let (mut socket, head) = self.accept().await;
            socket.write_all(answer(&head).await.as_bytes()).await.unwrap();
            (socket, head)
        };
        let open = Session::open(&self.client, &target, transport, patience);
        let (session, (socket, head)) = tokio::join!(open, serve);
        (session, socket, head)
    }

    /// A session by websocket, and the other end of it.
    pub(super) async fn websocket(
        &self,
        protocol: &str,
        patience: Patience,
    ) -> (Session, WebSocketPeer) {
        let (session, socket, _) = self
            .answer(Transport::WebSocket, patience, async |head| head.websocket(protocol))
            .await;
        let socket = WebSocketStream::from_raw_socket(socket, Role::Server, None).await;
        (session.unwrap(), WebSocketPeer { socket, input: BytesMut::new(), ended: false })
    }

    /// A session by SPDY, and the other end of it.
    pub(super) async fn spdy(&self, patience: Patience) -> (Session, SpdyPeer) {
        let (session, socket, _) =
            self.answer(Transport::Spdy, patience, async |_| SPDY_UPGRADE.to_owned()).await;
        let mut peer = SpdyPeer::new(socket);
        peer.accept_streams().await;
        (session.unwrap(), peer)
    }
}

/// The bytes of agent frames.
pub(super) fn wire(frames: impl IntoIterator<Item = AgentFrame>) -> Bytes {
    let mut wire = BytesMut::new();
    for frame in frames {
        AgentCodec.encode(frame, &mut wire).unwrap();
    }
    wire.freeze()
}

pub(super) fn trace(offset: u64, bytes: impl Into<Bytes>) -> AgentFrame {
    AgentFrame::Trace { offset: Offset(offset), bytes: bytes.into() }
}

pub(super) fn exit_status(code: i32) -> String {
    format!(
        r#"{{"metadata":{{}},"status":"Failure","message":"command terminated","reason":
        "NonZeroExitCode","details":{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}}}"#
    )
}

/// An error answer as the API server gives it.
pub(super) fn refusal(code: u16, reason: &str, extra: &str) -> String {
    let status = Status::failure("because", reason).with_code(code);
    let body = serde_json::to_string(&status).unwrap();
    let length = body.len();
    format!("HTTP/1.1 {code} X\r\n{extra}Content-Length: {length}\r\n\r\n{body}")
}

/// What a fake kubelet can do, by either transport.
pub(super) trait Peer {
    async fn output(&mut self, channel: u8, bytes: &[u8]);
    /// The next bytes of stdin; `None` at its end.
    async fn read(&mut self) -> Option<Bytes>;
    /// Ends all streams in good order.
    async fn finish(&mut self);
    /// Sends a ping and waits for the answer.
    async fn ping(&mut self);
    fn buffer(&mut self) -> &mut BytesMut;

    async fn stdout(&mut self, frames: impl IntoIterator<Item = AgentFrame>) {
        self.output(1, &wire(frames)).await;
    }

    async fn frame(&mut self) -> Option<ManagerFrame> {
        loop {
            if let Some(frame) = AgentCodec.decode(self.buffer()).unwrap() {
                return Some(frame);
            }
            let bytes = self.read().await?;
            self.buffer().extend_from_slice(&bytes);
        }
    }
}

pub(super) struct WebSocketPeer {
    pub(super) socket: WebSocketStream<TcpStream>,
    input: BytesMut,
    ended: bool,
}

impl Peer for WebSocketPeer {
    async fn output(&mut self, channel: u8, bytes: &[u8]) {
        let message = [&[channel], bytes].concat();
        self.socket.send(Message::Binary(message.into())).await.unwrap();
    }

    async fn read(&mut self) -> Option<Bytes> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(mut bytes))) => match bytes.get_u8() {
                    0 => {
                        assert!(!self.ended, "input after the end of input");
                        return Some(bytes);
                    }
                    255 => {
                        assert_eq!(&bytes[..], [0]);
                        self.ended = true;
                        return None;
                    }
                    channel => panic!("input in channel {channel}"),
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                None | Some(Ok(Message::Close(_)) | Err(_)) => return None,
                other => panic!("{other:?}"),
            }
        }
    }

    async fn finish(&mut self) {
        self.socket.close(None).await.unwrap();
    }

    async fn ping(&mut self) {
        let id = Bytes::from_static(b"?");
        self.socket.send(Message::Ping(id.clone())).await.unwrap();
        while self.socket.next().await.unwrap().unwrap() != Message::Pong(id.clone()) {}
    }

    fn buffer(&mut self) -> &mut BytesMut {
        &mut self.input
    }
}

pub(super) struct SpdyPeer {
    pub(super) socket: TcpStream,
    decoder: Decoder,
    raw: BytesMut,
    input: BytesMut,
    /// Pings that the client sent.
    pub(super) pings: usize,
}

impl SpdyPeer {
    pub(super) fn new(socket: TcpStream) -> Self {
        let (raw, input) = (BytesMut::new(), BytesMut::new());
        Self { socket, decoder: Decoder::default(), raw, input, pings: 0 }
    }

    /// Reads the four streams' opening and accepts them, as a kubelet does.
    pub(super) async fn accept_streams(&mut self) {
        let mut names = headers::Decoder::default();
        for expected in ["error", "stdin", "stdout", "stderr"] {
            let Some(Frame::SynStream { stream, fin: false, headers }) = self.next().await else {
                panic!("no {expected} stream")
            };
            let headers = names.decode(&headers).unwrap();
            assert_eq!(headers, [("streamtype".into(), Bytes::from(expected))]);
            self.write(&Frame::SynReply { stream, fin: false, headers: Bytes::new() }).await;
        }
    }

    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.raw).unwrap() {
                return Some(frame);
            }
            if self.socket.read_buf(&mut self.raw).await.ok()? == 0 {
                return None;
            }
        }
    }

    pub(super) async fn write(&mut self, frame: &Frame) {
        let mut out = BytesMut::new();
        encode(frame, &mut out);
        self.socket.write_all(&out).await.unwrap();
    }
}

impl Peer for SpdyPeer {
    async fn output(&mut self, channel: u8, bytes: &[u8]) {
        let stream = match channel {
            1 => 5,
            2 => 7,
            3 => 1,
            _ => panic!("{channel}"),
        };
        let bytes = Bytes::copy_from_slice(bytes);
        self.write(&Frame::Data { stream, bytes, fin: false }).await;
    }

    async fn read(&mut self) -> Option<Bytes> {
        loop {
            match self.next().await? {
                Frame::Data { stream: 3, fin: true, .. } | Frame::GoAway { .. } => return None,
                Frame::Data { stream: 3, bytes, .. } => return Some(bytes),
                Frame::Ping(id) => {
                    self.pings += 1;
                    self.write(&Frame::Ping(id)).await;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn finish(&mut self) {
        for stream in [5, 7, 1] {
            self.write(&Frame::Data { stream, bytes: Bytes::new(), fin: true }).await;
        }
        self.write(&Frame::GoAway { last: 7, status: 0 }).await;
    }

    async fn ping(&mut self) {
        self.write(&Frame::Ping(42)).await;
        while self.next().await.unwrap() != Frame::Ping(42) {}
    }

    fn buffer(&mut self) -> &mut BytesMut {
        &mut self.input
    }
}

/// Reads a session to its end.
pub(super) async fn drain(session: &mut Session) -> (Vec<AgentFrame>, crate::stream::SessionEnd) {
    let mut frames = Vec::new();
    loop {
        match session.next().await {
            Ok(frame) => frames.push(frame),
            Err(end) => return (frames, end),
        }
    }
}

/// All trace bytes, which have to be in order and without gaps.
pub(super) fn joined(frames: &[AgentFrame]) -> Vec<u8> {
    let mut all = Vec::new();
    for frame in frames {
        if let AgentFrame::Trace { offset, bytes } = frame {
            assert_eq!(offset.0, all.len() as u64);
            all.extend_from_slice(bytes);
        }
    }
    all
}
