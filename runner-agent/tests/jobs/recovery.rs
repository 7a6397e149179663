//! Managers and supervisors that die, and what is left of the job then: everything.

use runner_core::executor::{Executor, JobEvent, Stop};
use runner_core::ids::Offset;
use runner_core::outcome::Outcome;
use rustix::process::{Signal, kill_process};
use tokio::time::timeout;

use crate::world::{PATIENCE, World, follow, stop, wait_for};

#[tokio::test]
async fn a_job_whose_manager_is_gone_goes_on_and_the_next_one_reads_all_of_it() {
    let world = World::new(&["echo first", "sleep 1", "echo second", "exit 6"]);
    let mut handle = world.start().await;
    wait_for(&mut *handle, "\nfirst\n").await;
    drop(handle);

    let mut recovered = world.executor.recover().await.unwrap();
    assert_eq!(recovered.len(), 1);
    let mut handle = recovered.remove(0);
    let seen = follow(&mut *handle, Offset::ZERO).await;
    assert_eq!(seen.end.outcome, Outcome::Exited(6));
    assert!(seen.text().contains("\nfirst\n") && seen.text().contains("\nsecond\n"));
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn a_trace_can_be_followed_from_any_offset() {
    let world = World::new(&["echo a rather long line of output to be cut anywhere"]);
    let mut handle = world.start().await;
    let whole = follow(&mut *handle, Offset::ZERO).await.trace;
    for from in [1, 17, whole.len() / 2, whole.len() - 1, whole.len()] {
        let seen = follow(&mut *handle, Offset(from as u64)).await;
        assert_eq!(seen.trace, &whole[from..]);
    }
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn nothing_beyond_what_was_asked_for_is_handed_out() {
    let world = World::new(&["head -c 100000 /dev/zero | tr '\\0' x"]);
    let mut handle = world.start().await;
    handle.follow(Offset::ZERO, Offset(1000)).await;
    let mut bytes = 0;
    let finishing = timeout(PATIENCE, async {
        loop {
            match handle.event().await {
                JobEvent::Trace { bytes: piece, .. } => bytes += piece.len(),
                JobEvent::Finishing => return,
                JobEvent::Ended(end) => panic!("ended with most of the trace unread: {end:?}"),
                _ => {}
            }
        }
    });
    finishing.await.expect("the job's end is told although its trace was not asked for");
    assert_eq!(bytes, 1000);
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn a_manager_with_an_older_claim_is_refused() {
    let world = World::new(&["echo started", "sleep 2"]);
    let mut old = world.start().await;
    wait_for(&mut *old, "\nstarted\n").await;
    let mut new = world.executor.recover().await.unwrap().remove(0);
    let seen = follow(&mut *new, Offset::ZERO).await;
    assert!(seen.end.outcome.is_success());
    let error = old.remark(old.remarks()).await.unwrap_err();
    assert_eq!(error.kind, runner_core::executor::ExecutorErrorKind::Superseded);
    new.dispose().await.unwrap();
}

#[tokio::test]
async fn a_supervisor_that_was_killed_goes_on_with_the_script_and_loses_no_byte() {
    let script =
        "i=0; while [ $i -lt 200 ]; do echo line $i of many; i=$((i+1)); sleep 0.01; done; exit 8";
    let world = World::new(&[script]);
    let mut handle = world.start().await;
    for after in ["line 20 of", "line 60 of", "line 120 of"] {
        wait_for(&mut *handle, after).await;
        kill_process(world.pid("supervise"), Signal::KILL).unwrap();
        drop(handle);
        // What the kubelet does: the same container again, with its volumes.
        world.executor.restart_supervisor(world.job.id).await.unwrap();
        handle = world.executor.recover().await.unwrap().remove(0);
    }
    let seen = follow(&mut *handle, Offset::ZERO).await;
    let text = seen.text();
    assert_eq!(seen.end.outcome, Outcome::Exited(8), "{text}");
    let lines: Vec<_> = text.lines().filter(|line| line.ends_with(" of many")).collect();
    let expected: Vec<_> = (0..200).map(|line| format!("line {line} of many")).collect();
    assert_eq!(lines, expected, "each line once and in order");
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn a_verdict_survives_the_supervisor_that_wrote_it() {
    let world = World::new(&["exit 3"]);
    let mut handle = world.start().await;
    let first = follow(&mut *handle, Offset::ZERO).await;
    kill_process(world.pid("supervise"), Signal::KILL).unwrap();
    drop(handle);
    world.executor.restart_supervisor(world.job.id).await.unwrap();
    let mut handle = world.executor.recover().await.unwrap().remove(0);
    let second = follow(&mut *handle, Offset::ZERO).await;
    assert_eq!(second.end.outcome, Outcome::Exited(3));
    assert_eq!(first.trace, second.trace);
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn a_job_whose_processes_are_gone_is_a_system_failure_and_never_a_success() {
    let world = World::new(&["echo started", "sleep 1000"]);
    let mut handle = world.start().await;
    wait_for(&mut *handle, "\nstarted\n").await;
    for role in ["supervise", "serve"] {
        kill_process(world.pid(role), Signal::KILL).unwrap();
    }
    let seen = follow(&mut *handle, Offset::ZERO).await;
    assert!(matches!(seen.end.outcome, Outcome::Infra(_)), "{:?}", seen.end);
    assert_eq!(seen.end.trace, None);
    assert!(!seen.end.explained);
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn a_job_whose_build_container_never_comes_can_be_stopped_at_once() {
    for how in [Stop::Cancel, Stop::Abort] {
        let world = World::new(&["echo not reached"]).after_script(&["echo not reached either"]);
        let mut handle = world.reserve().await;
        // The helper alone, as while the build image is pulled.
        world.executor.restart_supervisor(world.job.id).await.unwrap();
        wait_for(&mut *handle, "Executing \"step_script\"").await;
        let seen = stop(&mut *handle, how).await;
        assert_eq!(seen.end.outcome, Outcome::Cancelled);
        assert!(seen.end.trace.is_some());
        assert!(!seen.text().contains("Running after_script"), "{}", seen.text());
        handle.dispose().await.unwrap();
    }
}
