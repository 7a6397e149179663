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
use super::kubelet::log::Log;
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
    let (mut begin, at) = so_far(&log, tail);
    if let Some(limit) = route.query.number("limitBytes") {
        begin.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let mut response = if route.query.is("follow") {
        Response::new(follow(begin, log, at))
    } else {
        Response::new(full(begin))
    };
    let plain = http::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    Ok(response)
}

/// What is there, cut to its last lines, and the position after it.
fn so_far(log: &Log, tail: Option<u64>) -> (Vec<u8>, u64) {
    let chunks = log.since(0);
    let at = chunks.last().map_or(0, |c| c.at + c.bytes.len() as u64);
    let mut bytes: Vec<u8> = chunks.iter().flat_map(|c| c.bytes.to_vec()).collect();
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

fn follow(begin: Vec<u8>, log: Arc<Log>, at: u64) -> Body {
    let end = log.end();
    let frames = stream::unfold(
        (Some(Bytes::from(begin)), log, end, at),
        |(first, log, mut end, mut at)| async move {
            if let Some(bytes) = first {
                return Some((bytes, (None, log, end, at)));
            }
            loop {
                let closed = end.borrow_and_update().1;
                let new = log.since(at);
                if let Some(last) = new.last() {
                    at = last.at + last.bytes.len() as u64;
                    let bytes: Vec<u8> = new.iter().flat_map(|c| c.bytes.to_vec()).collect();
                    return Some((bytes.into(), (None, log, end, at)));
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
