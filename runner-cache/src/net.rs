//! What the signing library needs of the world: HTTP for credentials, files, the environment.

use std::time::Duration;

use bytes::Bytes;
use reqsign_core::{Context, Error, FileRead, HttpSend, OsEnv, Result};

/// Longest time for a request for credentials.
const LONGEST: Duration = Duration::from_secs(30);

/// The manager's environment.
pub(crate) fn context(client: reqwest::Client) -> Context {
    Context::new().with_env(OsEnv).with_file_read(Files).with_http_send(Http(client))
}

/// A client for credentials and for questions to buckets.
///
/// # Errors
/// When TLS cannot be set up.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(concat!("podwright/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .timeout(LONGEST)
        .build()
}

#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
        tokio::fs::read(path).await.map_err(|error| {
            Error::unexpected("cannot read a file with credentials").with_source(error)
        })
    }
}

#[derive(Debug)]
struct Http(reqwest::Client);

impl HttpSend for Http {
    async fn http_send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>> {
        let failed = |error: reqwest::Error| {
            Error::unexpected("no answer to a request for credentials")
                .with_source(error.without_url())
        };
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let response = self.0.execute(request).await.map_err(failed)?;
        let mut answer = http::Response::builder().status(response.status());
        if let Some(headers) = answer.headers_mut() {
            headers.clone_from(response.headers());
        }
        let body = response.bytes().await.map_err(failed)?;
        answer.body(body).map_err(|error| Error::unexpected("an odd answer").with_source(error))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    /// A client for tests, which nobody answers.
    pub(crate) fn client() -> reqwest::Client {
        // It can only fail when there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        super::client().unwrap()
    }
}
