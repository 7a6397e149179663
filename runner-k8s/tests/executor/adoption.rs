//! A manager dies, and another one goes on.

use runner_core::executor::{Executor as _, ExecutorErrorKind, JobEvent, JobPhase, Remarks};
use runner_core::ids::Offset;
use runner_core::outcome::Outcome;

use crate::cluster::Cluster;
use crate::world::{Agent, executor, reserve, runs, take_over, ticket, to_the_end};

const ALL: Offset = Offset(1 << 20);

#[tokio::test]
async fn k8s_80_a_running_job_is_followed_by_the_next_manager_from_where_the_source_is() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"0123456789", Outcome::Exited(3)));
    let mut first = reserve(&executor(&cluster, &agent, "m1")).await;
    first.start().await.unwrap();
    runs(&cluster);
    first.remark(Remarks { before: "hm\n".into(), ..Remarks::default() }).await.unwrap();
    drop(first);

    let second = executor(&cluster, &agent, "m2");
    let mut handles = take_over(&second).await;
    assert_eq!(handles.len(), 1);
    let handle = &mut handles[0];
    assert_eq!((handle.phase(), handle.ticket()), (JobPhase::Started, ticket()));
    let url = handle.url().unwrap();
    assert!(url.ends_with("/-/jobs/42"), "where a person finds the job: {url}");
    assert_eq!(&handle.remarks().before[..], b"hm\n");
    handle.start().await.unwrap();
    handle.follow(Offset(6), ALL).await;
    let mut tail = Vec::new();
    loop {
        match handle.event().await {
            JobEvent::Trace { offset, bytes } => {
                assert_eq!(offset.0, 6 + tail.len() as u64);
                tail.extend_from_slice(&bytes);
            }
            JobEvent::Ended(end) => {
                assert_eq!(end.outcome, Outcome::Exited(3));
                break;
            }
            _ => {}
        }
    }
    assert_eq!(tail, b"6789");
    handle.dispose().await.unwrap();
    assert!(cluster.names("pods").is_empty() && cluster.names("secrets").is_empty());
}

#[tokio::test]
async fn k8s_80_a_manager_whose_job_was_taken_over_touches_nothing() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"0123456789", Outcome::Exited(0)));
    let first_executor = executor(&cluster, &agent, "m1");
    let mut first = reserve(&first_executor).await;
    first.start().await.unwrap();

    // Cut off: it shows no sign of life any more, but goes on.
    first_executor.retire().await;
    let second_executor = executor(&cluster, &agent, "m2");
    let mut second = take_over(&second_executor).await.pop().unwrap();
    second.start().await.unwrap();
    second.follow(Offset::ZERO, ALL).await;
    let superseded =
        |error: runner_core::executor::ExecutorError| error.kind == ExecutorErrorKind::Superseded;
    assert!(superseded(first.remark(Remarks::default()).await.unwrap_err()));
    runs(&cluster);
    let (trace, _) = to_the_end(&mut *second).await;
    assert_eq!(trace, b"0123456789");
    first.follow(Offset::ZERO, ALL).await;
    let (_, end) = to_the_end(&mut *first).await;
    assert_eq!(end, JobEvent::Superseded);
    second.dispose().await.unwrap();
}

#[tokio::test]
async fn a_manager_that_lost_a_job_while_its_source_was_asked_does_not_start_it() {
    // Seeds 1713, 2076 and 2084: it was cut off, and its heir's job got a pod behind its back.
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let first_executor = executor(&cluster, &agent, "m1");
    let mut first = reserve(&first_executor).await;
    first_executor.retire().await;
    let heir = take_over(&executor(&cluster, &agent, "m2")).await.pop().unwrap();
    // Half of the tests' lease: before that nobody is taken for dead.
    tokio::time::sleep(std::time::Duration::from_millis(501)).await;
    let error = first.start().await.unwrap_err();
    assert_eq!(error.kind, ExecutorErrorKind::Superseded);
    assert!(cluster.names("pods").is_empty());
    drop(heir);
}

#[tokio::test]
async fn only_one_of_two_managers_gets_a_job() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    drop(reserve(&executor(&cluster, &agent, "m1")).await);
    let (second, third) = (executor(&cluster, &agent, "m2"), executor(&cluster, &agent, "m3"));
    let mut claimed = tokio::select! {
        handles = take_over(&second) => handles,
        handles = take_over(&third) => handles,
    };
    claimed.extend(second.recover().await.unwrap());
    claimed.extend(third.recover().await.unwrap());
    assert_eq!(claimed.len(), 1);
}

#[tokio::test]
async fn a_job_that_was_only_written_down_is_started_by_the_next_manager() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"late", Outcome::Exited(0)));
    drop(reserve(&executor(&cluster, &agent, "m1")).await);
    let second = executor(&cluster, &agent, "m2");
    let mut handle = take_over(&second).await.pop().unwrap();
    assert_eq!(handle.phase(), JobPhase::Reserved);
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, ALL).await;
    runs(&cluster);
    assert_eq!(to_the_end(&mut *handle).await.0, b"late");
}

#[tokio::test]
async fn k8s_80_a_pod_deleted_while_no_manager_ran_is_not_run_again() {
    for compacted in [false, true] {
        let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
        let mut first = reserve(&executor(&cluster, &agent, "m1")).await;
        first.start().await.unwrap();
        let pod = runs(&cluster);
        drop(first);
        cluster.delete_pod(&pod);
        if compacted {
            cluster.compact();
        }
        let second = executor(&cluster, &agent, "m2");
        let mut handle = take_over(&second).await.pop().unwrap();
        // Where nobody knows any more that there was a pod, the source has to be told of the job first.
        let phase = if compacted { JobPhase::Reserved } else { JobPhase::Started };
        assert_eq!(handle.phase(), phase, "compacted: {compacted}");
        handle.start().await.unwrap();
        let (_, end) = to_the_end(&mut *handle).await;
        let JobEvent::Ended(end) = end else { panic!("{end:?}") };
        assert!(matches!(&end.outcome, Outcome::Infra(infra) if infra.message.contains("deleted")));
        handle.dispose().await.unwrap();
        assert!(cluster.names("pods").is_empty() && cluster.names("secrets").is_empty());
    }
}

#[tokio::test]
async fn a_job_of_which_one_manager_cannot_tell_whether_it_ran_is_not_run_again_by_the_next() {
    // Seeds 694 and 1544: nothing has happened since the second manager's claim, and the third one
    // took that for "never".
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let mut first = reserve(&executor(&cluster, &agent, "m1")).await;
    first.start().await.unwrap();
    let pod = runs(&cluster);
    drop(first);
    cluster.delete_pod(&pod);
    cluster.compact();
    for manager in ["m2", "m3", "m4"] {
        let mut handle = take_over(&executor(&cluster, &agent, manager)).await.pop().unwrap();
        handle.start().await.unwrap();
        assert!(cluster.names("pods").is_empty(), "{manager} runs it again");
        let (_, end) = to_the_end(&mut *handle).await;
        let JobEvent::Ended(end) = end else { panic!("{end:?}") };
        assert!(matches!(&end.outcome, Outcome::Infra(infra) if infra.message.contains("deleted")));
    }
}

#[tokio::test]
async fn a_manager_does_not_adopt_the_jobs_that_it_has_in_its_hands() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let first = executor(&cluster, &agent, "m1");
    let handle = reserve(&first).await;
    assert!(first.recover().await.unwrap().is_empty());
    // Its task panicked: nobody else would take a living manager's job.
    drop(handle);
    assert_eq!(first.recover().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_living_managers_jobs_are_left_alone() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let first = executor(&cluster, &agent, "m1");
    let _handle = reserve(&first).await;
    let second = executor(&cluster, &agent, "m2");
    assert!(second.recover().await.unwrap().is_empty());
    // Longer than a sign of life is good for.
    let longer = std::time::Duration::from_millis(2500);
    assert!(tokio::time::timeout(longer, second.abandoned()).await.is_err());
}

#[tokio::test]
async fn a_manager_that_retires_is_followed_at_once() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let first = executor(&cluster, &agent, "m1");
    drop(reserve(&first).await);
    first.retire().await;
    let second = executor(&cluster, &agent, "m2");
    assert_eq!(second.recover().await.unwrap().len(), 1);
    second.retire().await;
    assert!(cluster.names("configmaps").is_empty(), "signs of life are left behind");
}
