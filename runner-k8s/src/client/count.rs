//! Counts requests by kind, for metrics and for the promise of five requests a job.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use tower::{Layer, Service};

use super::health::ApiHealth;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RequestKind {
    /// Creating an object.
    Create,
    /// Reading one object.
    Get,
    /// Reading several.
    List,
    /// Opening (again) the shared watch.
    Watch,
    /// Writing an object again.
    Update,
    /// Deleting one.
    Delete,
    /// Opening a stream into a pod.
    Stream,
    /// Saying something on a pod: a courtesy, and so not one of the five requests of a job.
    Event,
    /// Anything else, e.g. the server's version.
    Other,
}

impl RequestKind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Create,
        Self::Get,
        Self::List,
        Self::Watch,
        Self::Update,
        Self::Delete,
        Self::Stream,
        Self::Event,
        Self::Other,
    ];

    /// The kind as a metric's label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Stream => "stream",
            Self::Event => "event",
            Self::Other => "other",
        }
    }

    fn of<B>(request: &Request<B>) -> Self {
        let uri = request.uri();
        let path = uri.path().trim_end_matches('/');
        let query = uri.query().unwrap_or_default();
        let segments = path.split('/').filter(|segment| !segment.is_empty()).count();
        let list = if path.starts_with("/apis/") { 6 } else { 5 };
        if path.ends_with("/exec") || path.ends_with("/attach") {
            return Self::Stream;
        }
        match *request.method() {
            // `GET` of objects: /api/v1/namespaces/N/KIND, or /apis/GROUP/v1/…, and /NAME behind it.
            Method::GET if segments < list => Self::Other,
            Method::GET if query.split('&').any(|p| matches!(p, "watch=true" | "watch=1")) => {
                Self::Watch
            }
            Method::GET if segments == list => Self::List,
            Method::GET => Self::Get,
            Method::POST if path.ends_with("/events") => Self::Event,
            Method::POST => Self::Create,
            Method::PUT | Method::PATCH => Self::Update,
            Method::DELETE => Self::Delete,
            _ => Self::Other,
        }
    }
}

/// How many requests were made. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct RequestCounts(Arc<[AtomicU64; RequestKind::ALL.len()]>);

impl RequestCounts {
    /// How many of this kind.
    #[must_use]
    pub fn get(&self, kind: RequestKind) -> u64 {
        self.0[kind as usize].load(Ordering::Relaxed)
    }

    /// How many in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        RequestKind::ALL.iter().map(|kind| self.get(*kind)).sum()
    }

    fn add(&self, kind: RequestKind) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts requests, and notes whether they are answered.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) counts: RequestCounts,
    pub(super) health: ApiHealth,
}

impl<S> Layer<S> for Watched {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counting { inner, watched: self.clone() }
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub(super) struct Counting<S> {
    inner: S,
    watched: Watched,
}

impl<S, B, R> Service<Request<B>> for Counting<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.watched.counts.add(RequestKind::of(&request));
        let health = self.watched.health.clone();
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            match &answer {
                // Busy, or in trouble: a refusal is an answer.
                Ok(response)
                    if response.status().is_server_error()
                        || response.status() == StatusCode::TOO_MANY_REQUESTS =>
                {
                    health.failure();
                }
                Ok(_) => health.success(),
                Err(_) => health.failure(),
            }
            answer
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use rstest::rstest;

    use super::RequestKind;

    #[rstest]
    #[case("POST", "/api/v1/namespaces/n/pods", RequestKind::Create)]
    #[case("POST", "/api/v1/namespaces/n/events?", RequestKind::Event)]
    #[case("GET", "/api/v1/namespaces/n/pods?labelSelector=a", RequestKind::List)]
    #[case("GET", "/api/v1/namespaces/n/pods?&watch=true&x=1", RequestKind::Watch)]
    #[case("GET", "/api/v1/namespaces/n/secrets/watch", RequestKind::Get)]
    #[case("GET", "/apis/coordination.k8s.io/v1/namespaces/n/leases?", RequestKind::List)]
    #[case("GET", "/apis/coordination.k8s.io/v1/namespaces/n/leases/l", RequestKind::Get)]
    #[case("GET", "/api/v1/namespaces/n/pods/p/exec?command=a", RequestKind::Stream)]
    #[case("POST", "/api/v1/namespaces/n/pods/p/exec?command=a", RequestKind::Stream)]
    #[case("PUT", "/api/v1/namespaces/n/secrets/s", RequestKind::Update)]
    #[case("DELETE", "/api/v1/namespaces/n/pods/p", RequestKind::Delete)]
    #[case("GET", "/version", RequestKind::Other)]
    fn requests_are_told_apart(#[case] method: &str, #[case] uri: &str, #[case] kind: RequestKind) {
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        assert_eq!(RequestKind::of(&request), kind);
    }
}
