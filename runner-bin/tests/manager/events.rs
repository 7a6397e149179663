//! Kubernetes events on a job's pod.

use runner_testkit::gitlab::JobSpec;
use rustix::process::Signal;
use serde_json::Value;

use crate::house::{House, PATIENCE};

/// Our events: reason and message.
async fn events(house: &House) -> Vec<(String, String)> {
    let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true);
    let namespace = house.cluster.namespace();
    let url = format!("{}/api/v1/namespaces/{namespace}/events", house.cluster.url());
    let request = client.build().unwrap().get(url).bearer_auth(house.cluster.admin_token());
    let list: Value =
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let all = list["items"].as_array().unwrap().iter();
    let ours = all.filter(|event| event["source"]["component"] == "podwright");
    ours.inspect(|event| assert!(!text(&event["involvedObject"], "uid").is_empty()))
        .map(|event| (text(event, "reason"), text(event, "message")))
        .collect()
}

/// Waits for one of these.
async fn has(house: &House, reason: &str) -> String {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let all = events(house).await;
        if let Some((_, message)) = all.iter().find(|(known, _)| known == reason) {
            return message.clone();
        }
        assert!(tokio::time::Instant::now() < deadline, "no {reason} in {all:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_unusual_about_a_job_is_an_event_on_its_pod() {
    let house = House::new().await;
    house.allow_everything();
    house.write(&house.one());
    let mut first = house.start();
    let job = house.gitlab.enqueue(JobSpec::new("ok").script(["true"]));
    job.wait_finished(PATIENCE).await.unwrap();
    assert_eq!(events(&house).await, [], "what is usual costs no request");

    let script = ["echo started", "while true; do echo .; sleep 0.3; done"];
    let job = house.gitlab.enqueue(JobSpec::new("long").script(script));
    job.wait_trace("started", PATIENCE).await.unwrap();
    first.signal(Signal::TERM);
    assert_eq!(first.end().await, Some(0));
    let _second = house.start();
    let message = has(&house, "JobAdopted").await;
    assert!(message.contains("has taken the job over"), "{message}");
    job.cancel();
    has(&house, "JobCancelled").await;
    job.wait_finished(PATIENCE).await.unwrap();
    has(&house, "JobFailed").await;
}

#[tokio::test]
async fn what_is_usual_is_an_event_where_it_is_asked_for() {
    let house = House::new().await;
    house.allow_everything();
    house.write(&format!("{}publish_all_pod_events = true\n", house.one()));
    let _manager = house.start();
    let job = house.gitlab.enqueue(JobSpec::new("ok").script(["true"]));
    job.wait_finished(PATIENCE).await.unwrap();
    has(&house, "JobRunning").await;
    has(&house, "JobSucceeded").await;
}

#[tokio::test]
async fn a_role_without_events_runs_jobs_without_a_word_about_it() {
    let house = House::new().await;
    house.write(&format!("{}publish_all_pod_events = true\n", house.one()));
    let manager = house.start();
    for _ in 0..2 {
        let job = house.gitlab.enqueue(JobSpec::new("ok").script(["true"]));
        assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state.as_str(), "success");
    }
    assert_eq!(events(&house).await, []);
    assert!(!manager.log().contains("event"), "{}", manager.log());
    assert!(house.cluster.requests().of("create", "events") <= 2, "found out once");
}
