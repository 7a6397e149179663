//! Metrics, health and debug pages, under GitLab Runner's names.
//!
//! Fed by the manager (as its observer), by the calls to GitLab (as their observer), and by the log.
//! Everything is counted in plain numbers behind one lock, and the page is written when it is asked
//! for: a manager has some jobs a second, and a scrape comes every few seconds.

mod names;
mod page;
mod process;
mod render;
mod server;
mod state;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use runner_core::ids::SourceId;
use runner_core::manager::{JobLabel, JobUpdate, Observer, RunnerLabel, RunnerUpdate};
use runner_gitlab::{ApiCall, CallObserver, failure_reason};
use runner_k8s::RoomCounts;
use runner_k8s::client::{RequestCounts, StreamCounts};
use runner_k8s::pause::PauseNumbers;

pub(crate) use server::{Pages, ServeError, reachable};
pub(crate) use state::RunnerName;
use state::{Call, State};

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ProcessState {
    /// Not ready yet.
    Starting,
    /// Takes and runs jobs.
    Running,
    /// Finishes its jobs.
    Graceful,
    /// Stops or leaves its jobs.
    Forceful,
}

impl ProcessState {
    const ALL: [Self; 4] = [Self::Starting, Self::Running, Self::Graceful, Self::Forceful];

    /// GitLab Runner's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Graceful => "graceful-shutdown",
            Self::Forceful => "forceful-shutdown",
        }
    }
}

/// What happened to the configuration file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConfigEvent {
    Loaded,
    LoadingError,
    Saved,
    SavingError,
}

/// What one runner's executor counts itself.
#[derive(Clone, Debug)]
pub(crate) struct ClusterCounts {
    /// Its labels: first characters of the token, name, system id.
    pub(crate) runner: [String; 3],
    pub(crate) requests: RequestCounts,
    pub(crate) streams: StreamCounts,
    /// Where there are to be any.
    pub(crate) pause_pods: Option<PauseNumbers>,
    pub(crate) room: RoomCounts,
}

/// What log lines about a job say of its manager.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    /// `None` for a runner that never was in the configuration.
    pub(crate) short_token: Option<String>,
    /// In this manager's hands.
    pub(crate) jobs: usize,
    /// At most.
    pub(crate) concurrent: usize,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    state: Mutex<State>,
    process: AtomicU8,
    ready: AtomicBool,
    config: [AtomicU64; 4],
    clusters: Mutex<Vec<ClusterCounts>>,
    traces_dropped: OnceLock<Arc<AtomicU64>>,
}

impl Metrics {
    pub(crate) fn set_state(&self, state: ProcessState) {
        self.process.store(state as u8, Ordering::Relaxed);
        if state == ProcessState::Running {
            self.ready.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn state(&self) -> ProcessState {
        let number = usize::from(self.process.load(Ordering::Relaxed));
        ProcessState::ALL.get(number).copied().unwrap_or(ProcessState::Running)
    }

    /// From the first moment of running on, also during shutdown.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn config(&self, event: ConfigEvent) {
        self.config[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Traces are sent, and this is how many were not.
    pub(crate) fn traces(&self, dropped: Arc<AtomicU64>) {
        // Once for each process.
        let _ = self.traces_dropped.set(dropped);
    }

    /// These runners are in the configuration.
    pub(crate) fn configure(
        &self,
        concurrent: usize,
        runners: Vec<(SourceId, RunnerName)>,
        clusters: Vec<ClusterCounts>,
    ) {
        self.state.lock().configure(concurrent, runners);
        *self.clusters.lock() = clusters;
    }

    /// For log lines: the runner by the beginning of its token, and how many jobs there are and may be.
    pub(crate) fn who(&self, source: &SourceId) -> Who {
        let state = self.state.lock();
        Who {
            short_token: state.runners.get(source).map(|runner| runner.name.short_token.clone()),
            jobs: state.jobs.len(),
            concurrent: state.concurrent,
        }
    }

    /// An observer of one runner's calls.
    pub(crate) fn calls_of(self: &Arc<Self>, source: SourceId) -> Arc<dyn CallObserver> {
        Arc::new(Calls { metrics: Arc::clone(self), source })
    }

    fn page(&self) -> String {
        let around = render::Surroundings {
            process_state: self.state().as_str(),
            loaded: [0, 1, 2, 3].map(|at: usize| self.config[at].load(Ordering::Relaxed)),
            errors: crate::logging::counts(),
            clusters: self.clusters.lock().clone(),
            traces_dropped: self.traces_dropped.get().map(|all| all.load(Ordering::Relaxed)),
        };
        render::metrics(&self.state.lock(), &around)
    }

    fn job_list(&self) -> String {
        render::job_list(&self.state.lock())
    }
}

impl Observer for Metrics {
    fn update(&self, job: &JobLabel, update: &JobUpdate) {
        self.state.lock().job(job, update, failure_reason);
    }

    fn runner(&self, runner: RunnerLabel<'_>, update: &RunnerUpdate) {
        self.state.lock().runner(runner.source, update);
    }
}

struct Calls {
    metrics: Arc<Metrics>,
    source: SourceId,
}

impl CallObserver for Calls {
    fn call(&self, call: &ApiCall<'_>) {
        let mut state = self.metrics.state.lock();
        let path = (call.endpoint.path(), call.method.to_string());
        *state.attempts.entry(path).or_default() += u64::from(call.attempts);
        if let (Some(endpoint), Some(runner)) =
            (call.endpoint.metric(), state.runners.get_mut(&self.source))
        {
            let method = call.method.to_lowercase();
            runner.call(endpoint, &method, Call { status: call.status, took: call.took });
        }
    }
}
