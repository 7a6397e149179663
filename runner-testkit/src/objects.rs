//! A store of objects over HTTP that misbehaves when told to, and a cache store on it.
//!
//! It speaks what presigned addresses of S3, GCS and Azure have in common: GET, HEAD and PUT with a
//! length, times, conditional GET, ranges, and S3's uploads in parts. It checks no signature: for that there are real servers. What is
//! sent to it by POST it keeps as it came.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use runner_core::cache::{
    CacheAction, CacheError, CacheErrorKind, CacheRequest, CacheScope, CacheStore, Uploads,
};
use runner_core::job::Job;
use runner_core::plan::{HttpBody, HttpTransfer};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

mod parts;

/// An object with what was said about it.
#[derive(Clone, Debug)]
pub struct Object {
    /// Content.
    pub bytes: Bytes,
    /// Seconds since 1970.
    pub modified: i64,
    /// Headers of the request that put it here.
    pub headers: HeaderMap,
}

#[derive(Debug, Default)]
struct Kept {
    objects: BTreeMap<String, Object>,
    /// Answers to come before the right ones, each with a header.
    failures: VecDeque<(StatusCode, Option<(&'static str, String)>)>,
    /// Right answers before those.
    right_ones: usize,
    requests: Vec<String>,
    asks: Vec<CacheRequest>,
    /// Objects that come in parts: name and headers, and the parts by their numbers.
    uploads: BTreeMap<String, Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    name: String,
    headers: HeaderMap,
    parts: BTreeMap<u32, Bytes>,
}

/// The server; it ends with its last handle.
#[derive(Clone, Debug)]
pub struct ObjectServer {
    kept: Arc<Mutex<Kept>>,
    address: String,
    _task: Arc<AbortOnDropHandle<()>>,
}

impl ObjectServer {
    /// Starts it on a free port of the loopback interface.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let kept = Arc::new(Mutex::new(Kept::default()));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&kept));
        let task = tokio::spawn(async move {
            // It only ends with the task.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { kept, address, _task: Arc::new(AbortOnDropHandle::new(task)) })
    }

    /// Answers the next requests with these.
    pub fn fail_with(&self, statuses: impl IntoIterator<Item = u16>) {
        let statuses = statuses.into_iter().filter_map(|status| StatusCode::from_u16(status).ok());
        self.kept.lock().failures.extend(statuses.map(|status| (status, None)));
    }

    /// Answers with these after so many right answers.
    pub fn answer_later(&self, after: usize, statuses: impl IntoIterator<Item = u16>) {
        self.kept.lock().right_ones = after;
        self.fail_with(statuses);
    }

    /// Answers the next request with this status and header.
    pub fn answer_with(&self, status: u16, name: &'static str, value: impl Into<String>) {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.kept.lock().failures.push_back((status, Some((name, value.into()))));
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// An object by its name.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<Object> {
        self.kept.lock().objects.get(name).cloned()
    }

    /// Puts an object there.
    pub fn put(&self, name: &str, bytes: impl Into<Bytes>, modified: i64) {
        let object = Object { bytes: bytes.into(), modified, headers: HeaderMap::new() };
        self.kept.lock().objects.insert(name.to_owned(), object);
    }

    /// Removes it.
    pub fn remove(&self, name: &str) -> Option<Object> {
        self.kept.lock().objects.remove(name)
    }

    /// How many uploads in parts were begun and neither finished nor abandoned.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.kept.lock().uploads.len()
    }

    /// Names of all objects.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.kept.lock().objects.keys().cloned().collect()
    }

    /// `METHOD name` of every request since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.kept.lock().requests)
    }

    /// What was asked of the cache store since the last call.
    pub fn asks(&self) -> Vec<CacheRequest> {
        std::mem::take(&mut self.kept.lock().asks)
    }
}

async fn answer(State(kept): State<Arc<Mutex<Kept>>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let name = head.uri.path().trim_start_matches('/').to_owned();
    let Ok(body) = body.collect().await else { return StatusCode::BAD_REQUEST.into_response() };
    let bytes = body.to_bytes();
    let mut kept = kept.lock();
    // Other queries are those of GitLab's uploads.
    let is_step = |query: &&str| *query == "uploads" || query.contains("uploadId=");
    let query = head.uri.query().filter(is_step);
    let step = query.map(|query| format!("?{query}")).unwrap_or_default();
    kept.requests.push(format!("{} {name}{step}", head.method));
    if kept.right_ones > 0 {
        kept.right_ones -= 1;
    } else if let Some((status, header)) = kept.failures.pop_front() {
        let error = "<Error><Code>Broken</Code><Message>on purpose</Message></Error>";
        return match header {
            Some((name, value)) => (status, [(name, value)], error).into_response(),
            None => (status, error).into_response(),
        };
    }
    if let Some(query) = query {
        return parts::answer(&mut kept.uploads, &head, query, bytes).unwrap_or_else(|object| {
            kept.objects.insert(name, *object);
            (StatusCode::OK, "<CompleteMultipartUploadResult/>").into_response()
        });
    }
    match head.method {
        Method::PUT => {
            // As S3: a body of unknown length is refused.
            if !head.headers.contains_key("content-length") {
                return StatusCode::LENGTH_REQUIRED.into_response();
            }
            let modified = Timestamp::now().as_second();
            kept.objects.insert(name, Object { bytes, modified, headers: head.headers });
            StatusCode::OK.into_response()
        }
        Method::POST => {
            let modified = Timestamp::now().as_second();
            kept.objects.insert(name, Object { bytes, modified, headers: head.headers });
            StatusCode::CREATED.into_response()
        }
        Method::GET | Method::HEAD => match kept.objects.get(&name) {
            None => StatusCode::NOT_FOUND.into_response(),
            Some(object) => found(object, &head.headers, &head.method),
        },
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

fn found(object: &Object, asked: &HeaderMap, method: &Method) -> Response {
    let modified = date(object.modified);
    let since = asked.get("if-modified-since").and_then(|value| value.to_str().ok());
    let since = since.and_then(|value| jiff::fmt::rfc2822::parse(value).ok());
    if since.is_some_and(|since| since.timestamp().as_second() >= object.modified) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let etag = format!("\"{:08x}\"", crc32fast::hash(&object.bytes));
    let text = |name: &str| asked.get(name).and_then(|value| value.to_str().ok());
    if text("if-match").is_some_and(|wanted| wanted != etag) {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    let length = object.bytes.len();
    let range = text("range").and_then(|range| {
        let (from, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((from.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
    });
    let (status, bytes, range) = match range {
        Some((from, _)) if from >= length => {
            return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
        }
        Some((from, last)) => {
            let end = length.min(last + 1);
            let said = Some(format!("bytes {from}-{}/{length}", end - 1));
            (StatusCode::PARTIAL_CONTENT, object.bytes.slice(from..end), said)
        }
        None => (StatusCode::OK, object.bytes.clone(), None),
    };
    let length = bytes.len().to_string();
    let body = if *method == Method::HEAD { Body::empty() } else { bytes.into() };
    let headers = [("last-modified", modified), ("content-length", length), ("etag", etag)];
    let mut response = (status, headers, body).into_response();
    if let Some(range) = range.and_then(|range| range.parse().ok()) {
        response.headers_mut().insert("content-range", range);
    }
    response
}

fn date(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds).unwrap_or_default().to_zoned(TimeZone::UTC);
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// What the grant of every scope is.
const GRANT: &str = "granted";

#[async_trait]
impl CacheStore for ObjectServer {
    fn scope(&self, job: &Job) -> CacheScope {
        let prefix = format!("project/{}", job.project.id);
        CacheScope { prefix, grant: GRANT.into(), uploads: Uploads::Parts }
    }

    async fn sign(&self, request: &CacheRequest) -> Result<HttpTransfer, CacheError> {
        self.kept.lock().asks.push(request.clone());
        if request.scope.grant.expose() != GRANT {
            return Err(CacheError::new(CacheErrorKind::Refused, "this scope was not granted"));
        }
        let meta = |key: &str| vec![("x-test-meta-cachekey".to_owned(), key.into())];
        let (method, headers) = match &request.action {
            CacheAction::Get => ("GET", Vec::new()),
            CacheAction::Head => ("HEAD", Vec::new()),
            CacheAction::Put { key, .. } => ("PUT", meta(key)),
            CacheAction::Begin { key } => ("POST", meta(key)),
            CacheAction::Part { .. } => ("PUT", Vec::new()),
            CacheAction::Finish { .. } => ("POST", Vec::new()),
            CacheAction::Abandon { .. } => ("DELETE", Vec::new()),
            other => {
                let message = format!("this store of tests knows no {other:?}");
                return Err(CacheError::new(CacheErrorKind::Refused, message));
            }
        };
        let step = match &request.action {
            CacheAction::Begin { .. } => "?uploads".to_owned(),
            CacheAction::Part { upload, number, .. } => {
                format!("?partNumber={number}&uploadId={upload}")
            }
            CacheAction::Finish { upload } | CacheAction::Abandon { upload } => {
                format!("?uploadId={upload}")
            }
            _ => String::new(),
        };
        Ok(HttpTransfer {
            method: method.to_owned(),
            url: format!("{}/{}/{}{step}", self.address, request.scope.prefix, request.object)
                .into(),
            headers,
            body: HttpBody::Raw,
            tls_ca: None,
            timeout: Duration::from_secs(60),
        })
    }
}
