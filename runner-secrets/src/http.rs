//! One HTTP client for all services, and what its answers mean.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use runner_core::outcome::InfraKind;
use runner_core::secrets::SecretStoreError;
use serde_json::Value;

/// How long one request may take. A secret needs two at most, so that is within a minute.
const PATIENCE: Duration = Duration::from_secs(25);
/// Longest answer. AWS's secrets are 64 KiB at most, Vault's entries 1 MiB by default.
const LONGEST: usize = 4 << 20;

/// The client.
#[derive(Debug)]
pub(crate) struct Http(reqwest::Client);

/// An answer, whatever its status is.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl Http {
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .connect_timeout(Duration::from_secs(10))
            // A redirect would take the credentials to somewhere else.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("podwright/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self(client))
    }

    pub(crate) fn get(&self, url: &str) -> RequestBuilder {
        self.0.get(url)
    }

    pub(crate) fn post(&self, url: &str) -> RequestBuilder {
        self.0.post(url)
    }
}

/// Sends a request to the service of this name.
///
/// # Errors
/// When there is no answer. GitLab Runner calls that a system failure, which decides about retries.
pub(crate) async fn send(
    service: &str,
    request: RequestBuilder,
) -> Result<Answer, SecretStoreError> {
    // The error's own text names the URL, which may hold a secret's name but no credential; its
    // cause says what is wrong.
    let failed = |error: reqwest::Error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(|e| format!(": {e}")).unwrap_or_default();
        let what = if error.is_builder() { "its address is wrong" } else { "it does not answer" };
        let kind = if error.is_builder() { InfraKind::Configuration } else { InfraKind::System };
        SecretStoreError::new(kind, format!("{service} cannot be asked, {what}{cause}"))
    };
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > LONGEST {
            return Err(SecretStoreError::new(
                InfraKind::System,
                format!("the answer of {service} is longer than {} MiB", LONGEST >> 20),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body })
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self, service: &str) -> Result<Value, SecretStoreError> {
        serde_json::from_slice(&self.body).map_err(|_| {
            SecretStoreError::new(InfraKind::System, format!("the answer of {service} is no JSON"))
        })
    }

    /// What kind of failure this is: GitLab Runner's classes for Vault, for every provider.
    pub(crate) fn kind(&self) -> InfraKind {
        match self.status.as_u16() {
            400 | 401 | 403 | 404 => InfraKind::Configuration,
            500.. => InfraKind::ExternalDependency,
            _ => InfraKind::System,
        }
    }

    /// A failure with the service's own words, as far as they are known not to hold a value.
    pub(crate) fn refused(&self, service: &str, doing: &str) -> SecretStoreError {
        let status = self.status;
        let words = self.words().map(|words| format!(": {words}")).unwrap_or_default();
        SecretStoreError::new(self.kind(), format!("{service} answered {status} to {doing}{words}"))
    }

    /// The message of an error, in each service's form.
    fn words(&self) -> Option<String> {
        let value: Value = serde_json::from_slice(&self.body).ok()?;
        let first = |list: &Value| Some(list.as_array()?.first()?.as_str()?.to_owned());
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let words = value
            .get("errors")
            .and_then(first)
            .or_else(|| value.pointer("/error/message").and_then(text))
            .or_else(|| value.get("error_description").and_then(text))
            .or_else(|| value.get("message").or_else(|| value.get("Message")).and_then(text))
            .or_else(|| value.get("error").and_then(text))?;
        // One line, and not a page.
        let line: String =
            words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        Some(line.trim().to_owned())
    }
}

/// One segment of a URL's path: everything but unreserved characters is escaped.
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A path of several segments, without slashes around it and without a way up.
pub(crate) fn path(text: &str) -> String {
    let parts = text.split('/').filter(|part| !matches!(*part, "" | "." | ".."));
    parts.map(segment).collect::<Vec<_>>().join("/")
}
