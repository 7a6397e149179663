//! Archives over HTTP, as the plan's transfers say.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url, redirect};
use runner_core::plan::{HttpTransfer, Transfer};

use super::context::{Context, StageFailure};

/// Longest that a server may make us wait before another try.
const LONGEST_WAIT: u64 = 60;

/// What is worth another try.
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504 | 512..)
}

/// How long the server wants us to wait.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get("retry-after")?.to_str().ok()?;
    let seconds: u64 = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(LONGEST_WAIT)))
}

pub(super) fn http(transfer: &Transfer) -> Result<&HttpTransfer, StageFailure> {
    match transfer {
        Transfer::Http(http) => Ok(http),
        _ => Err(StageFailure::unsupported()),
    }
}

/// A client for one transfer. Redirects are followed by hand, see [`get`].
pub(super) fn client(context: &Context<'_>, http: &HttpTransfer) -> Result<Client, StageFailure> {
    let mut builder = Client::builder()
        .user_agent(concat!("podwright-agent/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(Duration::from_secs(30))
        .timeout(http.timeout);
    if let Some(pem) = &http.tls_ca {
        let authorities =
            reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| {
                context
                    .fail(format_args!("the CA certificate for transfers cannot be read: {error}"))
            })?;
        builder = builder.tls_certs_merge(authorities);
    }
    builder.build().map_err(|error| {
        context.fail(format_args!("the HTTP client cannot be set up: {}", chain(&error)))
    })
}

/// A request as the plan describes it.
pub(super) fn request(client: &Client, http: &HttpTransfer, url: Url) -> RequestBuilder {
    let method = Method::from_bytes(http.method.as_bytes()).unwrap_or(Method::GET);
    let mut request = client.request(method, url);
    for (name, value) in &http.headers {
        request = request.header(name, value.expose());
    }
    request
}

/// Fetches; follows up to ten redirects and sends the plan's headers (a job token) to its own origin
/// only. GitLab Runner sends the token to the object storage too.
pub(super) async fn get(client: &Client, http: &HttpTransfer) -> Result<Response, String> {
    let origin = Url::parse(http.url.expose()).map_err(|error| error.to_string())?;
    let mut url = origin.clone();
    for _ in 0..10 {
        let request = if url.origin() == origin.origin() {
            request(client, http, url.clone())
        } else {
            client.get(url.clone())
        };
        let response = request.send().await.map_err(|error| chain(&error.without_url()))?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        url = location
            .and_then(|location| url.join(location).ok())
            .ok_or("the server redirects to nowhere")?;
    }
    Err("the server redirects without end".to_owned())
}

/// An error with its causes, without addresses that may hold signatures.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
