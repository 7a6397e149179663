//! No job is taken that would only wait in the cluster.

use std::time::Duration;

use runner_testkit::gitlab::{Endpoint, JobRef, JobSpec, JobState};

use crate::house::{House, PATIENCE};

const HEAD: &str = "concurrent = 20\ncheck_interval = 1\nlisten_address = \"127.0.0.1:0\"\n";

/// The usual runner, with this line in `[runners.kubernetes]`.
fn with(house: &House, line: &str) -> String {
    format!("{HEAD}{}{line}\n", house.one())
}

fn enqueue(house: &House, count: usize, script: &str) -> Vec<JobRef> {
    (0..count).map(|_| house.gitlab.enqueue(JobSpec::new("test").script([script]))).collect()
}

async fn all_succeed(jobs: &[JobRef]) {
    for job in jobs {
        assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state.as_str(), "success");
    }
}

#[tokio::test]
async fn while_pods_wait_for_a_node_no_more_jobs_are_taken() {
    let house = House::new().await;
    house.write(&with(&house, "max_waiting_pods = 2"));
    house.cluster.set_schedulable(false);
    let manager = house.start();
    let pages = manager.pages().await;
    let first = enqueue(&house, 2, "true");
    manager.says("no jobs are taken: as many pods as allowed wait for a node").await;
    let later = enqueue(&house, 5, "true");
    // Two intervals: in each of them a manager that minds nothing would take a job. That nothing happens
    // can only be seen by looking on.
    tokio::time::sleep(Duration::from_secs(2)).await;
    // A request that was under way may have brought one.
    assert!(later.iter().filter(|job| job.state() == JobState::Pending).count() >= 4);
    let metrics = reqwest::get(format!("{pages}/metrics")).await.unwrap().text().await.unwrap();
    let held = "podwright_acquisition_held{runner_name=\"one\",reason=\"waiting_pods\"} 1";
    assert!(metrics.contains(held), "{metrics}");
    house.cluster.set_schedulable(true);
    all_succeed(&first).await;
    manager.says("jobs are taken again").await;
    all_succeed(&later).await;
}

#[tokio::test]
async fn after_a_quota_has_refused_a_job_no_more_are_taken_until_one_of_ours_ends() {
    let house = House::new().await;
    house.write(&with(&house, ""));
    let namespace = house.cluster.namespace().to_owned();
    house.cluster.set_pod_quota(&namespace, Some(1));
    let manager = house.start();
    let running = enqueue(&house, 1, "echo started; sleep 6");
    running[0].wait_trace("started", PATIENCE).await.unwrap();
    let refused = enqueue(&house, 1, "true").remove(0);
    let end = refused.wait_finished(PATIENCE).await.unwrap();
    assert_eq!(end.failure_reason.as_deref(), Some("runner_system_failure"));
    manager.says("no jobs are taken: the namespace's quota has refused a pod").await;
    let later = enqueue(&house, 1, "true");
    all_succeed(&running).await;
    all_succeed(&later).await;
    let requests = house.gitlab.requests();
    let of = |endpoint| requests.iter().filter(move |request| request.endpoint == endpoint);
    let handed_out = of(Endpoint::RequestJob).filter(|request| request.status == Some(201));
    let last = handed_out.map(|request| request.at + request.took).max().unwrap();
    // Its verdict is its last update.
    let of_first = of(Endpoint::UpdateJob).filter(|request| request.job == Some(running[0].id()));
    let ended = of_first.map(|request| request.at).max().unwrap();
    assert!(last > ended, "taken after {last:?}, and the one before ended after {ended:?}");
}

#[tokio::test]
async fn while_the_api_server_is_away_no_jobs_are_taken() {
    let house = House::new().await;
    house.write(&with(&house, ""));
    let manager = house.start();
    // The watch begins with the first job, and notices that the server is away.
    all_succeed(&enqueue(&house, 1, "true")).await;
    house.cluster.api_away(Duration::from_secs(60));
    manager.says("no jobs are taken: the API server does not answer").await;
    let later = enqueue(&house, 2, "true");
    // Two intervals, as above.
    tokio::time::sleep(Duration::from_secs(2)).await;
    // A request that was under way may have brought one.
    assert!(later.iter().any(|job| job.state() == JobState::Pending));
    house.cluster.api_back();
    all_succeed(&later).await;
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let house = House::new().await;
    house.write(&with(&house, "max_waiting_pods = 0"));
    house.cluster.set_schedulable(false);
    let manager = house.start();
    let jobs = enqueue(&house, 12, "true");
    crate::house::until("all jobs to be taken", || {
        jobs.iter().all(|job| job.state() == JobState::Running)
    })
    .await;
    assert!(!manager.log().contains("no jobs are taken"));
    house.cluster.set_schedulable(true);
    all_succeed(&jobs).await;
}
