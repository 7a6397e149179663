//! Twenty runners, a thousand jobs, and a new roster every second.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use runner_core::executor::{
    Executor, ExecutorError, JobEnd, JobEvent, JobHandle, JobPhase, JobRequest, Remarks, Stop,
};
use runner_core::ids::{JobId, Offset, SourceId};
use runner_core::job::{Job, Project};
use runner_core::manager::{Manager, Roster, Runner, StopLevel};
use runner_core::outcome::{Outcome, TraceSummary};
use runner_core::source::{
    Appended, Conclusion, Finished, JobSource, Offer, Polled, Reply, SourceError, Ticket,
};
use tokio::time::sleep;

const RUNNERS: usize = 20;
const JOBS: u64 = 1000;
const CONCURRENT: usize = 50;
const LIMIT: usize = 4;

/// What all runners together see.
#[derive(Default)]
struct Board {
    running: AtomicUsize,
    most: AtomicUsize,
    finished: Mutex<BTreeSet<u64>>,
}

/// A queue of jobs.
struct Queue {
    name: String,
    jobs: Mutex<Vec<u64>>,
    board: Arc<Board>,
}

fn job(id: u64) -> Job {
    let project = Project { id: 1, ..Project::default() };
    Job { project, ..Job::new(JobId(id), "test", ["true"]) }
}

#[async_trait]
impl JobSource for Queue {
    fn id(&self) -> SourceId {
        SourceId(self.name.clone())
    }

    async fn poll(&self) -> Result<Polled, SourceError> {
        sleep(Duration::from_millis(50)).await;
        let next = self.jobs.lock().pop();
        Ok(next.map_or_else(Polled::nothing, |id| {
            Polled::job(Offer { job: job(id), ticket: Ticket(id.to_string().into()) })
        }))
    }

    async fn append(
        &self,
        _ticket: &Ticket,
        _from: Offset,
        _chunks: Vec<Bytes>,
    ) -> Result<Appended, SourceError> {
        Ok(Appended::Stored(Reply::default()))
    }

    async fn finish(&self, ticket: &Ticket, end: &Conclusion) -> Result<Finished, SourceError> {
        assert!(end.outcome.is_success());
        let id = ticket.0.expose().parse().unwrap();
        assert!(self.board.finished.lock().insert(id), "job {id} was reported twice");
        Ok(Finished::Done)
    }
}

/// Every job takes two seconds.
struct Quick {
    board: Arc<Board>,
    own: Arc<AtomicUsize>,
}

struct QuickJob {
    id: JobId,
    ticket: Ticket,
    board: Arc<Board>,
    own: Arc<AtomicUsize>,
}

impl Drop for QuickJob {
    fn drop(&mut self) {
        self.board.running.fetch_sub(1, Ordering::SeqCst);
        self.own.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Executor for Quick {
    async fn reserve<'a>(
        &self,
        request: JobRequest<'a>,
    ) -> Result<Box<dyn JobHandle>, ExecutorError> {
        let now = self.board.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.board.most.fetch_max(now, Ordering::SeqCst);
        let own = self.own.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(own <= LIMIT, "{own} jobs of one runner");
        let (board, own) = (Arc::clone(&self.board), Arc::clone(&self.own));
        Ok(Box::new(QuickJob { id: request.job.id, ticket: request.ticket.clone(), board, own }))
    }

    async fn recover(&self) -> Result<Vec<Box<dyn JobHandle>>, ExecutorError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl JobHandle for QuickJob {
    fn id(&self) -> JobId {
        self.id
    }

    fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }

    fn place(&self) -> String {
        "memory".into()
    }

    fn phase(&self) -> JobPhase {
        JobPhase::Started
    }

    fn remarks(&self) -> Remarks {
        Remarks::default()
    }

    async fn start(&mut self) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn event(&mut self) -> JobEvent {
        sleep(Duration::from_secs(2)).await;
        JobEvent::Ended(JobEnd::new(Outcome::Exited(0), Some(TraceSummary::default())))
    }

    async fn follow(&mut self, _from: Offset, _until: Offset) {}

    async fn stop(&mut self, _stop: Stop) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn remark(&mut self, _remarks: Remarks) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn dispose(&mut self) -> Result<(), ExecutorError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn manager_78_a_thousand_jobs_of_twenty_runners_all_end_while_the_roster_changes_every_second()
 {
    let board = Arc::new(Board::default());
    let runners: Vec<(Arc<Queue>, Runner)> = (0..RUNNERS as u64)
        .map(|number| {
            let jobs = (0..JOBS).filter(|id| id % RUNNERS as u64 == number).collect();
            let name = format!("runner-{number}");
            let queue = Arc::new(Queue { name, jobs: Mutex::new(jobs), board: Arc::clone(&board) });
            let own = Arc::default();
            let executor = Arc::new(Quick { board: Arc::clone(&board), own });
            let source: Arc<dyn JobSource> = Arc::clone(&queue) as _;
            let mut runner = Runner::new(queue.name.clone(), source, executor);
            runner.limit = LIMIT;
            (queue, runner)
        })
        .collect();
    let fixed: Vec<Arc<Runner>> =
        runners.iter().map(|(_, runner)| Arc::new(runner.clone())).collect();
    let (manager, stop) = Manager::new(CONCURRENT);
    let control = manager.control();
    control.set(Roster { concurrent: CONCURRENT, runners: fixed.clone() });
    let running = tokio::spawn(manager.run());
    let mut second = 0;
    while board.finished.lock().len() < JOBS as usize {
        sleep(Duration::from_secs(1)).await;
        second += 1;
        assert!(second < 600, "{} jobs have ended", board.finished.lock().len());
        // Another one of them is away, another one is a changed value, and the limit moves.
        let mut roster = fixed.clone();
        roster[second % RUNNERS] = Arc::new(runners[second % RUNNERS].1.clone());
        roster.remove((second * 7) % RUNNERS);
        let concurrent = if second % 2 == 0 { CONCURRENT } else { CONCURRENT / 2 };
        control.set(Roster { concurrent, runners: roster });
    }
    stop.stop(StopLevel::Drain);
    tokio::time::timeout(Duration::from_secs(60), running).await.unwrap().unwrap();
    assert_eq!(board.running.load(Ordering::SeqCst), 0);
    let most = board.most.load(Ordering::SeqCst);
    assert!(most <= CONCURRENT && most > CONCURRENT / 2, "{most} at once");
    assert!(second < 120, "it took {second} s");
}
