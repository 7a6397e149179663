//! The loop: it forwards what happens to the rules of [`Dispatch`] and does what they say.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument, debug, error, info, info_span, warn};

use super::adopter::{Adopted, Adopters, HouseId};
use super::dispatch::{Answer, Dispatch, LineId, PollId, Step, Terms};
use super::job::JobTask;
use super::numbers::Numbers;
use super::observer::{NoObserver, Observer, RunnerLabel};
use super::roster::{Control, Roster};
use super::runner::Runner;
use super::shares::Shares;
use super::shutdown::{self, Shutdown, StopHandle};
use crate::causes::causes;
use crate::ids::SourceId;
use crate::source::{Offer, Polled, SourceError, SourceErrorKind};

/// How long a poll may take before it is given up: GitLab parks a request for 50 s, proxies longer.
const POLL_PATIENCE: Duration = Duration::from_secs(11 * 60);
/// How long a job that came without a place for it waits for one. After that it is dropped, and the
/// source, which was never told that it runs, gives it to somebody else.
const OFFER_PATIENCE: Duration = Duration::from_secs(60);

/// Runs jobs of any number of runners until told to stop.
///
/// ```
/// # use runner_core::executor::{Executor, ExecutorError, JobHandle, JobRequest};
/// # use runner_core::{ids::{Offset, SourceId}, source::*};
/// # struct Queue;
/// # #[async_trait::async_trait]
/// # impl JobSource for Queue {
/// #     fn id(&self) -> SourceId { SourceId("queue".into()) }
/// #     async fn poll(&self) -> Result<Polled, SourceError> { Ok(Polled::nothing()) }
/// #     async fn append(&self, _: &Ticket, _: Offset, _: Vec<bytes::Bytes>) -> Result<Appended, SourceError> {
/// #         unreachable!("there are no jobs")
/// #     }
/// #     async fn finish(&self, _: &Ticket, _: &Conclusion) -> Result<Finished, SourceError> {
/// #         unreachable!("there are no jobs")
/// #     }
/// # }
/// # struct Pods;
/// # #[async_trait::async_trait]
/// # impl Executor for Pods {
/// #     async fn reserve<'a>(&self, _: JobRequest<'a>) -> Result<Box<dyn JobHandle>, ExecutorError> {
/// #         unreachable!("there are no jobs")
/// #     }
/// #     async fn recover(&self) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError> { Ok(Vec::new()) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use runner_core::manager::{Manager, Runner, StopLevel};
///
/// let (source, executor) = (Arc::new(Queue), Arc::new(Pods)); // yours
/// let mut runner = Runner::new("mine", source, executor);
/// runner.limit = 4; // of the ten, at most these many are this runner's
/// runner.relay.interval = Duration::from_secs(1); // how often a piece of log is sent
///
/// let (manager, stop) = Manager::new(10);
/// let running = tokio::spawn(manager.runner(runner).run());
/// // … later: take no more jobs, leave the running ones to the next manager.
/// stop.stop(StopLevel::Leave);
/// running.await.expect("neither source nor executor panics");
/// # }
/// ```
///
/// A panic in a source or an executor ends the task that it happens in: a job's task leaves the job to the
/// next manager, a request for a job is made again later. What the manager calls itself (`JobSource::id`,
/// `Executor::elsewhere`) ends the manager, so look at the result of `run`.
pub struct Manager {
    roster: watch::Sender<Roster>,
    observer: Arc<dyn Observer>,
    shutdown: Shutdown,
}

impl fmt::Debug for Manager {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Manager")
            .field("roster", &*self.roster.borrow())
            .finish_non_exhaustive()
    }
}

impl Manager {
    /// A manager that runs at most `concurrent` jobs at once (0: as many as come), and the handle
    /// that stops it.
    #[must_use]
    pub fn new(concurrent: usize) -> (Self, StopHandle) {
        let (stop, shutdown) = shutdown::channel();
        let observer: Arc<dyn Observer> = Arc::new(NoObserver);
        let (roster, _) = watch::channel(Roster { concurrent, runners: Vec::new() });
        (Self { roster, observer, shutdown }, stop)
    }

    /// Adds a runner.
    #[must_use]
    pub fn runner(self, runner: Runner) -> Self {
        self.roster.send_modify(|roster| roster.runners.push(Arc::new(runner)));
        self
    }

    /// Tells somebody how the jobs are doing.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Changes runners and limits while the manager runs.
    #[must_use]
    pub fn control(&self) -> Control {
        Control(self.roster.clone())
    }

    /// Runs until stopped: after [`StopLevel::Drain`](super::StopLevel::Drain) until the last job is
    /// over, after [`StopLevel::Leave`](super::StopLevel::Leave) until all are let go.
    ///
    /// Dropping the future leaves the jobs to the next manager, as `Leave` does.
    pub async fn run(self) {
        let Self { roster, observer, shutdown } = self;
        let mut roster = roster.subscribe();
        let first = roster.borrow_and_update().clone();
        let (adopters, found) = Adopters::new(shutdown.clone());
        let mut floor = Floor {
            dispatch: Dispatch::new(first.concurrent),
            lines: Vec::new(),
            next_line: 0,
            numbers: HashMap::new(),
            polls: JoinSet::new(),
            asked: HashMap::new(),
            jobs: JoinSet::new(),
            running: HashMap::new(),
            waiting: VecDeque::new(),
            adopters,
            shares: Shares::default(),
            observer,
            shutdown,
        };
        floor.set(first);
        floor.run(roster, found).await;
    }
}

/// Everything that is under way. Dropping it ends the tasks, which leaves their jobs.
struct Floor {
    dispatch: Dispatch,
    lines: Vec<(LineId, Arc<Runner>)>,
    next_line: u64,
    /// By token. Kept for good: a manager sees a handful of tokens in its life.
    numbers: HashMap<SourceId, Numbers>,
    /// Bounded by the runners' `request_concurrency`.
    polls: JoinSet<Result<Polled, SourceError>>,
    asked: HashMap<Id, Asked>,
    /// Bounded by `concurrent`, and by what there is to adopt.
    jobs: JoinSet<()>,
    running: HashMap<Id, Running>,
    /// Jobs that came without a place for them. Bounded by the requests that were held back.
    waiting: VecDeque<Waiting>,
    adopters: Adopters,
    shares: Shares,
    observer: Arc<dyn Observer>,
    shutdown: Shutdown,
}

struct Asked {
    poll: PollId,
    line: LineId,
    runner: Arc<Runner>,
}

struct Running {
    source: SourceId,
    house: HouseId,
}

struct Waiting {
    offer: Offer,
    polled: Polled,
    runner: Arc<Runner>,
    until: Instant,
}

impl Floor {
    async fn run(
        mut self,
        mut roster: watch::Receiver<Roster>,
        mut found: mpsc::Receiver<Adopted>,
    ) {
        let mut drain = self.shutdown.clone();
        loop {
            let wake = self.turn();
            let wake = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = drain.drain() => break,
                Some(ended) = self.polls.join_next_with_id() => self.answered(ended),
                Some(ended) = self.jobs.join_next_with_id() => self.job_ended(ended),
                Some(adopted) = found.recv() => self.adopt(adopted),
                Ok(()) = roster.changed() => {
                    let next = roster.borrow_and_update().clone();
                    self.set(next);
                }
                () = wake => {}
            }
        }
        // Requests under way are given up; a job among their answers goes back, nobody accepted it.
        self.polls.abort_all();
        self.waiting.clear();
        while self.adopters.is_busy() || !self.jobs.is_empty() {
            tokio::select! {
                Some(ended) = self.jobs.join_next_with_id() => self.job_ended(ended),
                Some(adopted) = found.recv() => self.adopt(adopted),
                () = self.adopters.ended() => {}
            }
        }
        // What came while the last adopter ended.
        while let Ok(adopted) = found.try_recv() {
            self.adopt(adopted);
        }
        while let Some(ended) = self.jobs.join_next_with_id().await {
            self.job_ended(ended);
        }
        self.adopters.retire_all().await;
    }

    /// Does what the rules say; the result is when to look again.
    fn turn(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.waiting.retain(|waiting| {
            let keep = now < waiting.until;
            if !keep {
                info!(job = %waiting.offer.job.id, "there is no place for this job; the source gives it to somebody else");
            }
            keep
        });
        for (_, runner) in &self.lines {
            self.dispatch.elsewhere(&runner.source.id(), runner.executor.elsewhere());
        }
        // First come, first served; one that has to wait for its own token's limit holds up nobody.
        let mut index = 0;
        while let Some(waiting) = self.waiting.get(index) {
            if self.dispatch.claim(&Terms::of(&waiting.runner)) {
                if let Some(Waiting { offer, polled, runner, .. }) = self.waiting.remove(index) {
                    self.start(runner, offer, &polled);
                }
            } else {
                index += 1;
            }
        }
        let wake = loop {
            match self.dispatch.next(now) {
                Step::Poll(poll, line) => self.ask(poll, line),
                Step::Wait(wake) => break wake,
            }
        };
        self.tell();
        wake.into_iter().chain(self.waiting.iter().map(|waiting| waiting.until)).min()
    }

    fn tell(&mut self) {
        for (line, update) in self.dispatch.news() {
            if let Some(runner) = self.runner(line) {
                let source = runner.source.id();
                let label = RunnerLabel { name: &runner.name, source: &source };
                self.observer.runner(label, &update);
            }
        }
    }

    fn runner(&self, line: LineId) -> Option<&Arc<Runner>> {
        self.lines.iter().find(|(id, _)| *id == line).map(|(_, runner)| runner)
    }

    /// Takes a new list of runners. One that is the same value as before goes on as it was; one with other settings takes
    /// its predecessor's turn.
    fn set(&mut self, roster: Roster) {
        let mut lines = Vec::with_capacity(roster.runners.len());
        let mut old = std::mem::take(&mut self.lines);
        for runner in roster.runners {
            let is_same = |(_, old): &(_, Arc<Runner>)| Arc::ptr_eq(old, &runner);
            let is_heir = |(_, old): &(_, Arc<Runner>)| {
                old.name == runner.name && old.source.id() == runner.source.id()
            };
            let known = old.iter().position(is_same).or_else(|| old.iter().position(is_heir));
            let id = match known {
                Some(at) => old.remove(at).0,
                None => {
                    self.next_line += 1;
                    LineId(self.next_line)
                }
            };
            lines.push((id, runner));
        }
        self.lines = lines;
        let terms = self.lines.iter().map(|(id, runner)| (*id, Terms::of(runner))).collect();
        self.dispatch.set(roster.concurrent, terms, Instant::now());
        let runners: Vec<&Arc<Runner>> = self.lines.iter().map(|(_, runner)| runner).collect();
        self.adopters.set(&runners);
        for (id, runner) in &self.lines {
            if self.adopters.is_settled(runner) {
                self.dispatch.settle(*id);
            } else {
                self.dispatch.unsettle(*id);
            }
        }
    }

    fn ask(&mut self, poll: PollId, line: LineId) {
        let Some(runner) = self.runner(line).cloned() else { return };
        let (source, executor) = (Arc::clone(&runner.source), Arc::clone(&runner.executor));
        let span = info_span!("runner", name = runner.name);
        let request = async move {
            loop {
                // As if the source held the request back: the place is for others meanwhile.
                executor.room().await;
                let answer = tokio::select! {
                    biased;
                    answer = timeout(POLL_PATIENCE, source.poll()) => answer,
                    () = executor.crowded() => continue,
                };
                return answer.unwrap_or_else(|_| {
                    Err(SourceError::new(
                        SourceErrorKind::Unavailable,
                        "the request for a job took longer than 11 minutes",
                    ))
                });
            }
        };
        let task = self.polls.spawn(request.instrument(span));
        self.asked.insert(task.id(), Asked { poll, line, runner });
    }

    fn answered(
        &mut self,
        ended: Result<(Id, Result<Polled, SourceError>), tokio::task::JoinError>,
    ) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => {
                error!(%error, "a request for a job ended unexpectedly");
                let failure = SourceError::new(SourceErrorKind::Unavailable, error.to_string());
                (error.id(), Err(failure))
            }
        };
        let Some(Asked { poll, line, runner }) = self.asked.remove(&id) else { return };
        let now = Instant::now();
        let mut polled = match result {
            Ok(polled) => polled,
            Err(error) => {
                let answer = failure(&runner.name, &error);
                self.dispatch.answered(poll, answer, now);
                return;
            }
        };
        let throttled = polled.throttled;
        let Some(offer) = polled.offer.take() else {
            let next = polled.next;
            self.dispatch.answered(poll, Answer::Nothing { next, throttled }, now);
            return;
        };
        debug!(job = %offer.job.id, line = line.0, "a job came");
        if self.dispatch.answered(poll, Answer::Job { throttled }, now) {
            self.start(runner, offer, &polled);
        } else {
            info!(job = %offer.job.id, "a job came from a request that was held back; it waits for a place");
            self.waiting.push_back(Waiting { offer, polled, runner, until: now + OFFER_PATIENCE });
        }
    }

    fn task(&mut self, runner: &Arc<Runner>) -> JobTask {
        JobTask {
            numbers: self.numbers.entry(runner.source.id()).or_default().clone(),
            runner: Arc::clone(runner),
            observer: Arc::clone(&self.observer),
            shutdown: self.shutdown.clone(),
            shares: self.shares.clone(),
            turn: None,
            deadline: None,
        }
    }

    /// Starts a job whose place has been taken.
    fn start(&mut self, runner: Arc<Runner>, offer: Offer, polled: &Polled) {
        let span = info_span!(
            "job",
            runner = runner.name,
            job = %offer.job.id,
            project = offer.job.project.id
        );
        let task = self.task(&runner);
        let queue = polled.queue.clone();
        let task = self.jobs.spawn(task.run_offer(offer, queue).instrument(span));
        let house = self.adopters.house(&runner);
        self.running.insert(task.id(), Running { source: runner.source.id(), house });
    }

    /// Takes over what other managers left behind.
    fn adopt(&mut self, adopted: Adopted) {
        let Adopted { runner, handles } = adopted;
        for handle in handles {
            self.dispatch.take(&runner.source.id());
            let span = info_span!("job", runner = runner.name, job = %handle.id());
            let task = self.task(&runner);
            let task = self.jobs.spawn(task.run_adopted(handle).instrument(span));
            let house = self.adopters.house(&runner);
            self.running.insert(task.id(), Running { source: runner.source.id(), house });
        }
        self.adopters.settle(&runner);
        let settled = self.lines.iter().filter(|(_, other)| self.adopters.is_settled(other));
        for (id, _) in settled {
            self.dispatch.settle(*id);
        }
    }

    fn job_ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                error!(%error, "a job's task ended unexpectedly; the next manager takes the job over");
                error.id()
            }
        };
        if let Some(Running { source, house }) = self.running.remove(&id) {
            self.dispatch.free(&source);
            self.adopters.left(house);
        }
    }
}

fn failure(runner: &str, error: &SourceError) -> Answer {
    let retry_after = error.retry_after;
    let (kind, error) = (error.kind, causes(error));
    match kind {
        SourceErrorKind::Forbidden => {
            error!(runner, error, "Checking for jobs... forbidden");
            Answer::Refused { retry_after }
        }
        SourceErrorKind::Unavailable | SourceErrorKind::Protocol => {
            warn!(runner, error, "Checking for jobs... failed");
            Answer::Failed { retry_after }
        }
    }
}
