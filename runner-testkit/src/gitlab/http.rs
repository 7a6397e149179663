//! From a request to an answer: what was scripted for it, what it asks for, what is recorded.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use ::http::{HeaderValue, Method, StatusCode, request};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use tokio::time::Instant;

use super::listener::Origin;
use super::record::{Request, Rule, kept_headers};
use super::script::{Break, Endpoint, Scripted};
use super::server::Inner;
use super::{api, git};

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;
pub(super) type Response = hyper::Response<Body>;

/// The connection is to be reset.
#[derive(Debug, thiserror::Error)]
#[error("the connection is broken on purpose, or the client broke it")]
pub(super) struct Broken;

/// A request with all of its body.
pub(super) struct Call {
    pub(super) endpoint: Endpoint,
    pub(super) job: Option<u64>,
    pub(super) head: request::Parts,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// A parameter of the query, decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let pairs = self.head.uri.query()?.split('&');
        pairs
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(key, value)| (key == name).then(|| decode(value)))
    }
}

/// Undoes percent encoding and `+`.
fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
                match (digit(), digit()) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => b'%',
                }
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Pushes the record of a request, also when its future is dropped because the client went away.
struct Recording<'a> {
    inner: &'a Inner,
    began: Instant,
    request: Option<Request>,
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        if let Some(mut request) = self.request.take() {
            request.took = self.began.elapsed();
            self.inner.records.request(request);
        }
    }
}

pub(super) async fn serve(
    inner: Arc<Inner>,
    origin: Origin,
    connection: u64,
    request: hyper::Request<Incoming>,
) -> Result<Response, Broken> {
    let (head, body) = request.into_parts();
    let (endpoint, job) = route(origin, &head.method, head.uri.path());
    let began = Instant::now();
    let mut recording = Recording {
        inner: &inner,
        began,
        request: Some(Request {
            at: began.duration_since(inner.started),
            took: std::time::Duration::ZERO,
            endpoint,
            job,
            method: head.method.to_string(),
            path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            status: None,
            headers: kept_headers(&head.headers),
            received: 0,
            sent: None,
            connection,
        }),
    };
    let scripted = inner.scripts.take(endpoint, job).unwrap_or_default();
    let wait = inner.settings.latency + scripted.delay;
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let mut received = 0;
    let stop_after = match scripted.broken {
        Break::Reset { after } => Some(after),
        _ => None,
    };
    let body = read(body, limit(&inner, endpoint), stop_after, &mut received).await;
    if let Some(request) = &mut recording.request {
        request.received = received;
    }
    let body = body?;
    if scripted.broken == Break::Hang {
        // Ends when the client or the server closes the connection.
        std::future::pending::<Infallible>().await;
    }
    let call = Call { endpoint, job, head, body: Bytes::new() };
    let mut response = match (scripted.status, body) {
        (Some(status), _) => canned(status, &scripted),
        (None, None) => {
            inner.breach(Rule::Artifact, job, format!("a body of {received} bytes"));
            error(413)
        }
        (None, Some(body)) => natural(&inner, Call { body, ..call }).await,
    };
    for (name, value) in &scripted.headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    if scripted.broken == Break::LoseReply {
        return Err(Broken);
    }
    if let Some(request) = &mut recording.request {
        request.status = Some(response.status().as_u16());
        request.sent = response.body().size_hint().exact();
    }
    if let Break::CutBody { after } = scripted.broken {
        response = cut(response, after).await?;
    }
    Ok(response)
}

async fn natural(inner: &Arc<Inner>, call: Call) -> Response {
    match call.endpoint {
        Endpoint::Git => git::serve(inner, call).await,
        _ => api::serve(inner, call).await,
    }
}

fn route(origin: Origin, method: &Method, path: &str) -> (Endpoint, Option<u64>) {
    if origin == Origin::ObjectStorage {
        return (Endpoint::ObjectStorage, None);
    }
    let Some(path) = path.strip_prefix("/api/v4/") else {
        let git = path.contains(".git/");
        return (if git { Endpoint::Git } else { Endpoint::Other }, None);
    };
    let segments: Vec<&str> = path.split('/').collect();
    let job = segments.get(1).and_then(|id| id.parse().ok());
    let endpoint = match (method.as_str(), segments.as_slice()) {
        ("POST", ["jobs", "request"]) => return (Endpoint::RequestJob, None),
        ("PUT", ["jobs", _]) => Endpoint::UpdateJob,
        ("PATCH", ["jobs", _, "trace"]) => Endpoint::Trace,
        ("POST", ["jobs", _, "artifacts"]) => Endpoint::UploadArtifact,
        ("GET", ["jobs", _, "artifacts"]) => Endpoint::DownloadArtifact,
        ("POST", ["runners"]) => return (Endpoint::RegisterRunner, None),
        ("POST", ["runners", "verify"]) => return (Endpoint::VerifyRunner, None),
        ("DELETE", ["runners"] | ["runners", "managers"]) => {
            return (Endpoint::UnregisterRunner, None);
        }
        ("POST", ["runners", "reset_authentication_token"]) => return (Endpoint::ResetToken, None),
        _ => Endpoint::Other,
    };
    match job {
        Some(_) => (endpoint, job),
        None => (Endpoint::Other, None),
    }
}

/// Longest body that is kept; it bounds the memory of a request.
fn limit(inner: &Inner, endpoint: Endpoint) -> u64 {
    const MIB: u64 = 1024 * 1024;
    match endpoint {
        Endpoint::UploadArtifact => inner.settings.artifact_limit + 64 * 1024,
        // Above the limit of a trace, so that the job ends for the reason that GitLab would give.
        Endpoint::Trace => inner.settings.trace_limit + MIB,
        Endpoint::Git => 16 * MIB,
        _ => 4 * MIB,
    }
}

/// The body; `None` when it is too long. The rest is then read and dropped, because a client that
/// still writes would see a reset instead of the answer.
async fn read(
    mut body: Incoming,
    limit: u64,
    stop_after: Option<u64>,
    received: &mut u64,
) -> Result<Option<Bytes>, Broken> {
    let mut all = BytesMut::new();
    loop {
        if stop_after.is_some_and(|after| *received >= after) {
            return Err(Broken);
        }
        let Some(frame) = body.frame().await else { break };
        let Ok(data) = frame.map_err(|_| Broken)?.into_data() else { continue };
        *received += data.len() as u64;
        if *received <= limit {
            all.extend_from_slice(&data);
        }
    }
    if stop_after.is_some() {
        return Err(Broken);
    }
    Ok((*received <= limit).then(|| all.freeze()))
}

fn canned(status: StatusCode, scripted: &Scripted) -> Response {
    let mut response = match &scripted.body {
        Some(body) => reply(status.as_u16(), body.clone()),
        None if status.is_client_error() || status.is_server_error() => error(status.as_u16()),
        None => reply(status.as_u16(), Bytes::new()),
    };
    if scripted.body.is_some() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

/// Keeps the length that was promised, and breaks off.
async fn cut(response: Response, after: usize) -> Result<Response, Broken> {
    let (mut head, body) = response.into_parts();
    let whole = body.collect().await.map_err(|_| Broken)?.to_bytes();
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    let kept = whole.slice(..after.min(whole.len()));
    let broken = stream::once(async {
        // hyper throws away what it has not written when a body fails, so it gets a turn to write.
        tokio::task::yield_now().await;
        Err(io::Error::other(Broken))
    });
    let frames = stream::iter([Ok(Frame::data(kept))]).chain(broken);
    Ok(Response::from_parts(head, BodyExt::boxed_unsync(StreamBody::new(frames))))
}

/// An answer with this body and no type.
pub(super) fn reply(status: u16, body: impl Into<Bytes>) -> Response {
    let body = Full::new(body.into()).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

pub(super) fn json(status: u16, body: impl Into<Bytes>) -> Response {
    let mut response = reply(status, body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// GitLab's shape of an error.
pub(super) fn error(status: u16) -> Response {
    let text = StatusCode::from_u16(status).ok().and_then(|it| it.canonical_reason()).unwrap_or("");
    json(status, format!(r#"{{"message":"{status} {text}"}}"#))
}
