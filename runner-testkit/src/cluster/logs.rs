//! `pods/log`.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use super::kinds::PODS;
use super::kubelet::log::{Chunk, Log};
use super::refusal::Refusal;
use super::route::Route;
use super::server::{Body, full};
use super::shared::Shared;

/// The name of the container that a request is about.
pub(super) fn container(pod: &Value, asked: &str) -> Result<String, Refusal> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let names: Vec<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten())
        .filter_map(|c| c["name"].as_str())
        .collect();
    if asked.is_empty() {
        let mains: Vec<&str> = pod["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c["name"].as_str())
            .collect();
        let default = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"]
            .as_str()
            .filter(|d| mains.contains(d));
        return match (default, mains.as_slice()) {
            (Some(one), _) => Ok(one.into()),
            (None, [one]) => Ok((*one).into()),
            _ => Err(Refusal::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                mains.join(" ")
            ))),
        };
    }
    if names.contains(&asked) {
        return Ok(asked.into());
    }
    Err(Refusal::bad_request(format!("container {asked} is not valid for pod {name}")))
}

pub(super) fn serve(shared: &Arc<Shared>, route: &Route) -> Result<Response<Body>, Refusal> {
    let Some(pod) = shared.store.get(&PODS, &route.namespace, &route.name) else {
        return Err(Refusal::not_found("pods", "", &route.name));
    };
    let container = container(&pod, route.query.get("container"))?;
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    let Some(log) = shared.log(uid, &container) else {
        return Err(Refusal::bad_request(format!(
            "container {container:?} in pod {:?} is waiting to start: ContainerCreating",
            route.name
        )));
    };
    let tail = route.query.number("tailLines");
    let mut stamps = Stamps { wanted: route.query.is("timestamps"), in_line: false };
    let (mut begin, at) = so_far(&log, tail, &mut stamps);
    if let Some(limit) = route.query.number("limitBytes") {
        begin.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let mut response = if route.query.is("follow") {
        Response::new(follow(begin, log, at, stamps))
    } else {
        Response::new(full(begin))
    };
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    Ok(response)
}

/// Puts the time before each line, where that is asked for.
struct Stamps {
    wanted: bool,
    in_line: bool,
}

impl Stamps {
    fn join(&mut self, chunks: &[Chunk]) -> Vec<u8> {
        let mut out = Vec::new();
        for chunk in chunks {
            for line in chunk.bytes.split_inclusive(|byte| *byte == b'\n') {
                if self.wanted && !self.in_line {
                    out.extend_from_slice(format!("{:.9} ", chunk.time).as_bytes());
                }
                out.extend_from_slice(line);
                self.in_line = !line.ends_with(b"\n");
            }
        }
        out
    }
}

/// What is there, cut to its last lines, and the position after it.
fn so_far(log: &Log, tail: Option<u64>, stamps: &mut Stamps) -> (Vec<u8>, u64) {
    let chunks = log.since(0);
    let at = chunks.last().map_or(0, |c| c.at + c.bytes.len() as u64);
    let mut bytes = stamps.join(&chunks);
    if let Some(lines) = tail {
        let complete = bytes.len() - usize::from(bytes.ends_with(b"\n"));
        let starts = (0..complete).rev().filter(|&i| bytes[i] == b'\n').map(|i| i + 1);
        let wanted = usize::try_from(lines).unwrap_or(usize::MAX);
        let from = match wanted {
            0 => bytes.len(),
            n => starts.take(n).nth(n - 1).unwrap_or(0),
        };
        bytes.drain(..from);
    }
    (bytes, at)
}

fn follow(begin: Vec<u8>, log: Arc<Log>, at: u64, stamps: Stamps) -> Body {
    let end = log.end();
    let frames = stream::unfold(
        (Some(Bytes::from(begin)), log, end, at, stamps),
        |(first, log, mut end, mut at, mut stamps)| async move {
            if let Some(bytes) = first {
                return Some((bytes, (None, log, end, at, stamps)));
            }
            loop {
                let closed = end.borrow_and_update().1;
                let new = log.since(at);
                if let Some(last) = new.last() {
                    at = last.at + last.bytes.len() as u64;
                    let bytes = stamps.join(&new);
                    return Some((bytes.into(), (None, log, end, at, stamps)));
                }
                if closed || end.changed().await.is_err() {
                    return None;
                }
            }
        },
    );
    let frames = futures_util::StreamExt::map(frames, |b| Ok::<_, Infallible>(Frame::data(b)));
    StreamBody::new(frames).boxed_unsync()
}
