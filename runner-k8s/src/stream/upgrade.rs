//! From a request to a raw connection, or the API server's reason why not.

use std::error;
use std::time::Duration;

use http::header::{CONNECTION, RETRY_AFTER, UPGRADE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use kube::core::Status;
use tokio::time::timeout;

use super::error::{OpenError, OpenErrorKind};
use super::target::{ExecTarget, Transport};

/// Longest error body that is read.
const MAX_ERROR: usize = 64 * 1024;

/// The bytes of a connection that was upgraded.
pub(super) type Raw = TokioIo<Upgraded>;

type Cause = Box<dyn error::Error + Send + Sync>;

/// Sends the request and takes the connection over. `verify` looks at the answer's headers, and
/// says what is wrong with them.
pub(super) async fn upgrade<T>(
    client: &kube::Client,
    target: &ExecTarget,
    transport: Transport,
    within: Duration,
    request: http::Result<Request<Body>>,
    verify: impl FnOnce(&HeaderMap) -> Result<T, String>,
) -> Result<(Raw, T), OpenError> {
    let failed = |kind, source| fail(target, transport, kind, source);
    let attempt = async {
        let request =
            request.map_err(|error| failed(OpenErrorKind::Rejected, Some(error.into())))?;
        let response = client
            .send(request)
            .await
            .map_err(|error| failed(OpenErrorKind::Unreachable, Some(error.into())))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(target, transport, response).await);
        }
        let verified = verify(response.headers())
            .map_err(|problem| failed(OpenErrorKind::Upgrade, Some(problem.into())))?;
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(|error| failed(OpenErrorKind::Upgrade, Some(error.into())))?;
        Ok((TokioIo::new(upgraded), verified))
    };
    match timeout(within, attempt).await {
        Ok(result) => result,
        Err(elapsed) => Err(failed(OpenErrorKind::TimedOut, Some(elapsed.into()))),
    }
}

/// Whether the answer switches to `protocol`.
pub(super) fn switches_to(headers: &HeaderMap, protocol: &str) -> Result<(), String> {
    let says = |name, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(wanted))
    };
    if !says(CONNECTION, "upgrade") {
        return Err("the answer's Connection header does not say Upgrade".to_owned());
    }
    if !says(UPGRADE, protocol) {
        return Err(format!("the answer's Upgrade header does not say {protocol}"));
    }
    Ok(())
}

/// An error before any answer.
pub(super) fn fail(
    target: &ExecTarget,
    transport: Transport,
    kind: OpenErrorKind,
    source: Option<Cause>,
) -> OpenError {
    OpenError { kind, transport, status: None, retry_after: None, target: target.clone(), source }
}

/// Reads why the API server does not upgrade.
async fn refused(target: &ExecTarget, transport: Transport, response: Response<Body>) -> OpenError {
    let code = response.status();
    let kind = match code.as_u16() {
        401 => OpenErrorKind::Unauthorized,
        403 => OpenErrorKind::Forbidden,
        404 => OpenErrorKind::NotFound,
        429 => OpenErrorKind::TooManyRequests,
        400..=499 => OpenErrorKind::Rejected,
        500..=599 => OpenErrorKind::Server,
        // 200 from a proxy that dropped the Upgrade header, or a redirect.
        _ => OpenErrorKind::Upgrade,
    };
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map(Duration::from_secs);
    // A body that breaks off or is too long does not hide the code.
    let body = Limited::new(response.into_body(), MAX_ERROR).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let status = match serde_json::from_slice::<Status>(&body) {
        Ok(status) if status.is_failure() => status.with_code(code.as_u16()),
        _ => {
            let text = String::from_utf8_lossy(&body[..body.len().min(256)]);
            let reason = code.canonical_reason().unwrap_or_default();
            Status::failure(text.trim().escape_debug().to_string().as_str(), reason)
                .with_code(code.as_u16())
        }
    };
    OpenError { status: Some(Box::new(status)), retry_after, ..fail(target, transport, kind, None) }
}
