//! Streams as websocket messages: one byte for the channel, then its bytes.

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use http::header::{HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, Response};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use super::super::refusal::Refusal;
use super::super::server::Body;
use super::{Output, STDERR, STDOUT, Session, Stdin, Version, Wanted, feed, offers, switching};

const STATUS: u8 = 3;
/// On v5, `[CLOSE, n]` closes channel n.
const CLOSE: u8 = 255;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Chooses the protocol and answers the handshake.
pub(super) fn accept(headers: &HeaderMap) -> Result<Response<Body>, Refusal> {
    let known = |p: &String| match p.as_str() {
        "v5.channel.k8s.io" => Some((Version::V5, "v5.channel.k8s.io")),
        "v4.channel.k8s.io" => Some((Version::V4, "v4.channel.k8s.io")),
        _ => None,
    };
    let offered = offers(headers, SEC_WEBSOCKET_PROTOCOL.as_str());
    // Real servers answer an unknown protocol with an empty 403.
    let (version, name) = offered.iter().find_map(known).ok_or_else(|| Refusal::text(403, ""))?;
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| Refusal::text(400, "missing key"))?;
    let mut response = switching("websocket");
    let accept = derive_accept_key(key.as_bytes());
    let accept = HeaderValue::from_str(&accept).map_err(|_| Refusal::text(400, "bad key"))?;
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    response.extensions_mut().insert(version);
    Ok(response)
}

/// Serves one stream to its end.
pub(super) async fn run(
    upgraded: Upgraded,
    version: Version,
    wanted: Wanted,
    begin: impl Future<Output = Session>,
) {
    let socket = Socket::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    let (mut sink, mut source) = socket.split();
    let session = begin.await;
    let stdin: Stdin = session.stdin.clone();
    let writer = async {
        write(&mut sink, session, wanted).await;
    };
    let reader = async {
        // Pings are answered by the library while it reads. A program that does not read its input
        // also holds up pongs, as on a real server.
        while let Some(Ok(message)) = source.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => text.into(),
                Message::Close(_) => break,
                _ => continue,
            };
            match (bytes.first(), version) {
                (Some(0), _) if bytes.len() > 1 => feed(&stdin, Some(&bytes[1..])).await,
                (Some(&CLOSE), Version::V5) if bytes.get(1) == Some(&0) => feed(&stdin, None).await,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = writer => {}
        () = reader => {}
    }
    feed(&stdin, None).await;
}

async fn write(sink: &mut SplitSink<Socket, Message>, mut session: Session, wanted: Wanted) {
    let framed = |(channel, bytes): Output| {
        let mut message = Vec::with_capacity(1 + bytes.len());
        message.push(channel);
        message.extend_from_slice(&bytes);
        Message::binary(message)
    };
    // An empty message on an output channel says that the connection is ready.
    let first = if wanted.stdout { STDOUT } else { STDERR };
    if sink.send(framed((first, bytes::Bytes::new()))).await.is_err() {
        return;
    }
    while let Some(output) = session.output.recv().await {
        if sink.send(framed(output)).await.is_err() {
            return;
        }
    }
    let Ok(status) = session.status.await else { return };
    if sink.send(framed((STATUS, status.into()))).await.is_err() {
        return;
    }
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    // The client may be gone already.
    drop(sink.send(Message::Close(Some(close))).await);
}
