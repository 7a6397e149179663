//! The task that sends traces, and the queue before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::otlp;
use super::settings::OtlpSettings;
use super::spans::JobTrace;

/// Jobs that may wait to be sent. Each is some kilobytes (a dozen spans), so all of them some
/// megabytes: a collector that is away for longer than so many jobs loses the rest.
const QUEUE: usize = 1024;
/// Jobs in one request.
const BATCH: usize = 64;
/// Pauses after a request that failed; after the last one the traces are dropped.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(8)];
/// How long the rest may take when the manager ends.
const LAST: Duration = Duration::from_secs(5);

/// Traces that are over.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<JobTrace>,
    dropped: Arc<AtomicU64>,
}

impl Outbox {
    /// Queues a trace, or drops it. Never waits.
    pub(super) fn put(&self, trace: JobTrace) {
        if self.queue.try_send(trace).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends traces until it is [finished](Exporter::finish).
pub(crate) struct Exporter {
    outbox: Outbox,
    task: AbortOnDropHandle<()>,
}

impl Exporter {
    /// Starts the task.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub(crate) fn start(settings: OtlpSettings) -> reqwest::Result<Self> {
        let client = reqwest::Client::builder().timeout(settings.timeout).build()?;
        let (queue, traces) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let outbox = Outbox { queue, dropped: Arc::clone(&dropped) };
        let sender = Sender { client, settings, dropped };
        let task = AbortOnDropHandle::new(tokio::spawn(sender.run(traces)));
        Ok(Self { outbox, task })
    }

    /// Where traces are put.
    pub(super) fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// How many traces were dropped, for metrics.
    pub(crate) fn dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.outbox.dropped)
    }

    /// Sends what is queued, for some seconds at most. All recorders must be gone by now, or the
    /// wait is in vain.
    pub(crate) async fn finish(self) {
        let Self { outbox, task } = self;
        drop(outbox);
        if timeout(LAST, task).await.is_err() {
            warn!("the last traces could not be sent in time");
        }
    }
}

struct Sender {
    client: reqwest::Client,
    settings: OtlpSettings,
    dropped: Arc<AtomicU64>,
}

impl Sender {
    async fn run(self, mut traces: mpsc::Receiver<JobTrace>) {
        let mut batch = Vec::with_capacity(BATCH);
        while traces.recv_many(&mut batch, BATCH).await > 0 {
            if let Err(problem) = self.send(&batch).await {
                warn!(problem, jobs = batch.len(), "traces could not be sent; they are dropped");
                self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
            }
            batch.clear();
        }
    }

    async fn send(&self, batch: &[JobTrace]) -> Result<(), String> {
        let body = otlp::body(&self.settings.resource, batch).to_string();
        let mut pauses = PAUSES.into_iter();
        loop {
            let (problem, again) = match self.post(body.clone()).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            let Some(pause) = pauses.next().filter(|_| again) else { return Err(problem) };
            debug!(problem, ?pause, "traces could not be sent; trying again");
            sleep(pause).await;
        }
    }

    /// One request; what is wrong, and whether another try may help.
    async fn post(&self, body: String) -> Result<(), (String, bool)> {
        let mut request = self
            .client
            .post(&self.settings.endpoint)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        for (key, value) in &self.settings.headers {
            request = request.header(key, value.expose());
        }
        let answer = request.send().await.map_err(|error| (error.to_string(), true))?;
        let status = answer.status();
        // OTLP's list of what may be tried again.
        let again = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        match status.is_success() {
            true => Ok(()),
            false => Err((format!("the collector answered {status}"), again)),
        }
    }
}
