//! A job source for a small queue of your own; the whole of it. README.md has the queue's requests.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use runner_core::ids::{JobId, Offset, SourceId};
use runner_core::job::{Image, Job};
use runner_core::source::{
    Appended, Conclusion, Directive, Finished, JobSource, Offer, Polled, Reply, SourceError,
    SourceErrorKind, Ticket,
};

/// A queue at an address.
pub struct QueueSource {
    http: Client,
    base: String,
}

#[derive(serde::Deserialize)]
struct Task {
    id: u64,
    name: String,
    image: String,
    script: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Log {
    has: Offset,
    cancel: bool,
}

impl QueueSource {
    /// The queue at this address, e.g. `http://queue.example`.
    pub fn new(base: impl Into<String>, http: Client) -> Self {
        Self { http, base: base.into() }
    }

    fn job(&self, method: Method, ticket: &Ticket, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/jobs/{}/{path}", self.base, ticket.0.expose()))
    }
}

type Answer<T> = Result<T, SourceError>;

/// Sends a request; anything but success is an error that is worth another try.
async fn answer(request: RequestBuilder) -> Answer<Response> {
    let answered = request.timeout(Duration::from_secs(30)).send().await;
    answered.and_then(Response::error_for_status).map_err(failed)
}

fn failed(error: reqwest::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Unavailable, "the queue does not answer").caused_by(error)
}

#[async_trait]
impl JobSource for QueueSource {
    fn id(&self) -> SourceId {
        SourceId(self.base.clone())
    }

    async fn poll(&self) -> Answer<Polled> {
        let answered = answer(self.http.post(format!("{}/take", self.base))).await?;
        if answered.status() == StatusCode::NO_CONTENT {
            return Ok(Polled::nothing());
        }
        let Task { id, name, image, script } = answered.json().await.map_err(failed)?;
        let job = Job { image: Some(Image::named(image)), ..Job::new(JobId(id), name, script) };
        Ok(Polled::job(Offer::new(job, Ticket(id.to_string().into()))))
    }

    async fn accept(&self, ticket: &Ticket) -> Answer<Reply> {
        answer(self.job(Method::POST, ticket, "accept")).await.map(|_| Reply::default())
    }

    async fn append(&self, ticket: &Ticket, from: Offset, log: Vec<Bytes>) -> Answer<Appended> {
        let body = log.concat();
        let end = from.advance(body.len());
        let request = self.job(Method::PUT, ticket, &format!("log?from={from}")).body(body);
        let Log { has, cancel } = answer(request).await?.json().await.map_err(failed)?;
        let reply = Reply::from(if cancel { Directive::Cancel } else { Directive::Continue });
        Ok(if has == end { Appended::Stored(reply) } else { Appended::Elsewhere { has, reply } })
    }

    async fn touch(&self, ticket: &Ticket) -> Answer<Reply> {
        // No bytes change nothing, and the answer says whether to go on.
        match self.append(ticket, Offset::ZERO, Vec::new()).await? {
            Appended::Stored(reply) | Appended::Elsewhere { reply, .. } => Ok(reply),
        }
    }

    async fn finish(&self, ticket: &Ticket, end: &Conclusion) -> Answer<Finished> {
        let why = format!("{:?}", end.outcome);
        let verdict = serde_json::json!({ "success": end.outcome.is_success(), "why": why });
        let request = self.job(Method::PUT, ticket, "verdict").json(&verdict);
        answer(request).await.map(|_| Finished::Done)
    }
}
