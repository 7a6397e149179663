//! Sources and executors that do what they should not: the manager goes on, or says that it does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use runner_core::executor::{Executor, ExecutorError, JobHandle, JobRequest};
use runner_core::ids::{Offset, SourceId};
use runner_core::manager::{Manager, Runner, StopLevel};
use runner_core::source::{
    Appended, Conclusion, Finished, JobSource, Polled, Reply, SourceError, Ticket,
};
use tokio::time::{sleep, timeout};

/// Panics instead of saying that it has no jobs, if told so.
struct Queue {
    polls: AtomicUsize,
    panics: bool,
}

#[async_trait]
impl JobSource for Queue {
    fn id(&self) -> SourceId {
        SourceId("queue".to_owned())
    }

    async fn poll(&self) -> Result<Polled, SourceError> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics, "a planned panic");
        Ok(Polled::nothing())
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

/// Has no jobs and always says that there may be some to take over.
#[derive(Default)]
struct Restless {
    searches: AtomicUsize,
    panics: bool,
}

#[async_trait]
impl Executor for Restless {
    async fn reserve<'a>(&self, _: JobRequest<'a>) -> Result<Box<dyn JobHandle>, ExecutorError> {
        unreachable!("there are no jobs")
    }

    async fn recover(&self) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError> {
        self.searches.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    }

    async fn abandoned(&self) {}

    fn elsewhere(&self) -> usize {
        assert!(!self.panics, "a planned panic");
        0
    }
}

#[tokio::test(start_paused = true)]
async fn an_executor_that_always_has_more_to_find_is_not_searched_without_a_pause() {
    let source = Arc::new(Queue { polls: AtomicUsize::new(0), panics: false });
    let executor = Arc::new(Restless::default());
    let (manager, stop) = Manager::new(1);
    let runner = Runner::new("mine", source, Arc::clone(&executor) as _);
    let running = tokio::spawn(manager.runner(runner).run());
    sleep(Duration::from_secs(10)).await;
    let searches = executor.searches.load(Ordering::SeqCst);
    assert!((50..=101).contains(&searches), "{searches} searches in 10 s");
    stop.stop(StopLevel::Drain);
    timeout(Duration::from_secs(1), running).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_asked_again_and_the_manager_can_be_stopped() {
    let source = Arc::new(Queue { polls: AtomicUsize::new(0), panics: true });
    let (manager, stop) = Manager::new(1);
    let runner = Runner::new("mine", Arc::clone(&source) as _, Arc::new(Restless::default()));
    let running = tokio::spawn(manager.runner(runner).run());
    sleep(Duration::from_secs(60)).await;
    assert!(source.polls.load(Ordering::SeqCst) > 1);
    stop.stop(StopLevel::Drain);
    timeout(Duration::from_secs(1), running).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_where_nobody_can_go_on_ends_the_manager_for_all_to_see() {
    let source = Arc::new(Queue { polls: AtomicUsize::new(0), panics: false });
    let executor = Arc::new(Restless { panics: true, ..Restless::default() });
    let (manager, _stop) = Manager::new(1);
    let running = tokio::spawn(manager.runner(Runner::new("mine", source, executor)).run());
    let ended = timeout(Duration::from_secs(1), running).await.unwrap();
    assert!(ended.unwrap_err().is_panic());
}
