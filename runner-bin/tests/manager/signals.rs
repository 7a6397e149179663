//! How a manager stops.

use std::time::Duration;

use runner_testkit::gitlab::{Endpoint, JobRef, JobSpec};
use rustix::process::Signal;

use crate::house::{House, PATIENCE, Process, until};

/// A manager with a running job.
async fn busy(house: &House, head: &str, script: &str) -> (Process, JobRef) {
    house.write(&format!("{head}\n{}", house.one()));
    let manager = house.start();
    let job = house.gitlab.enqueue(JobSpec::new("test").script(["echo started", script]));
    job.wait_trace("started", PATIENCE).await.unwrap();
    (manager, job)
}

#[tokio::test]
async fn manager_29_quit_finishes_the_running_jobs_and_asks_for_no_more() {
    let house = House::new().await;
    let (mut manager, job) = busy(&house, "concurrent = 2", "sleep 2").await;
    manager.signal(Signal::QUIT);
    manager.says("Starting graceful shutdown, waiting for builds to finish").await;
    let polls = house.gitlab.request_counts()[&Endpoint::RequestJob];
    let another = house.gitlab.enqueue(JobSpec::new("late").script(["true"]));
    assert_eq!(manager.end().await, Some(0));
    assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state.as_str(), "success");
    assert_eq!(house.gitlab.request_counts()[&Endpoint::RequestJob], polls);
    assert!(another.wait_finished(Duration::from_millis(1)).await.is_err());
    manager.says("Can exit now!").await;
}

#[tokio::test]
async fn manager_30_after_quit_a_term_leaves_the_jobs_to_the_next_manager() {
    let house = House::new().await;
    let (mut manager, job) = busy(&house, "", "sleep 4").await;
    manager.signal(Signal::QUIT);
    manager.says("Starting graceful shutdown").await;
    manager.signal(Signal::TERM);
    assert_eq!(manager.end().await, Some(0));
    assert!(job.wait_finished(Duration::from_millis(1)).await.is_err(), "it goes on in its pod");
    let _next = house.start();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!((end.state.as_str(), end.checksum_ok), ("success", Some(true)));
}

#[tokio::test]
async fn manager_31_manager_33_where_it_is_set_term_and_int_stop_the_jobs_as_gitlab_runner_does() {
    for signal in [Signal::TERM, Signal::INT] {
        let house = House::new().await;
        let (mut manager, job) = busy(&house, "on_terminate = \"stop\"", "sleep 1000").await;
        manager.signal(signal);
        assert_eq!(manager.end().await, Some(0));
        let end = job.wait_finished(PATIENCE).await.unwrap();
        let trace = String::from_utf8_lossy(&end.trace);
        assert_eq!(end.state.as_str(), "failed");
        assert_eq!(end.failure_reason.as_deref(), Some("runner_interrupted"), "{trace}");
        assert!(trace.contains("aborted: the runner was told to stop"), "{trace}");
        assert_eq!(end.checksum_ok, Some(true));
        let mut left = house.cluster.leftovers();
        until("the pod to be gone", || {
            left = house.cluster.leftovers();
            left.pods.is_empty() && left.secrets.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn manager_32_a_stop_that_takes_too_long_ends_with_1_and_a_second_signal_at_once() {
    let house = House::new().await;
    let head = "on_terminate = \"stop\"\nshutdown_timeout = 2";
    let (mut manager, _job) = busy(&house, head, "sleep 1000").await;
    // The verdict cannot be delivered, so the job cannot end.
    house.gitlab.go_away().await;
    manager.signal(Signal::TERM);
    assert_eq!(manager.end().await, Some(1));
    assert!(manager.log().contains("shutdown timed out"));
    house.gitlab.come_back().unwrap();

    let house = House::new().await;
    let (mut manager, _job) = busy(&house, "on_terminate = \"stop\"", "sleep 1000").await;
    house.gitlab.go_away().await;
    manager.signal(Signal::TERM);
    manager.says("Starting forceful shutdown").await;
    manager.signal(Signal::INT);
    assert_eq!(manager.end().await, Some(1));
    assert!(manager.log().contains("forced exit with stop signal"));
}

#[tokio::test]
async fn a_manager_takes_itself_off_the_list_when_it_is_asked_to() {
    let house = House::new().await;
    house.write(&format!("unregister_on_stop = true\n{}", house.one()));
    let mut manager = house.start();
    house.polls(1).await;
    manager.signal(Signal::QUIT);
    assert_eq!(manager.end().await, Some(0));
    let requests = house.gitlab.requests();
    let last = requests.last().unwrap();
    assert_eq!((last.method.as_str(), last.status), ("DELETE", Some(204)));
    assert!(last.path.ends_with("/runners/managers"), "{last:?}");
}
