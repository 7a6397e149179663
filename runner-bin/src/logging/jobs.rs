//! What happens to jobs, in the lines that log-based monitoring of GitLab Runner looks for.

use std::collections::HashMap;

use parking_lot::Mutex;
use runner_core::ids::{JobId, SourceId};
use runner_core::manager::{JobLabel, JobUpdate, Observer};
use runner_core::outcome::Outcome;
use runner_gitlab::failure_reason;
use tokio::time::Instant;
use tracing::{info, warn};

/// Writes them. Called inside a job's span, which adds `job`, `project` and `runner_name`.
#[derive(Debug, Default)]
pub(crate) struct JobLines {
    /// Since when a job is in this manager's hands. Bounded by the running jobs.
    since: Mutex<HashMap<(SourceId, JobId), Instant>>,
}

impl Observer for JobLines {
    fn update(&self, job: &JobLabel, update: &JobUpdate) {
        let key = (job.source.clone(), job.id);
        match update {
            JobUpdate::Received => {
                self.since.lock().insert(key, Instant::now());
                let facts = job.facts.as_deref().cloned().unwrap_or_default();
                info!(
                    project_full_path = facts.project,
                    job_url = facts.url,
                    time_in_queue_seconds = facts.queue.waited.map(|waited| waited.as_secs_f64()),
                    queue_size = facts.queue.size,
                    queue_depth = facts.queue.depth,
                    "Checking for jobs... received"
                );
            }
            JobUpdate::Adopted { .. } => drop(self.since.lock().insert(key, Instant::now())),
            JobUpdate::Concluded { outcome, .. } => {
                let since = self.since.lock().get(&key).copied();
                let seconds = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
                concluded(outcome, seconds);
            }
            JobUpdate::Released => drop(self.since.lock().remove(&key)),
            _ => {}
        }
    }
}

fn concluded(outcome: &Outcome, duration_s: f64) {
    let Some(failure_reason) = failure_reason(outcome) else {
        info!(duration_s, "job-status" = "success", "Job succeeded");
        return;
    };
    let status = "failed";
    match outcome {
        Outcome::Exited(exit_code) => warn!(
            duration_s,
            "job-status" = status,
            failure_reason,
            exit_code,
            "Job failed: command terminated with exit code {exit_code}"
        ),
        Outcome::Infra(infra) => warn!(
            duration_s,
            "job-status" = status,
            failure_reason,
            "Job failed (system failure): {infra}"
        ),
        other => warn!(duration_s, "job-status" = status, failure_reason, "Job failed: {other:?}"),
    }
}
