//! A job source for a small queue of your own that speaks HTTP; the whole of it.
//!
//! | Request | Answer |
//! |---|---|
//! | `POST /take` | 200 and a job `{"id", "name", "image", "script"}`, or 204 |
//! | `POST /jobs/ID/accept` | 204; a job that nobody accepts goes back into the queue |
//! | `PUT /jobs/ID/log?from=N` and bytes | 200 `{"has", "cancel"}`: what the queue has now; more or less than expected if `N` was not its end |
//! | `PUT /jobs/ID/verdict` `{"success", "why"}` | 204 |

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{Client, RequestBuilder, StatusCode};
use runner_core::ids::{JobId, Offset, SourceId};
use runner_core::job::{Image, Job};
use runner_core::source::{
    Appended, Conclusion, Directive, Finished, JobSource, Offer, Polled, Reply, SourceError,
    SourceErrorKind, Ticket,
};
use serde::Deserialize;

/// A queue at an address.
#[derive(Clone, Debug)]
pub struct QueueSource {
    http: Client,
    base: String,
}

#[derive(Deserialize)]
struct Task {
    id: u64,
    name: String,
    image: String,
    script: Vec<String>,
}

#[derive(Deserialize)]
struct Log {
    has: u64,
    cancel: bool,
}

impl QueueSource {
    /// The queue at this address, e.g. `http://queue.example`.
    pub fn new(base: impl Into<String>, http: Client) -> Self {
        Self { http, base: base.into() }
    }

    fn job(&self, method: reqwest::Method, ticket: &Ticket, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/jobs/{}/{path}", self.base, ticket.0.expose()))
    }
}

/// Sends a request; anything but success is an error that is worth another try.
async fn answer(request: RequestBuilder) -> Result<reqwest::Response, SourceError> {
    let answered = request.timeout(Duration::from_secs(30)).send().await;
    answered.and_then(reqwest::Response::error_for_status).map_err(failed)
}

fn failed(error: reqwest::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Unavailable, "the queue does not answer").caused_by(error)
}

#[async_trait]
impl JobSource for QueueSource {
    fn id(&self) -> SourceId {
        SourceId(self.base.clone())
    }

    async fn poll(&self) -> Result<Polled, SourceError> {
        let answered = answer(self.http.post(format!("{}/take", self.base))).await?;
        if answered.status() == StatusCode::NO_CONTENT {
            return Ok(Polled::nothing());
        }
        let Task { id, name, image, script } = answered.json().await.map_err(failed)?;
        let mut job = Job::new(JobId(id), name, script);
        job.image = Some(Image::named(image));
        Ok(Polled::job(Offer { job, ticket: Ticket(id.to_string().into()) }))
    }

    async fn accept(&self, ticket: &Ticket) -> Result<Reply, SourceError> {
        answer(self.job(reqwest::Method::POST, ticket, "accept")).await?;
        Ok(Reply::default())
    }

    async fn append(
        &self,
        ticket: &Ticket,
        from: Offset,
        chunks: Vec<Bytes>,
    ) -> Result<Appended, SourceError> {
        let body = chunks.concat();
        let end = from.advance(body.len());
        let request = self.job(reqwest::Method::PUT, ticket, &format!("log?from={from}"));
        let Log { has, cancel } = answer(request.body(body)).await?.json().await.map_err(failed)?;
        let directive = if cancel { Directive::Cancel } else { Directive::Continue };
        let reply = Reply { directive, interval: None };
        let has = Offset(has);
        Ok(if has == end { Appended::Stored(reply) } else { Appended::Elsewhere { has, reply } })
    }

    async fn touch(&self, ticket: &Ticket) -> Result<Reply, SourceError> {
        // No bytes at the very beginning change nothing, and the answer says whether to go on.
        let answered = self.append(ticket, Offset::ZERO, Vec::new()).await?;
        let (Appended::Stored(reply) | Appended::Elsewhere { reply, .. }) = answered;
        Ok(reply)
    }

    async fn finish(&self, ticket: &Ticket, end: &Conclusion) -> Result<Finished, SourceError> {
        let verdict = serde_json::json!({
            "success": end.outcome.is_success(),
            "why": format!("{:?}", end.outcome),
        });
        answer(self.job(reqwest::Method::PUT, ticket, "verdict").json(&verdict)).await?;
        Ok(Finished::Done)
    }
}
