//! Exec by websocket: `v5.channel.k8s.io`, or `v4` where the API server (or a proxy) has no other.
//!
//! Every message starts with the number of its channel.
//!
//! ```text
//!   wire    the channels of an exec, pings, how it ends
//!   frame   frames to bytes and back
//! ```
//!
//! Not a websocket library's business: those gather whole messages in a buffer of their own, which grows
//! to the longest one and stays, a session's largest piece of memory for the hours in which a job says
//! nothing. SHA-1 is what the handshake asks for; it protects nothing.
//!
//! Public but hidden: [`frame`] is what a test server and the fuzz target need.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Request};
use kube::client::Body;
use sha1::{Digest, Sha1};

use super::error::{OpenError, OpenErrorKind};
use super::target::{ExecTarget, Transport};
use super::upgrade::{Raw, fail, switches_to, upgrade};

pub mod frame;
mod random;
mod wire;

pub(super) use wire::WebSocketWire;

/// What a server adds to the key before it hashes it (RFC 6455 section 1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

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
    let key = random::bytes::<16>().map_err(|error| {
        fail(target, Transport::WebSocket, OpenErrorKind::Unreachable, Some(error.into()))
    })?;
    let key = STANDARD.encode(key);
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
    Ok(WebSocketWire::new(raw, version))
}

/// RFC 6455 section 4.1, and the protocol.
fn verify(headers: &HeaderMap, key: &str) -> Result<Version, String> {
    switches_to(headers, "websocket")?;
    let accept = headers.get(SEC_WEBSOCKET_ACCEPT).map(http::HeaderValue::as_bytes);
    if accept != Some(accept_key(key).as_bytes()) {
        return Err("the answer's Sec-WebSocket-Accept is not that of our key".to_owned());
    }
    let chosen = headers.get(SEC_WEBSOCKET_PROTOCOL).map(http::HeaderValue::as_bytes);
    [Version::V5, Version::V4]
        .into_iter()
        .find(|version| chosen == Some(version.name().as_bytes()))
        .ok_or_else(|| format!("the answer chose the protocol {chosen:?}, which was not offered"))
}

/// What the answer to this key has to be (section 4.2.2).
fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(ACCEPT_GUID);
    STANDARD.encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_to_a_key_is_that_of_the_rfc() {
        let accept = super::accept_key("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
