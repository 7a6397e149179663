//! Exec by SPDY/3.1, as far as exec needs it: four streams that the client opens, no push, no
//! settings. `Upgrade: SPDY/3.1` by POST is what kubelets have spoken from the beginning, and the only
//! way into a pod for a role that grants nothing but `create` on pods/exec.
//!
//! ```text
//!   wire     the four streams of an exec, pings, how it ends
//!   frame    frames to bytes and back
//!   headers  the compressed name/value blocks of SYN_STREAM
//! ```
//!
//! Public but hidden: [`frame`] and [`headers`] are what a test server and the fuzz targets need.

use http::{HeaderMap, Request};
use kube::client::Body;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};

use super::error::OpenError;
use super::target::{ExecTarget, Transport};
use super::upgrade::{Raw, switches_to, upgrade};

pub mod frame;
pub mod headers;
mod wire;

pub(super) use wire::SpdyWire;

const PROTOCOL: &str = "SPDY/3.1";
/// The version of the streams' meaning: exit codes as `Status` on the error stream. (v5 changed only
/// websockets.)
const STREAMS: &str = "v4.channel.k8s.io";
const STREAMS_HEADER: &str = "X-Stream-Protocol-Version";

pub(super) async fn open(
    client: &kube::Client,
    target: &ExecTarget,
    within: Duration,
) -> Result<SpdyWire<Raw>, OpenError> {
    let request = Request::post(target.path())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, PROTOCOL)
        .header(STREAMS_HEADER, STREAMS)
        .body(Body::empty());
    let (raw, ()) = upgrade(client, target, Transport::Spdy, within, request, verify).await?;
    Ok(SpdyWire::new(raw))
}

fn verify(headers: &HeaderMap) -> Result<(), String> {
    switches_to(headers, PROTOCOL)?;
    match headers.get(STREAMS_HEADER) {
        Some(version) if version.as_bytes() == STREAMS.as_bytes() => Ok(()),
        version => Err(format!("the answer chose {version:?} for the streams, not {STREAMS}")),
    }
}
