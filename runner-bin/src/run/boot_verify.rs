//! Boot verify (`[runners.experimental.boot_verify]`): before a manager asks for its first job, each runner that wants it
//! runs a job of its own, a canary, in the cluster. One that fails ends the manager, so that a rollout of a broken
//! configuration stops there and no job of anybody's is lost in it.
//!
//! A canary goes the whole way of a job, with a source that is nobody but this module: nothing is said to GitLab. Owns no
//! cluster: the executor is handed in, one of the canary's own, so that nobody takes it for a job of the runner.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use runner_core::ids::{JobId, Offset, SourceId};
use runner_core::job::{Job, Variable};
use runner_core::manager::{Manager, Runner, StopLevel};
use runner_core::outcome::Outcome;
use runner_core::secret::Secret;
use runner_core::source::{
    Appended, Conclusion, Finished, JobSource, Offer, Polled, Reply, SourceError, Ticket,
};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

/// What is printed of a canary's log, which has a few lines.
const LONGEST_LOG: usize = 64 << 10;
/// For the pod's end after the verdict: it is deleted like any other.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// A runner that is tried.
pub(super) struct Canary {
    /// Like the runner, but for its source and executor.
    pub(super) runner: Runner,
    /// For all of it.
    pub(super) timeout: Duration,
    pub(super) source: Arc<CanarySource>,
}

/// Where a canary comes from, and where its log and verdict go.
pub(super) struct CanarySource {
    id: SourceId,
    job: Mutex<Option<Job>>,
    ticket: Ticket,
    log: Mutex<Vec<u8>>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl CanarySource {
    /// The number `index` of this process, for the runner with this source.
    ///
    /// The canary of a process that was killed is found by the next one, which sees it to its end: so the source's name is
    /// the same each time, and the ticket is not.
    pub(super) fn new(runner: &SourceId, index: u64, limit: Duration) -> Arc<Self> {
        // As GitLab Runner's: numbers that no job will have.
        let id = JobId(i64::MAX.unsigned_abs() - index);
        let mut job = Job::new(id, "boot verify", ["echo boot verify"]);
        job.variables.push(Variable {
            key: "GIT_STRATEGY".to_owned(),
            value: Secret::new("none"),
            public: true,
            ..Variable::default()
        });
        job.timeout = limit.checked_sub(CLEAN_UP).unwrap_or(limit / 2).max(limit / 2);
        let ticket = Ticket(Secret::new(format!("boot-verify-{}", crate::system_id::random())));
        Arc::new(Self {
            id: SourceId(format!("boot-verify-{runner}")),
            job: Mutex::new(Some(job)),
            ticket,
            log: Mutex::default(),
            outcome: watch::Sender::new(None),
        })
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.log.lock()).into_owned()
    }
}

#[async_trait]
impl JobSource for CanarySource {
    fn id(&self) -> SourceId {
        self.id.clone()
    }

    async fn poll(&self) -> Result<Polled, SourceError> {
        let ticket = self.ticket.clone();
        let job = self.job.lock().take();
        Ok(job.map_or_else(Polled::nothing, |job| Polled::job(Offer { job, ticket })))
    }

    async fn append(
        &self,
        ticket: &Ticket,
        from: Offset,
        chunks: Vec<Bytes>,
    ) -> Result<Appended, SourceError> {
        if *ticket == self.ticket {
            let mut log = self.log.lock();
            // One call after the other, and what is said twice is said in the same words.
            log.truncate(usize::try_from(from.0).unwrap_or(usize::MAX));
            for chunk in chunks {
                let room = LONGEST_LOG.saturating_sub(log.len());
                log.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
        }
        Ok(Appended::Stored(Reply::default()))
    }

    async fn finish(&self, ticket: &Ticket, end: &Conclusion) -> Result<Finished, SourceError> {
        if *ticket == self.ticket {
            self.outcome.send_replace(Some(end.outcome.clone()));
        }
        Ok(Finished::Done)
    }
}

/// Runs all canaries side by side, and ends when they have, or soon after `stop`.
///
/// # Errors
/// When one did not succeed, after its log was printed.
pub(super) async fn verify(canaries: Vec<Canary>, stop: &CancellationToken) -> anyhow::Result<()> {
    let flights = canaries.into_iter().map(|canary| fly(canary, stop));
    let failed: Vec<String> = join_all(flights).await.into_iter().flatten().collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("boot verify failed for {}; no job was asked for", failed.join(", "));
}

/// The runner's name if it failed.
async fn fly(canary: Canary, stop: &CancellationToken) -> Option<String> {
    let Canary { runner, timeout: limit, source } = canary;
    let name = runner.name.clone();
    info!(runner = name, timeout = ?limit, "Running boot verify");
    let (manager, control) = Manager::new(1);
    let running = AbortOnDropHandle::new(tokio::spawn(manager.runner(runner).run()));
    let mut outcome = source.outcome.subscribe();
    let end = tokio::select! {
        end = timeout(limit, outcome.wait_for(Option::is_some)) => {
            end.ok().and_then(Result::ok).and_then(|end| end.clone())
        }
        () = stop.cancelled() => None,
    };
    control.stop(if end.is_some() { StopLevel::Drain } else { StopLevel::Stop });
    // What is left after that, the next process's canary finds.
    let _ = timeout(CLEAN_UP, running).await;
    match end {
        None if stop.is_cancelled() => None,
        Some(end) if end.is_success() => {
            info!(runner = name, "Boot verify succeeded");
            None
        }
        end => {
            let why = end
                .map_or_else(|| format!("it took longer than {limit:?}"), |end| format!("{end:?}"));
            error!(runner = name, "Boot verify failed: {why}; its log:\n{}", source.log());
            Some(name)
        }
    }
}
