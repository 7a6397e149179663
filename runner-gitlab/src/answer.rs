//! One answer of GitLab, after retries, as far as decisions need it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use runner_core::source::{SourceError, SourceErrorKind};

use crate::message;

/// Status, headers and body of an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The body goes on beyond what was read.
    pub(crate) truncated: bool,
    /// GitLab's request id where it named one, else ours.
    pub(crate) request_id: String,
    /// When GitLab wants to be asked again, at most a quarter of an hour.
    pub(crate) retry_after: Option<Duration>,
    /// How often the call was sent.
    pub(crate) attempts: u32,
}

impl Answer {
    /// A header's text; `None` when it is absent or not text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
    }

    /// Whether the body calls itself JSON, whatever the parameters.
    pub(crate) fn is_json(&self) -> bool {
        self.headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
    }

    /// This answer as an error: what was asked, what came back, where to look it up.
    pub(crate) fn error(&self, kind: SourceErrorKind, asked: impl fmt::Display) -> SourceError {
        let mut text = format!("GitLab answered {} to {asked}", self.status);
        if let Some(explanation) = message::explanation(self) {
            text.push_str(": ");
            text.push_str(&explanation);
        }
        if let Some(location) =
            self.header("Location").filter(|_| (300..400).contains(&self.status))
        {
            // Following it would turn the request into a GET or carry a token to another host.
            text.push_str(&format!(" (redirect to {location}; set the runner's url to that)"));
        }
        text.push_str(&format!(" (request id {})", self.request_id));
        let mut error = SourceError::new(kind, text);
        error.retry_after = self.retry_after;
        error
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use http::{HeaderName, HeaderValue};

    use super::Answer;

    /// An answer with this status and these headers.
    pub(crate) fn answer(status: u16, headers: &[(&str, &str)]) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect();
        Answer { status, headers, request_id: "r1".into(), ..Answer::default() }
    }

    #[test]
    fn api_04_json_is_recognised_with_parameters_and_nothing_else_is() {
        for (media, json) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("Application/JSON ;x=y", true),
            ("text/html", false),
            ("application/jsonp", false),
            ("", false),
        ] {
            assert_eq!(answer(201, &[("Content-Type", media)]).is_json(), json, "{media}");
        }
        assert!(!answer(201, &[]).is_json());
    }
}
