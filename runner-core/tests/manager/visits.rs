//! Jobs that people look into by web terminals.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use runner_core::ids::JobId;
use runner_core::manager::{Manager, Runner, StopLevel};
use runner_core::outcome::{Outcome, TraceSummary};
use runner_core::session::{Door, SessionKey, Sessions, Visitor, Visitors};
use runner_core::source::{Directive, JobSource};

use crate::memory::{OneLeftBehind, Script, World};

/// Puts somebody into every job at once.
#[derive(Default)]
struct Full {
    inside: Mutex<Option<Visitor>>,
    open: Arc<Mutex<Vec<String>>>,
}

struct Opened(Arc<Mutex<Vec<String>>>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.lock().clear();
    }
}

impl Sessions for Full {
    fn open(
        &self,
        _job: JobId,
        key: SessionKey,
        _door: Arc<dyn Door>,
        visitors: Visitors,
    ) -> Box<dyn Send + Sync> {
        *self.inside.lock() = Some(visitors.enter());
        self.open.lock().push(key.id);
        Box::new(Opened(Arc::clone(&self.open)))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(1800)
    }
}

/// Runs a job with somebody inside who leaves after `stay`; how long it took.
async fn visited(world: &World, stay: Duration) -> Duration {
    let sessions = Arc::new(Full::default());
    let script = Script::says("hello\n", Outcome::Exited(0));
    let executor = Arc::new(OneLeftBehind { script, log: Arc::clone(&world.log) });
    let (manager, stop) = Manager::new(1);
    let source: Arc<dyn JobSource> = Arc::clone(&world.source) as _;
    let mut runner = Runner::new("test", source, executor);
    runner.sessions = Some(Arc::clone(&sessions) as _);
    let began = tokio::time::Instant::now();
    let running = tokio::spawn(manager.runner(runner).run());
    let leave = async {
        tokio::time::sleep(stay).await;
        sessions.inside.lock().take();
        std::future::pending::<()>().await;
    };
    let over = async {
        while world.log.lock().disposed == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = leave => {}
        () = over => {}
    }
    assert!(sessions.open.lock().is_empty(), "nobody may come in after the end");
    stop.stop(StopLevel::Leave);
    running.await.expect("the manager does not panic");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn manager_61_a_job_that_is_over_waits_for_a_terminal_to_be_closed() {
    let world = World::new(|_| {});
    let took = visited(&world, Duration::from_secs(600)).await;
    assert!((600..610).contains(&took.as_secs()), "{took:?}");
    let trace = String::from_utf8(world.trace()).unwrap();
    assert!(trace.contains("Terminal is connected, will time out in 1800s"), "{trace}");
    let verdict = world.only_verdict();
    assert_eq!(verdict.outcome, Outcome::Exited(0));
    assert_eq!(verdict.trace, Some(TraceSummary::of(trace.as_bytes())));
    assert!(world.source.state.lock().touches >= 19, "the source hears of it meanwhile");
}

#[tokio::test(start_paused = true)]
async fn manager_61_a_job_waits_for_a_terminal_no_longer_than_the_session_timeout() {
    let world = World::new(|_| {});
    let took = visited(&world, Duration::from_secs(99_999)).await;
    assert!((1800..1810).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn manager_61_a_cancelled_job_waits_for_no_terminal() {
    let world = World::new(|state| {
        state.directives = [Directive::Continue, Directive::Continue, Directive::Cancel].into();
    });
    let took = visited(&world, Duration::from_secs(99_999)).await;
    assert!(took < Duration::from_secs(60), "{took:?}");
}
