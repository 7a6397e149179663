//! The jobs, as people see them.

use std::convert::Infallible;
use std::io;

use axum::extract::{Path, State as With};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, stream};
use serde_json::{Value, json};

use crate::jobs::{Entry, Jobs, NewJob, State};

/// The service's requests.
pub fn routes(jobs: Jobs) -> Router {
    Router::new()
        .route("/jobs", post(create))
        .route("/jobs/{id}", get(show).delete(cancel))
        .route("/jobs/{id}/log", get(follow))
        .with_state(jobs)
}

/// What went wrong, for whoever asked.
struct Failed(StatusCode, String);

impl Failed {
    fn no_such_job(id: u64) -> Self {
        Self(StatusCode::NOT_FOUND, format!("there is no job {id}"))
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, format!("the service's files: {error}"))
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

async fn create(
    With(jobs): With<Jobs>,
    Json(job): Json<NewJob>,
) -> Result<(StatusCode, Json<Value>), Failed> {
    let id = jobs.blocking(|jobs| jobs.add(job)).await?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id }))))
}

async fn show(With(jobs): With<Jobs>, Path(id): Path<u64>) -> Result<Json<Entry>, Failed> {
    jobs.get(id).map(Json).ok_or_else(|| Failed::no_such_job(id))
}

async fn cancel(With(jobs): With<Jobs>, Path(id): Path<u64>) -> Result<StatusCode, Failed> {
    match jobs.blocking(move |jobs| jobs.cancel(id)).await? {
        true => Ok(StatusCode::ACCEPTED),
        false => Err(Failed::no_such_job(id)),
    }
}

async fn follow(
    With(jobs): With<Jobs>,
    Path(id): Path<u64>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failed> {
    jobs.get(id).ok_or_else(|| Failed::no_such_job(id))?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let reader = Reader { id, offset: last.unwrap_or(0), changes: jobs.changes(), jobs };
    let events = stream::unfold(Some(reader), |reader| async {
        let (event, reader) = reader?.next().await;
        Some((Ok(event), reader))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Somebody who reads a log. Nothing is kept for them: each reads the file at their own pace.
struct Reader {
    jobs: Jobs,
    id: u64,
    offset: u64,
    changes: tokio::sync::watch::Receiver<()>,
}

impl Reader {
    /// The next event, and who waits for the one after it.
    async fn next(mut self) -> (Event, Option<Self>) {
        loop {
            self.changes.borrow_and_update();
            // Looked at before the log: an ended job's log grows no more.
            let state = self.jobs.get(self.id).map(|entry| entry.state);
            let (id, offset) = (self.id, self.offset);
            let bytes = match self.jobs.blocking(move |jobs| jobs.read(id, offset)).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    return (Event::default().event("error").data(error.to_string()), None);
                }
            };
            let (text, length) = text(&bytes);
            if length > 0 {
                self.offset += length as u64;
                // As JSON, since a line of an event cannot hold a carriage return.
                let data = Value::String(text).to_string();
                let event = Event::default().event("log").id(self.offset.to_string()).data(data);
                return (event, Some(self));
            }
            if let Some(State::Ended { .. }) | None = state {
                let data = json!(state).to_string();
                return (Event::default().event("end").data(data), None);
            }
            if self.changes.changed().await.is_err() {
                return (Event::default().event("error").data("the service ends"), None);
            }
        }
    }
}

/// As much of these bytes as is whole characters, and how many bytes that is.
fn text(bytes: &[u8]) -> (String, usize) {
    let whole = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    };
    (String::from_utf8_lossy(&bytes[..whole]).into_owned(), whole)
}
