//! A web service that runs jobs in pods, with the manager in the same process.
//!
//! ```text
//!   people ── HTTP ──► routes ──► Jobs (files) ◄── JobSource ──► Manager ──► Executor ──► pods
//! ```
//!
//! | Request | Answer |
//! |---|---|
//! | `POST /jobs` `{"name", "image", "script": […]}` | 201 `{"id"}` |
//! | `GET /jobs/ID` | 200 `{"name", "state", …}` |
//! | `GET /jobs/ID/log` | server-sent events: `log` (a JSON string; its id is an offset), then `end` |
//! | `DELETE /jobs/ID` | 202; it stops, and its `after_script`s run |
//!
//! The service may be killed at any time. Its jobs are files, the running ones go on in their pods, and
//! the next process finds both. A browser that was cut off asks with `Last-Event-ID` and misses nothing.

mod jobs;
mod routes;
mod source;

use std::sync::Arc;
use std::time::Duration;

use runner_core::executor::Executor;
use runner_core::manager::{RelaySettings, Runner};

pub use jobs::{Entry, Jobs, NewJob, State};
pub use routes::routes;

/// The service's jobs as a runner for [`Manager`](runner_core::manager::Manager).
pub fn runner(jobs: &Jobs, executor: Arc<dyn Executor>) -> Runner {
    Runner {
        // People watch the log, and the source is in this process: no need to be gentle. A cancel comes
        // with the answer to a piece of log or to a sign of life.
        relay: RelaySettings {
            interval: Duration::from_millis(200),
            keep_alive: Duration::from_secs(1),
            ..RelaySettings::default()
        },
        // `poll` waits by itself until there is a job.
        check_interval: Duration::from_millis(100),
        ..Runner::new("service", Arc::new(jobs.clone()), executor)
    }
}
