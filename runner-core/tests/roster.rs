//! Several runners of one manager, and how they come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use runner_core::executor::{Executor, ExecutorError, JobHandle, JobRequest};
use runner_core::ids::{Offset, SourceId};
use runner_core::manager::{Control, Manager, Roster, Runner, StopHandle, StopLevel};
use runner_core::source::{
    Appended, Conclusion, Finished, JobSource, NextPoll, Polled, Reply, SourceError,
    SourceErrorKind, Ticket,
};
use tokio::time::{Instant, sleep};

/// Has no jobs; holds every request back for so long.
struct Empty {
    name: &'static str,
    hold: Duration,
    polls: Mutex<Vec<Duration>>,
    since: Instant,
    under_way: AtomicUsize,
    refuses: bool,
}

impl Empty {
    fn new(name: &'static str, hold: u64) -> Arc<Self> {
        Arc::new(Self {
            name,
            hold: Duration::from_secs(hold),
            polls: Mutex::default(),
            since: Instant::now(),
            under_way: AtomicUsize::new(0),
            refuses: false,
        })
    }

    fn seconds(&self) -> Vec<u64> {
        self.polls.lock().iter().map(Duration::as_secs).collect()
    }
}

struct Under<'a>(&'a AtomicUsize);

impl Drop for Under<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl JobSource for Empty {
    fn id(&self) -> SourceId {
        SourceId(self.name.to_owned())
    }

    async fn poll(&self) -> Result<Polled, SourceError> {
        self.polls.lock().push(self.since.elapsed());
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let _under = Under(&self.under_way);
        sleep(self.hold).await;
        if self.refuses {
            return Err(SourceError::new(SourceErrorKind::Forbidden, "no"));
        }
        let mut polled = Polled::nothing();
        polled.next = if self.hold.is_zero() { NextPoll::Later } else { NextPoll::Now };
        Ok(polled)
    }

    async fn append(
        &self,
        _ticket: &Ticket,
        _from: Offset,
        _chunks: Vec<Bytes>,
    ) -> Result<Appended, SourceError> {
        Ok(Appended::Stored(Reply::default()))
    }

    async fn finish(
        &self,
        _ticket: &Ticket,
        _conclusion: &Conclusion,
    ) -> Result<Finished, SourceError> {
        Ok(Finished::Done)
    }
}

/// Never runs anything; counts who asks.
#[derive(Default)]
struct Idle {
    recovered: AtomicUsize,
    retired: AtomicUsize,
}

#[async_trait]
impl Executor for Idle {
    async fn reserve<'a>(&self, _: JobRequest<'a>) -> Result<Box<dyn JobHandle>, ExecutorError> {
        unreachable!("there are no jobs")
    }

    async fn recover(&self) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError> {
        self.recovered.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    }

    async fn retire(&self) {
        self.retired.fetch_add(1, Ordering::SeqCst);
    }
}

fn runner(source: &Arc<Empty>, executor: &Arc<Idle>) -> Arc<Runner> {
    Arc::new(Runner::new(source.name, Arc::clone(source) as _, Arc::clone(executor) as _))
}

fn start(
    concurrent: usize,
    runners: Vec<Arc<Runner>>,
) -> (Control, StopHandle, tokio::task::JoinHandle<()>) {
    let (manager, stop) = Manager::new(1);
    let control = manager.control();
    control.set(Roster { concurrent, runners });
    (control, stop, tokio::spawn(manager.run()))
}

#[tokio::test(start_paused = true)]
async fn with_one_place_all_runners_have_a_request_held_back_within_seconds() {
    let executor = Arc::new(Idle::default());
    let sources = [Empty::new("a", 50), Empty::new("b", 50), Empty::new("c", 50)];
    let runners = sources.iter().map(|source| runner(source, &executor)).collect();
    let (_control, stop, running) = start(1, runners);
    sleep(Duration::from_secs(7)).await;
    for source in &sources {
        assert_eq!(source.under_way.load(Ordering::SeqCst), 1, "{}", source.name);
    }
    stop.stop(StopLevel::Drain);
    tokio::time::timeout(Duration::from_secs(1), running).await.unwrap().unwrap();
    assert!(sources.iter().all(|source| source.under_way.load(Ordering::SeqCst) == 0));
}

#[tokio::test(start_paused = true)]
async fn manager_25_runners_come_and_go_while_others_go_on() {
    let executor = Arc::new(Idle::default());
    let (a, b) = (Empty::new("a", 0), Empty::new("b", 0));
    let (first, second) = (runner(&a, &executor), runner(&b, &Arc::new(Idle::default())));
    let (control, stop, running) = start(4, vec![Arc::clone(&first)]);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(a.seconds(), [0, 3, 6, 9]);
    control.set(Roster { concurrent: 4, runners: vec![Arc::clone(&first), second] });
    sleep(Duration::from_secs(6)).await;
    assert_eq!(a.seconds(), [0, 3, 6, 9, 12, 15], "its pace is its own");
    assert!(b.seconds().len() >= 2, "{:?}", b.seconds());
    control.set(Roster { concurrent: 4, runners: Vec::new() });
    sleep(Duration::from_secs(30)).await;
    assert_eq!(a.seconds().len(), 6);
    assert_eq!(executor.retired.load(Ordering::SeqCst), 1, "nobody uses it, and it has no jobs");
    assert_eq!(executor.recovered.load(Ordering::SeqCst), 1);
    stop.stop(StopLevel::Drain);
    running.await.unwrap();
    assert_eq!(executor.retired.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_changed_runner_on_the_same_executor_does_not_search_for_jobs_again() {
    let executor = Arc::new(Idle::default());
    let a = Empty::new("a", 0);
    let (control, stop, running) = start(4, vec![runner(&a, &executor)]);
    for _ in 0..10 {
        sleep(Duration::from_secs(3)).await;
        control.set(Roster { concurrent: 4, runners: vec![runner(&a, &executor)] });
    }
    sleep(Duration::from_secs(3)).await;
    assert_eq!(executor.recovered.load(Ordering::SeqCst), 1);
    assert_eq!(executor.retired.load(Ordering::SeqCst), 0);
    assert!(a.seconds().len() >= 10, "{:?}", a.seconds());
    stop.stop(StopLevel::Drain);
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn manager_25_a_runner_that_changes_every_second_still_asks_at_its_pace() {
    let executor = Arc::new(Idle::default());
    let sources = [Empty::new("a", 0), Empty::new("b", 0), Empty::new("c", 0)];
    // Each time with settings of its own, as after a reload that changed them.
    let changed = || sources.iter().map(|source| runner(source, &executor)).collect::<Vec<_>>();
    let (control, stop, running) = start(4, changed());
    for _ in 0..30 {
        sleep(Duration::from_secs(1)).await;
        control.set(Roster { concurrent: 4, runners: changed() });
    }
    for source in &sources {
        let asked = source.seconds().len();
        assert!((10..=11).contains(&asked), "{}: {:?}", source.name, source.seconds());
    }
    stop.stop(StopLevel::Drain);
    running.await.unwrap();
}
