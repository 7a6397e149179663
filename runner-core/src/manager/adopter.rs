//! Looks for jobs that other managers left behind: one task for each executor, however many runners
//! use it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span, warn};

use super::backoff::Backoff;
use super::runner::Runner;
use super::shutdown::Shutdown;
use crate::causes::causes;
use crate::executor::{Executor, JobHandle};

/// How long an executor may take to tell other managers that this one ends.
const RETIRE_PATIENCE: Duration = Duration::from_secs(5);
/// Shortest time between two searches the first of which has found nothing: an executor whose
/// `abandoned` comes back at once would keep a processor and its server busy with them.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);

/// Jobs that were left behind, for this runner.
pub(super) struct Adopted {
    pub(super) runner: Arc<Runner>,
    pub(super) handles: Vec<Box<dyn JobHandle>>,
}

/// An executor in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HouseId(u64);

/// The executors of all runners that are there, and of those that are gone and have jobs.
pub(super) struct Adopters {
    houses: Vec<House>,
    next: u64,
    tasks: JoinSet<()>,
    sender: mpsc::Sender<Adopted>,
    shutdown: Shutdown,
}

struct House {
    id: HouseId,
    /// The runner that adopts for it: the last one that uses it.
    runner: Arc<Runner>,
    settled: bool,
    jobs: usize,
    /// Ends the search; `None`: no runner uses it any more.
    search: Option<CancellationToken>,
}

impl Adopters {
    /// The channel holds one message: an adopter that has found something waits until it is taken.
    pub(super) fn new(shutdown: Shutdown) -> (Self, mpsc::Receiver<Adopted>) {
        let (sender, receiver) = mpsc::channel(1);
        let tasks = JoinSet::new();
        (Self { houses: Vec::new(), next: 0, tasks, sender, shutdown }, receiver)
    }

    /// These runners are there, and no others.
    pub(super) fn set(&mut self, runners: &[&Arc<Runner>]) {
        for house in &mut self.houses {
            match runners.iter().find(|runner| same(&runner.executor, &house.runner.executor)) {
                Some(runner) => house.runner = Arc::clone(runner),
                None => {
                    if let Some(search) = house.search.take() {
                        search.cancel();
                    }
                }
            }
        }
        self.let_go();
        for runner in runners {
            let known = self.houses.iter().any(|house| {
                house.search.is_some() && same(&house.runner.executor, &runner.executor)
            });
            if !known {
                self.open(runner);
            }
        }
    }

    fn open(&mut self, runner: &Arc<Runner>) {
        self.next += 1;
        let search = CancellationToken::new();
        let adopter = Adopter {
            runner: Arc::clone(runner),
            search: search.clone(),
            shutdown: self.shutdown.clone(),
            sender: self.sender.clone(),
        };
        let span = info_span!("runner", name = runner.name);
        self.tasks.spawn(adopter.run().instrument(span));
        self.houses.push(House {
            id: HouseId(self.next),
            runner: Arc::clone(runner),
            settled: false,
            jobs: 0,
            search: Some(search),
        });
    }

    fn position(&self, runner: &Runner) -> Option<usize> {
        self.houses.iter().rposition(|house| same(&house.runner.executor, &runner.executor))
    }

    /// Counts a job of this runner.
    pub(super) fn house(&mut self, runner: &Runner) -> HouseId {
        match self.position(runner) {
            Some(at) => {
                self.houses[at].jobs += 1;
                self.houses[at].id
            }
            // A job that came after its runner had gone, with all of its jobs.
            None => HouseId(0),
        }
    }

    /// A job is over.
    pub(super) fn left(&mut self, id: HouseId) {
        if let Some(house) = self.houses.iter_mut().find(|house| house.id == id) {
            house.jobs -= 1;
        }
        self.let_go();
    }

    /// It is known which jobs this runner's executor has.
    pub(super) fn settle(&mut self, runner: &Runner) {
        if let Some(at) = self.position(runner) {
            self.houses[at].settled = true;
        }
    }

    pub(super) fn is_settled(&self, runner: &Runner) -> bool {
        self.position(runner).is_some_and(|at| self.houses[at].settled)
    }

    /// An executor that nobody uses, and that has no jobs, is told so.
    fn let_go(&mut self) {
        let (keep, gone) = std::mem::take(&mut self.houses)
            .into_iter()
            .partition(|house| house.search.is_some() || house.jobs > 0);
        self.houses = keep;
        for house in gone {
            self.tasks.spawn(retire(Arc::clone(&house.runner.executor)));
        }
    }

    /// Whether a task may still find something.
    pub(super) fn is_busy(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Waits until one of the tasks has ended.
    pub(super) async fn ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// The manager ends.
    pub(super) async fn retire_all(mut self) {
        for house in self.houses.drain(..) {
            self.tasks.spawn(retire(Arc::clone(&house.runner.executor)));
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

async fn retire(executor: Arc<dyn Executor>) {
    if timeout(RETIRE_PATIENCE, executor.retire()).await.is_err() {
        info!("could not tell other managers that this one ends; they find out");
    }
}

fn same(one: &Arc<dyn Executor>, other: &Arc<dyn Executor>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}

/// The search of one executor.
struct Adopter {
    runner: Arc<Runner>,
    search: CancellationToken,
    shutdown: Shutdown,
    sender: mpsc::Sender<Adopted>,
}

impl Adopter {
    async fn run(mut self) {
        while let Some(handles) = self.recover().await {
            let next =
                Instant::now() + if handles.is_empty() { SEARCH_PAUSE } else { Duration::ZERO };
            let adopted = Adopted { runner: Arc::clone(&self.runner), handles };
            // Not raced against anything: a job that was claimed must be followed.
            if self.sender.send(adopted).await.is_err() {
                return;
            }
            let more = async {
                self.runner.executor.abandoned().await;
                sleep_until(next).await;
            };
            tokio::select! {
                () = more => {}
                () = self.search.cancelled() => return,
                () = self.shutdown.drain() => return,
            }
        }
    }

    async fn recover(&mut self) -> Option<Vec<Box<dyn JobHandle>>> {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            let result = tokio::select! {
                result = self.runner.executor.recover() => result,
                // What was claimed just now is left with the rest.
                () = self.shutdown.leave() => return None,
            };
            let error = match result {
                Ok(handles) => return Some(handles),
                Err(error) => error,
            };
            let wait = backoff.wait(error.retry_after);
            warn!(
                error = causes(&error),
                ?wait,
                "cannot find out which jobs were left behind; until then this runner takes none"
            );
            tokio::select! {
                () = sleep(wait) => {}
                () = self.search.cancelled() => return None,
                () = self.shutdown.drain() => return None,
            }
        }
    }
}
