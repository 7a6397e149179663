//! What happens to jobs, in the lines that log-based monitoring of GitLab Runner looks for.
//!
//! Not among them: `Appending trace to coordinator... ok`, which GitLab Runner writes for each piece of each job's trace;
//! what is sent is counted (`podwright_trace_bytes_total`, `gitlab_runner_api_request_statuses_total`).

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use runner_core::ids::{JobId, SourceId};
use runner_core::manager::{JobLabel, JobUpdate, Observer};
use runner_core::outcome::Outcome;
use runner_gitlab::failure_reason;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::metrics::{Metrics, Who};

/// Writes them. Called inside a job's span, which adds `job`, `project` and `runner_name`.
#[derive(Debug)]
pub(crate) struct JobLines {
    metrics: Arc<Metrics>,
    /// Since when a job is in this manager's hands. Bounded by the running jobs.
    since: Mutex<HashMap<(SourceId, JobId), Instant>>,
}

impl JobLines {
    /// These metrics know the runners, and were told of each update before.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, since: Mutex::default() }
    }
}

impl Observer for JobLines {
    fn update(&self, job: &JobLabel, update: &JobUpdate) {
        let key = (job.source.clone(), job.id);
        let who = || {
            let Who { short_token, jobs, concurrent } = self.metrics.who(&job.source);
            (short_token, jobs, concurrent)
        };
        match update {
            JobUpdate::Received => {
                self.since.lock().insert(key, Instant::now());
                let facts = job.facts.as_deref().cloned().unwrap_or_default();
                let (runner, ..) = who();
                info!(
                    runner,
                    project_full_path = facts.project,
                    job_url = facts.url,
                    time_in_queue_seconds = facts.queue.waited.map(|waited| waited.as_secs_f64()),
                    queue_size = facts.queue.size,
                    queue_depth = facts.queue.depth,
                    "Checking for jobs... received"
                );
            }
            JobUpdate::Starting { place } => {
                let (runner, builds, max_builds) = who();
                let pod_name = place;
                info!(runner, pod_name, builds, max_builds, "Added job to processing list");
            }
            JobUpdate::Adopted { place } => {
                self.since.lock().insert(key, Instant::now());
                let (runner, builds, max_builds) = who();
                let pod_name = place;
                info!(runner, pod_name, builds, max_builds, "Added job to processing list");
            }
            JobUpdate::Concluded { outcome, delivered } => {
                let since = self.since.lock().get(&key).copied();
                let seconds = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
                let (runner, ..) = who();
                concluded(runner.as_deref(), outcome, seconds);
                let status = if outcome.is_success() { "success" } else { "failed" };
                if *delivered {
                    info!(runner, "job-status" = status, "Submitting job to coordinator... ok");
                } else {
                    error!(
                        runner,
                        "job-status" = status,
                        "Submitting job to coordinator... failed"
                    );
                }
            }
            JobUpdate::Released => {
                self.since.lock().remove(&key);
                let (runner, builds, max_builds) = who();
                info!(runner, builds, max_builds, "Removed job from processing list");
            }
            _ => {}
        }
    }
}

fn concluded(runner: Option<&str>, outcome: &Outcome, duration_s: f64) {
    let Some(failure_reason) = failure_reason(outcome) else {
        info!(runner, duration_s, "job-status" = "success", "Job succeeded");
        return;
    };
    let status = "failed";
    match outcome {
        Outcome::Exited(exit_code) => warn!(
            runner,
            duration_s,
            "job-status" = status,
            failure_reason,
            exit_code,
            "Job failed: command terminated with exit code {exit_code}"
        ),
        Outcome::Infra(infra) => warn!(
            runner,
            duration_s,
            "job-status" = status,
            failure_reason,
            "Job failed (system failure): {infra}"
        ),
        other => warn!(
            runner,
            duration_s,
            "job-status" = status,
            failure_reason,
            "Job failed: {other:?}"
        ),
    }
}
