//! What is counted.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use runner_core::executor::Milestone;
use runner_core::ids::{JobId, SourceId};
use runner_core::manager::{JobLabel, JobUpdate, RequestCounts, RunnerUpdate};
use runner_core::outcome::StageReport;
use tokio::time::Instant;

use super::names::{DURATION, LAG, QUEUE, REQUEST, START};
use super::page::Histogram;
use crate::config::QueueTimes;

/// Most stages of a runner that have a histogram of their own; a plan has some twenty.
const MOST_STAGES: usize = 64;
/// Longest name of a stage that has one, in bytes.
const LONGEST_NAME: usize = 128;
/// What all others count as.
const OTHER_STAGES: &str = "other";

/// How a runner is called in metrics.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunnerName {
    /// Beginning of its token, without what tokens have in common.
    pub(crate) short_token: String,
    /// Its name in the configuration.
    pub(crate) name: String,
    /// Which manager this is.
    pub(crate) system_id: String,
    /// It exports the histogram of stage durations, which has many series.
    pub(crate) stage_durations: bool,
    /// Most jobs of it at once, 0: any.
    pub(crate) limit: usize,
    /// How long its jobs may wait in the queue.
    pub(crate) queue_times: QueueTimes,
}

/// Everything about one runner, from its first appearance to the end of the process.
#[derive(Debug)]
pub(super) struct RunnerState {
    pub(super) name: RunnerName,
    /// It is in the configuration.
    pub(super) present: bool,
    pub(super) feeds: u64,
    pub(super) feed_failures: u64,
    pub(super) health_failures: u64,
    pub(super) requests: RequestCounts,
    pub(super) requests_exceeded: u64,
    pub(super) jobs_started: u64,
    pub(super) job_failures: u64,
    pub(super) durations: Histogram,
    /// By `project_jobs_running`.
    pub(super) queued: BTreeMap<String, Histogram>,
    /// Jobs that waited for longer than they may.
    pub(super) queued_too_long: u64,
    pub(super) queue_size: Option<u64>,
    pub(super) queue_depth: Option<u64>,
    pub(super) failed: BTreeMap<&'static str, u64>,
    pub(super) stages: BTreeMap<String, Histogram>,
    /// By endpoint, status and method.
    pub(super) statuses: BTreeMap<(&'static str, String, String), u64>,
    pub(super) request_durations: BTreeMap<(&'static str, &'static str, String), Histogram>,
    // Podwright's own.
    pub(super) adopted: u64,
    pub(super) left_behind: u64,
    pub(super) undelivered: u64,
    pub(super) trace_bytes: u64,
    pub(super) trace_lag: Histogram,
    /// By phase: `reserve` (received to accepted), `schedule` (to a node), `pull` (to all images
    /// there), `start` (accepted to running).
    pub(super) starts: BTreeMap<&'static str, Histogram>,
}

/// A job in this manager's hands.
#[derive(Clone, Debug)]
pub(super) struct JobState {
    pub(super) url: String,
    pub(super) state: &'static str,
    pub(super) stage: String,
    pub(super) executor_stage: &'static str,
    pub(super) since: Instant,
    accepted: Option<Instant>,
    /// The last milestone of its start, or its acceptance.
    milestone: Option<Instant>,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) runners: HashMap<SourceId, RunnerState>,
    pub(super) jobs: BTreeMap<(SourceId, JobId), JobState>,
    /// By path and method.
    pub(super) attempts: BTreeMap<(&'static str, String), u64>,
    pub(super) concurrent: usize,
    pub(super) slots_started: u64,
    pub(super) slots_stopped: u64,
}

impl RunnerState {
    fn new(name: RunnerName) -> Self {
        Self {
            name,
            present: true,
            feeds: 0,
            feed_failures: 0,
            health_failures: 0,
            requests: RequestCounts::default(),
            requests_exceeded: 0,
            jobs_started: 0,
            job_failures: 0,
            durations: Histogram::new(DURATION),
            queued: BTreeMap::new(),
            queued_too_long: 0,
            queue_size: None,
            queue_depth: None,
            failed: BTreeMap::new(),
            stages: BTreeMap::new(),
            statuses: BTreeMap::new(),
            request_durations: BTreeMap::new(),
            adopted: 0,
            left_behind: 0,
            undelivered: 0,
            trace_bytes: 0,
            trace_lag: Histogram::new(LAG),
            starts: BTreeMap::new(),
        }
    }

    fn stage_over(&mut self, report: &StageReport) {
        if self.name.stage_durations {
            // Names come from agents, which a job may have taken over; series are kept for ever.
            let is_new = !self.stages.contains_key(&report.name);
            let full = self.stages.len() >= MOST_STAGES || report.name.len() > LONGEST_NAME;
            let name = if is_new && full { OTHER_STAGES } else { &report.name };
            let stage = self.stages.entry(name.to_owned());
            let seconds = Duration::from_millis(report.took_ms).as_secs_f64();
            stage.or_insert_with(|| Histogram::new(QUEUE)).observe(seconds);
        }
    }

    fn start(&mut self, phase: &'static str, took: Duration) {
        let phase = self.starts.entry(phase).or_insert_with(|| Histogram::new(START));
        phase.observe(took.as_secs_f64());
    }

    pub(super) fn call(&mut self, endpoint: &'static str, method: &str, call: Call) {
        let status = call.status.map_or_else(|| "-1".to_owned(), |status| status.to_string());
        *self.statuses.entry((endpoint, status, method.to_owned())).or_default() += 1;
        let class = match call.status.map(|status| status / 100) {
            Some(1) => "1xx",
            Some(2) => "2xx",
            Some(3) => "3xx",
            Some(4) => "4xx",
            Some(5) => "5xx",
            _ => "unknown",
        };
        let durations = self.request_durations.entry((endpoint, class, method.to_owned()));
        durations.or_insert_with(|| Histogram::new(REQUEST)).observe(call.took.as_secs_f64());
    }
}

/// One call of the API.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) status: Option<u16>,
    pub(super) took: Duration,
}

impl State {
    /// These runners are in the configuration, and this many jobs may run.
    pub(super) fn configure(&mut self, concurrent: usize, runners: Vec<(SourceId, RunnerName)>) {
        self.slots_started += concurrent.saturating_sub(self.concurrent) as u64;
        self.slots_stopped += self.concurrent.saturating_sub(concurrent) as u64;
        self.concurrent = concurrent;
        self.runners.values_mut().for_each(|runner| runner.present = false);
        for (source, name) in runners {
            match self.runners.get_mut(&source) {
                Some(known) => (known.name, known.present) = (name, true),
                None => {
                    self.runners.insert(source, RunnerState::new(name));
                }
            }
        }
    }

    pub(super) fn runner(&mut self, source: &SourceId, update: &RunnerUpdate) {
        let Some(runner) = self.runners.get_mut(source) else { return };
        match update {
            RunnerUpdate::Asking => runner.feeds += 1,
            RunnerUpdate::TooManyRequests => runner.requests_exceeded += 1,
            RunnerUpdate::Requests(counts) => runner.requests = *counts,
            RunnerUpdate::Refused { left_alone } => {
                runner.health_failures += 1;
                runner.feed_failures += u64::from(left_alone.is_some());
            }
            _ => {}
        }
    }

    pub(super) fn job(
        &mut self,
        job: &JobLabel,
        update: &JobUpdate,
        reason: impl Fn(&runner_core::outcome::Outcome) -> Option<&'static str>,
    ) {
        let Some(runner) = self.runners.get_mut(&job.source) else { return };
        let key = (job.source.clone(), job.id);
        let now = Instant::now();
        match update {
            JobUpdate::Received => {
                runner.jobs_started += 1;
                if let Some(facts) = &job.facts {
                    let queue = &facts.queue;
                    if let Some(waited) = queue.waited {
                        let running = runner.queued.entry(queue.project_jobs_running.clone());
                        let histogram = running.or_insert_with(|| Histogram::new(QUEUE));
                        histogram.observe(waited.as_secs_f64());
                        let (times, running) =
                            (&runner.name.queue_times, &queue.project_jobs_running);
                        runner.queued_too_long +=
                            u64::from(times.are_exceeded(Timestamp::now(), waited, running));
                    }
                    (runner.queue_size, runner.queue_depth) = (queue.size, queue.depth);
                }
                let url = job.facts.as_ref().and_then(|facts| facts.url.clone());
                self.jobs.insert(key.clone(), JobState::new(url, "pending", now));
            }
            JobUpdate::Adopted { .. } => {
                runner.adopted += 1;
                self.jobs.insert(key.clone(), JobState::new(None, "running", now));
            }
            JobUpdate::LeftBehind => runner.left_behind += 1,
            JobUpdate::Released => {
                self.jobs.remove(&key);
            }
            JobUpdate::TraceStored { chunks, lag, .. } => {
                runner.trace_lag.observe(lag.as_secs_f64());
                runner.trace_bytes += chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
            }
            JobUpdate::StageFinished(report) => runner.stage_over(report),
            _ => {}
        }
        let Some(state) = self.jobs.get_mut(&key) else { return };
        match update {
            JobUpdate::Starting { .. } => {
                runner.start("reserve", now.duration_since(state.since));
                (state.state, state.executor_stage) = ("running", "prepare");
                (state.accepted, state.milestone) = (Some(now), Some(now));
            }
            JobUpdate::Reached(milestone) => {
                let phase = match milestone {
                    Milestone::Placed => "schedule",
                    Milestone::Pulled => "pull",
                    _ => return,
                };
                if let Some(before) = state.milestone.replace(now) {
                    runner.start(phase, now.duration_since(before));
                }
            }
            JobUpdate::Running => {
                if let Some(accepted) = state.accepted.take() {
                    runner.start("start", now.duration_since(accepted));
                }
            }
            JobUpdate::StageStarted { name } => state.stage.clone_from(name),
            JobUpdate::Concluded { outcome, delivered } => {
                runner.durations.observe(now.duration_since(state.since).as_secs_f64());
                runner.undelivered += u64::from(!delivered);
                state.executor_stage = "cleanup";
                state.state = match reason(outcome) {
                    None => "success",
                    Some("job_canceled") => "canceled",
                    Some("job_execution_timeout") => "timedout",
                    Some("runner_interrupted") => "terminated",
                    Some(_) => "failed",
                };
                if let Some(reason) = reason(outcome) {
                    *runner.failed.entry(reason).or_default() += 1;
                    runner.job_failures += 1;
                }
            }
            _ => {}
        }
    }
}

impl JobState {
    fn new(url: Option<String>, state: &'static str, since: Instant) -> Self {
        let url = url.unwrap_or_default();
        Self {
            url,
            state,
            stage: String::new(),
            executor_stage: "",
            since,
            accepted: None,
            milestone: None,
        }
    }
}
