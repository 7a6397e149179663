//! The pages over HTTP: metrics, health, debug. Plain HTTP without a login, as GitLab Runner's.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::net::TcpListener;

use super::Metrics;

/// GitLab Runner's.
const DEFAULT_PORT: u16 = 9252;

/// Why there are no pages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The address makes no sense. Without pages, jobs still run.
    #[error("listen_address {0:?} is not an address; write for example \":9252\"")]
    Address(String),
    /// The address is not to be had.
    #[error("cannot listen on {address}")]
    Bind {
        /// Which.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// An address that is bound.
pub(crate) struct Pages(TcpListener);

impl Pages {
    /// Binds an address such as `:9252`, `127.0.0.1` or `[::1]:9252`.
    pub(crate) async fn bind(address: &str) -> Result<Self, ServeError> {
        let with_port =
            with_port(address).ok_or_else(|| ServeError::Address(address.to_owned()))?;
        let listener = TcpListener::bind(&with_port).await;
        let listener =
            listener.map_err(|source| ServeError::Bind { address: with_port, source })?;
        Ok(Self(listener))
    }

    /// Where it really listens.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.0.local_addr().ok()
    }

    /// Answers until dropped.
    pub(crate) async fn serve(self, metrics: Arc<Metrics>) {
        let router = router(metrics);
        if let Err(error) = axum::serve(self.0, router).await {
            tracing::error!(%error, "the metrics server has ended");
        }
    }
}

fn with_port(address: &str) -> Option<String> {
    let address = address.trim();
    if let Ok(full) = address.parse::<SocketAddr>() {
        return Some(full.to_string());
    }
    if let Ok(ip) = address.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        return Some(SocketAddr::new(ip, DEFAULT_PORT).to_string());
    }
    let (host, port) = match address.split_once(':') {
        Some((host, "")) => (host, DEFAULT_PORT),
        Some((host, port)) => (host, port.parse().ok()?),
        None => (address, DEFAULT_PORT),
    };
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if !host.chars().all(good) {
        return None;
    }
    // Without a host: all addresses of both families, as Go does.
    let host = if host.is_empty() { "[::]" } else { host };
    Some(format!("{host}:{port}"))
}

/// Where this machine reaches pages that are served at `address`.
///
/// # Errors
/// When it is no address.
pub(crate) fn reachable(address: &str) -> Result<String, ServeError> {
    let full = with_port(address).ok_or_else(|| ServeError::Address(address.to_owned()))?;
    // All addresses of the machine: one of them is its own.
    Ok(full.replace("[::]:", "localhost:").replace("0.0.0.0:", "127.0.0.1:"))
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response {
    (status, [(CONTENT_TYPE, kind)], body).into_response()
}

fn router(metrics: Arc<Metrics>) -> Router {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let page = {
        let metrics = Arc::clone(&metrics);
        move || async move {
            text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.page())
        }
    };
    let list = {
        let metrics = Arc::clone(&metrics);
        move || async move {
            let mut answer = text(StatusCode::OK, "text/plain", metrics.job_list());
            let version = axum::http::HeaderValue::from_static("2");
            answer.headers_mut().insert("X-List-Version", version);
            answer
        }
    };
    let state = {
        let metrics = Arc::clone(&metrics);
        move || async move { text(StatusCode::OK, PLAIN, format!("{}\n", metrics.state().as_str())) }
    };
    // GitLab Runner's words.
    let ready = move || async move {
        match metrics.is_ready() {
            true => text(StatusCode::OK, PLAIN, "ready\n".to_owned()),
            false => {
                text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "boot-verify pending\n".to_owned())
            }
        }
    };
    // It answers, so it lives. Says nothing about GitLab: an outage there is no reason to be killed.
    let live = || async { text(StatusCode::OK, PLAIN, "live\n".to_owned()) };
    Router::new()
        // GET answers HEAD too; other methods are 405.
        .route("/metrics", get(page))
        .route("/debug/jobs/list", any(list))
        .route("/debug/process/state", any(state))
        .route("/health/ready", any(ready))
        .route("/health/live", any(live))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::with_port;

    #[rstest]
    #[case(":9252", "[::]:9252")]
    #[case(":1234", "[::]:1234")]
    #[case("127.0.0.1", "127.0.0.1:9252")]
    #[case("localhost", "localhost:9252")]
    #[case("localhost:", "localhost:9252")]
    #[case("[::1]", "[::1]:9252")]
    #[case("[::1]:80", "[::1]:80")]
    fn manager_56_the_port_is_9252_where_none_is_given(#[case] text: &str, #[case] full: &str) {
        assert_eq!(with_port(text).as_deref(), Some(full));
    }

    #[rstest]
    #[case("http://localhost:9252")]
    #[case("a:b:c")]
    #[case(":99999")]
    fn manager_56_what_is_no_address_is_refused(#[case] text: &str) {
        assert_eq!(with_port(text), None);
    }
}
