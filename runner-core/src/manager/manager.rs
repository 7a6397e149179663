//! The loop: ask every source for jobs, give each job a task, take over what others left behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{Instrument, error, info, info_span, warn};

use super::backoff::Backoff;
use super::job::JobTask;
use super::numbers::Numbers;
use super::observer::{NoObserver, Observer};
use super::runner::Runner;
use super::shutdown::{self, Shutdown, StopHandle};
use super::slots::{Slot, Slots};
use crate::source::{Offer, SourceErrorKind};

/// How long a poll may take before it is given up: GitLab parks a request for 50 s, proxies longer.
const POLL_PATIENCE: Duration = Duration::from_secs(11 * 60);

/// How long an executor may take to tell other managers that this one ends.
const RETIRE_PATIENCE: Duration = Duration::from_secs(5);

/// Runs jobs of any number of runners until told to stop.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use runner_core::{executor::Executor, source::JobSource};
/// use runner_core::manager::{Manager, Runner, StopLevel};
///
/// # async fn example(source: Arc<dyn JobSource>, executor: Arc<dyn Executor>) {
/// let (manager, stop) = Manager::new(10);
/// let running = tokio::spawn(manager.runner(Runner::new("mine", source, executor)).run());
/// // … later: take no more jobs, leave the running ones to the next manager.
/// stop.stop(StopLevel::Leave);
/// running.await.expect("the manager does not panic");
/// # }
/// ```
pub struct Manager {
    runners: Vec<Arc<Runner>>,
    observer: Arc<dyn Observer>,
    slots: Slots,
    shutdown: Shutdown,
}

impl Manager {
    /// A manager that runs at most `concurrent` jobs at once (0: as many as come), and the handle
    /// that stops it.
    pub fn new(concurrent: usize) -> (Self, StopHandle) {
        let (stop, shutdown) = shutdown::channel();
        let slots = Slots::new(concurrent);
        let observer: Arc<dyn Observer> = Arc::new(NoObserver);
        (Self { runners: Vec::new(), observer, slots, shutdown }, stop)
    }

    /// Adds a runner.
    #[must_use]
    pub fn runner(mut self, runner: Runner) -> Self {
        self.runners.push(Arc::new(runner));
        self
    }

    /// Tells somebody how the jobs are doing.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Runs until stopped: after [`StopLevel::Drain`](super::StopLevel::Drain) until the last job is
    /// over, after [`StopLevel::Leave`](super::StopLevel::Leave) until all are let go.
    ///
    /// Dropping the future leaves the jobs to the next manager, as `Leave` does.
    pub async fn run(self) {
        // Owns every task of this manager; dropping the set aborts them, which leaves their jobs.
        let mut runners = JoinSet::new();
        for runner in &self.runners {
            let pool = RunnerLoop {
                runner: Arc::clone(runner),
                observer: Arc::clone(&self.observer),
                global: self.slots.clone(),
                own: Slots::new(runner.limit),
                shutdown: self.shutdown.clone(),
                numbers: Numbers::default(),
            };
            runners.spawn(pool.run().instrument(info_span!("runner", name = runner.name)));
        }
        while let Some(ended) = runners.join_next().await {
            if let Err(error) = ended {
                error!(%error, "a runner's task ended unexpectedly");
            }
        }
    }
}

/// The polling loop of one runner.
struct RunnerLoop {
    runner: Arc<Runner>,
    observer: Arc<dyn Observer>,
    global: Slots,
    own: Slots,
    shutdown: Shutdown,
    numbers: Numbers,
}

/// A job that was handed out, with the slots it was waited for with.
struct Taken {
    offer: Offer,
    slots: (Slot, Slot),
}

impl RunnerLoop {
    async fn run(self) {
        // Owns the jobs' tasks. Bounded by the slots, and by what there is to adopt.
        let mut jobs = JoinSet::new();
        let mut drain = self.shutdown.clone();
        tokio::select! {
            () = drain.drain() => {}
            () = self.adopt(&mut jobs) => self.poll(&mut jobs).await,
        }
        while let Some(ended) = jobs.join_next().await {
            report_panic(ended);
        }
        if timeout(RETIRE_PATIENCE, self.runner.executor.retire()).await.is_err() {
            info!("could not tell other managers that this one ends; they find out");
        }
    }

    fn task(&self) -> JobTask {
        JobTask {
            runner: Arc::clone(&self.runner),
            observer: Arc::clone(&self.observer),
            shutdown: self.shutdown.clone(),
            numbers: self.numbers.clone(),
        }
    }

    /// Takes over what other managers left behind. New jobs wait until it is known what there is:
    /// they could not be counted otherwise.
    async fn adopt(&self, jobs: &mut JoinSet<()>) {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let handles = loop {
            match self.runner.executor.recover().await {
                Ok(handles) => break handles,
                Err(error) => {
                    let wait = backoff.wait(error.retry_after);
                    warn!(%error, ?wait, "cannot find out which jobs were left behind");
                    sleep(wait).await;
                }
            }
        };
        for handle in handles {
            let slots = (self.own.force(), self.global.force());
            let span = info_span!("job", job = %handle.id());
            let task = self.task();
            jobs.spawn(
                async move {
                    task.run_adopted(handle).await;
                    drop(slots);
                }
                .instrument(span),
            );
        }
    }

    /// Takes jobs until told to drain.
    async fn poll(&self, jobs: &mut JoinSet<()>) {
        let mut drain = self.shutdown.clone();
        // Pinned outside of the loop: a job that ends must not interrupt a request under way.
        let mut next = Box::pin(self.next_job());
        loop {
            tokio::select! {
                taken = &mut next => {
                    self.spawn(jobs, taken);
                    next.set(self.next_job());
                }
                Some(ended) = jobs.join_next(), if !jobs.is_empty() => report_panic(ended),
                // Not raced against anything: a job that was claimed must be followed.
                () = self.runner.executor.abandoned() => self.adopt(jobs).await,
                () = drain.drain() => return,
            }
        }
    }

    fn spawn(&self, jobs: &mut JoinSet<()>, taken: Taken) {
        let Taken { offer, slots } = taken;
        let span = info_span!("job", job = %offer.job.id, project = offer.job.project.id);
        let task = self.task();
        jobs.spawn(
            async move {
                task.run_offer(offer).await;
                drop(slots);
            }
            .instrument(span),
        );
    }

    /// Waits for free slots, then for a job.
    async fn next_job(&self) -> Taken {
        let longest = self.runner.check_interval.max(Duration::from_secs(60));
        let mut backoff = Backoff::new(self.runner.check_interval, longest);
        loop {
            let slots = (self.own.take().await, self.global.take().await);
            let wait = match timeout(POLL_PATIENCE, self.runner.source.poll()).await {
                Ok(Ok(Some(offer))) => return Taken { offer, slots },
                Ok(Ok(None)) => {
                    backoff.reset();
                    self.runner.check_interval
                }
                Ok(Err(error)) => {
                    let wait = backoff.wait(error.retry_after);
                    if error.kind == SourceErrorKind::Unavailable {
                        info!(%error, ?wait, "no answer to the request for a job");
                    } else {
                        warn!(%error, ?wait, "the request for a job failed");
                    }
                    wait
                }
                Err(_) => {
                    warn!("the request for a job took longer than 11 minutes; asking again");
                    Duration::ZERO
                }
            };
            drop(slots);
            sleep(wait).await;
        }
    }
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        error!(%error, "a job's task ended unexpectedly; the next manager takes the job over");
    }
}
