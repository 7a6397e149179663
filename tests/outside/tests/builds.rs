//! What a stranger would test: their source by the kit, and their source with a manager and an
//! executor that is a mock.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use outside::Builds;
use runner_core::executor::{JobEnd, JobEvent, JobPhase, Remarks};
use runner_core::ids::{JobId, Offset};
use runner_core::manager::{Manager, Runner, StopLevel};
use runner_core::mocks::{MockExecutor, MockJobHandle};
use runner_core::outcome::{Outcome, TraceSummary};
use runner_core::source::{JobSource, Ticket};
use runner_testkit::conformance::{self, Counter, Shown};

struct Desk(Builds);

#[async_trait]
impl Counter for Desk {
    async fn source(&self) -> Arc<dyn JobSource> {
        Arc::new(self.0.clone())
    }

    async fn enqueue(&self) -> JobId {
        JobId(self.0.add("true"))
    }

    async fn trace(&self, JobId(id): JobId) -> Vec<u8> {
        self.0.get(id).unwrap().log
    }

    async fn shown(&self, JobId(id): JobId) -> Shown {
        match self.0.get(id).unwrap().worked {
            None => Shown::Unfinished,
            Some(true) => Shown::Success,
            Some(false) => Shown::NoSuccess,
        }
    }

    async fn cancel(&self, JobId(id): JobId) -> bool {
        self.0.forget(id);
        true
    }
}

#[tokio::test]
async fn the_list_of_builds_keeps_what_a_source_promises() {
    conformance::source(&Desk(Builds::default())).await.assert_kept();
}

/// A job that says `hello` and ends like this.
fn job(id: u64, outcome: Outcome) -> MockJobHandle {
    const SAID: &[u8] = b"hello\n";
    let mut handle = MockJobHandle::new();
    handle.expect_id().return_const(JobId(id));
    handle.expect_ticket().returning(move || Ticket(id.to_string().into()));
    handle.expect_place().return_const("nowhere".to_owned());
    handle.expect_phase().return_const(JobPhase::Reserved);
    handle.expect_remarks().returning(Remarks::default);
    handle.expect_remark().returning(|_| Ok(()));
    handle.expect_start().times(1).returning(|| Ok(()));
    handle.expect_follow().returning(|_, _| ());
    let mut events = vec![
        JobEvent::Running,
        JobEvent::Trace { offset: Offset::ZERO, bytes: Bytes::from_static(SAID) },
        JobEvent::Ended(JobEnd {
            outcome,
            trace: Some(TraceSummary::of(SAID)),
            stages: Vec::new(),
            explained: true,
            detail: None,
        }),
    ]
    .into_iter();
    handle.expect_event().returning(move || events.next().expect("nobody asks after the end"));
    handle.expect_dispose().times(1).returning(|| Ok(()));
    handle
}

#[tokio::test(start_paused = true)]
async fn a_manager_brings_log_and_verdict_to_the_list() {
    let builds = Builds::default();
    let (good, bad) = (builds.add("make"), builds.add("make check"));
    let mut executor = MockExecutor::new();
    executor.expect_recover().returning(|| Ok(Vec::new()));
    executor.expect_reserve().times(2).returning(move |request| {
        let JobId(id) = request.job.id;
        let outcome = if id == good { Outcome::Exited(0) } else { Outcome::Exited(2) };
        Ok(Box::new(job(id, outcome)))
    });
    let (manager, stop) = Manager::new(1);
    let runner = Runner::new("mine", Arc::new(builds.clone()), Arc::new(executor));
    let mut running = tokio::spawn(manager.runner(runner).run());
    tokio::select! {
        () = builds.all_done() => {}
        ended = &mut running => panic!("the manager ended by itself: {ended:?}"),
    }
    stop.stop(StopLevel::Drain);
    running.await.unwrap();
    assert_eq!(builds.get(good).unwrap().worked, Some(true));
    assert_eq!(builds.get(bad).unwrap().worked, Some(false));
    for id in [good, bad] {
        assert!(builds.get(id).unwrap().log.ends_with(b"hello\n"));
    }
}
