//! The web terminal: a websocket to GitLab on one side, a shell in the job's container on the other.
//!
//! Sub-protocols: `terminal.gitlab.com` (raw bytes) and `base64.terminal.gitlab.com` (text), as GitLab
//! offers them. Neither can say that the window has another size; `terminal.podwright.dev` can: what
//! is typed and shown are binary messages, and a text message is `{"columns":80,"rows":24}`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use runner_core::session::{DoorError, Terminal, Visitor};
use runner_core::wire::{TerminalFrame, TerminalSize};
use serde::Deserialize;
use tokio::time::{Instant, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tracing::{info, warn};

use super::registry::{Open, Slot};
use super::server::{Body, House, status};

/// How long a terminal may take to be there: the job's image may still be pulled.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the client is asked whether it is there.
const PING: Duration = Duration::from_secs(30);
/// How long a message to the client may take.
const WRITE: Duration = Duration::from_secs(5);
/// Longest message from a client, in bytes: more than anybody pastes.
const MESSAGE: usize = 1 << 20;

/// How bytes become messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Raw,
    Base64,
    Sized,
}

const DIALECTS: [(&str, Dialect); 3] = [
    ("terminal.podwright.dev", Dialect::Sized),
    ("terminal.gitlab.com", Dialect::Raw),
    ("base64.terminal.gitlab.com", Dialect::Base64),
];

/// Answers a request for a terminal.
pub(super) async fn answer(
    house: &House,
    open: Open,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let headers = request.headers();
    let key = headers.get(SEC_WEBSOCKET_KEY).cloned();
    let Some(key) = key.filter(|_| has(headers, &UPGRADE, "websocket")) else {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    };
    let offered = |name: &str| has(headers, &SEC_WEBSOCKET_PROTOCOL, name);
    let chosen = DIALECTS.into_iter().find(|(name, _)| offered(name));
    let Some(slot) = open.take_terminal() else {
        return status(StatusCode::LOCKED);
    };
    let terminal = match timeout(PATIENCE, open.door.terminal()).await {
        Ok(Ok(terminal)) => terminal,
        Ok(Err(error @ DoorError::Unreachable(_))) => {
            warn!(job = %open.job, %error, "no terminal");
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        }
        Ok(Err(error)) => {
            info!(job = %open.job, %error, "no terminal");
            return status(StatusCode::SERVICE_UNAVAILABLE);
        }
        Err(_) => return status(StatusCode::SERVICE_UNAVAILABLE),
    };
    let visit = Visit {
        dialect: chosen.map_or(Dialect::Raw, |(_, dialect)| dialect),
        terminal,
        visitor: open.visitors.enter(),
        _slot: slot,
    };
    info!(job = %open.job, "a terminal is connected");
    let job = open.job;
    let upgrade = hyper::upgrade::on(&mut request);
    house.tasks.spawn(async move {
        visit.run(upgrade).await;
        info!(%job, "the terminal is disconnected");
    });
    switching(&key, chosen.map(|(name, _)| name))
}

fn has(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(wanted))
}

fn switching(key: &HeaderValue, protocol: Option<&'static str>) -> Response<Body> {
    let mut response = status(StatusCode::SWITCHING_PROTOCOLS);
    *response.body_mut() = Body::default();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    response
}

/// Somebody in a job.
struct Visit {
    dialect: Dialect,
    terminal: Box<dyn Terminal>,
    visitor: Visitor,
    _slot: Slot,
}

/// A window's size, as a message.
#[derive(Deserialize)]
struct Size {
    columns: u16,
    rows: u16,
}

impl Dialect {
    /// What a message means; `None`: nothing.
    fn read(self, message: Message) -> Option<TerminalFrame> {
        match (self, message) {
            (Self::Sized, Message::Text(text)) => {
                let Size { columns, rows } = serde_json::from_str(&text).ok()?;
                let (columns, rows) = (columns.max(1), rows.max(1));
                Some(TerminalFrame::Size(TerminalSize { columns, rows }))
            }
            (Self::Base64, Message::Text(text)) => {
                Some(TerminalFrame::Keys(STANDARD.decode(text.as_bytes()).ok()?.into()))
            }
            (Self::Base64, Message::Binary(bytes)) => {
                Some(TerminalFrame::Keys(STANDARD.decode(&bytes).ok()?.into()))
            }
            // Whatever kind of message: GitLab's page sends what is typed as text.
            (Self::Raw, Message::Text(text)) => Some(TerminalFrame::Keys(text.into())),
            (Self::Raw | Self::Sized, Message::Binary(bytes)) => Some(TerminalFrame::Keys(bytes)),
            _ => None,
        }
    }

    fn write(self, bytes: Bytes) -> Message {
        match self {
            Self::Base64 => Message::text(STANDARD.encode(&bytes)),
            Self::Raw | Self::Sized => Message::binary(bytes),
        }
    }
}

impl Visit {
    async fn run(mut self, upgrade: OnUpgrade) {
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE))
            .max_frame_size(Some(MESSAGE));
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        self.talk(&mut socket).await;
        self.terminal.close().await;
        // The shell has ended, or the person has gone: good manners only.
        let _ = timeout(WRITE, socket.close(None)).await;
    }

    async fn talk(&mut self, socket: &mut WebSocketStream<TokioIo<Upgraded>>) {
        let mut pings = interval_at(Instant::now() + PING, PING);
        loop {
            let message = tokio::select! {
                shown = self.terminal.next() => match shown {
                    Some(TerminalFrame::Screen(bytes)) => self.dialect.write(bytes),
                    Some(TerminalFrame::Ended(_)) | None => return,
                    Some(_) => continue,
                },
                heard = socket.next() => match heard {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(message)) => {
                        if let Some(frame) = self.dialect.read(message)
                            && self.terminal.send(frame).await.is_err()
                        {
                            return;
                        }
                        continue;
                    }
                },
                _ = pings.tick() => Message::Ping(Bytes::new()),
                // The job ends, however long its shell would still run.
                () = self.visitor.shown_out() => return,
            };
            if !matches!(timeout(WRITE, socket.send(message)).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}
