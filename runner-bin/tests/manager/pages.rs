//! Metrics, health and debug pages of a manager that works.

use std::time::Duration;

use runner_testkit::gitlab::JobSpec;
use rustix::process::Signal;

use crate::house::{House, PATIENCE};

const ANY: &str = "listen_address = \"127.0.0.1:0\"\ncheck_interval = 1\n";

async fn get(url: &str) -> (u16, String) {
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn manager_51_manager_54_manager_55_the_pages_tell_what_happens() {
    let house = House::new().await;
    house.write(&format!("{ANY}{}", house.one()));
    let mut manager = house.start();
    let pages = manager.pages().await;
    house.polls(1).await;
    assert_eq!(get(&format!("{pages}/health/ready")).await, (200, "ready\n".into()));
    assert_eq!(get(&format!("{pages}/health/live")).await, (200, "live\n".into()));
    assert_eq!(get(&format!("{pages}/debug/process/state")).await, (200, "running\n".into()));
    assert_eq!(get(&format!("{pages}/debug/jobs/list")).await, (200, String::new()));
    assert_eq!(get(&format!("{pages}/other")).await.0, 404);
    let client = reqwest::Client::new();
    let post = client.post(format!("{pages}/metrics")).send().await.unwrap();
    assert_eq!(post.status().as_u16(), 405);

    let spec = JobSpec::new("test").script(["echo started", "sleep 10", "exit 3"]);
    let job = house.gitlab.enqueue(spec);
    job.wait_trace("started", PATIENCE).await.unwrap();
    let list = client.get(format!("{pages}/debug/jobs/list")).send().await.unwrap();
    assert_eq!(list.headers()["x-list-version"], "2");
    let list = list.text().await.unwrap();
    assert!(list.starts_with("url=http"), "{list}");
    assert!(
        list.contains(&format!("/-/jobs/{} state=running stage=step_script", job.id())),
        "{list}"
    );
    let (_, page) = get(&format!("{pages}/metrics")).await;
    let running = "state=\"running\",stage=\"step_script\",executor_stage=\"prepare\"} 1";
    assert!(page.contains(running), "{list}{page}");

    job.wait_finished(PATIENCE).await.unwrap();
    manager.signal(Signal::QUIT);
    assert_eq!(manager.end().await, Some(0));
}

#[tokio::test]
async fn manager_54_calls_are_counted_by_endpoint_and_status() {
    let house = House::new().await;
    house.write(&format!("{ANY}{}", house.one()));
    let manager = house.start();
    let pages = manager.pages().await;
    let job = house.gitlab.enqueue(JobSpec::new("test").script(["exit 3"]));
    job.wait_finished(PATIENCE).await.unwrap();
    let has = async |text: &str| {
        let (_, page) = get(&format!("{pages}/metrics")).await;
        page.lines().any(|line| line.contains(text))
    };
    for text in [
        "endpoint=\"request_job\",status=\"201\",method=\"post\"} 1",
        "endpoint=\"update_job\",status=\"200\",method=\"put\"}",
        "endpoint=\"patch_trace\",status=\"202\",method=\"patch\"}",
        "failure_reason=\"script_failure\",mode=\"traditional\"} 1",
        "gitlab_runner_job_queue_duration_seconds_count",
        "podwright_kubernetes_requests_total{runner_name=\"one\",kind=\"create\"}",
        "gitlab_runner_api_request_retries_total{path=\"jobs/{id}\",method=\"PUT\"}",
    ] {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !has(text).await {
            assert!(tokio::time::Instant::now() < deadline, "{text} is missing");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn manager_56_the_flag_beats_the_file_and_a_taken_port_is_fatal() {
    let house = House::new().await;
    house.write(&format!("listen_address = \"127.0.0.1:1\"\n{}", house.one()));
    let manager = house.start_with(&["--listen-address", "127.0.0.1:0"]);
    let pages = manager.pages().await;
    let taken = pages.trim_start_matches("http://").to_owned();
    let mut second = house.start_with(&["--listen-address", &taken]);
    assert_eq!(second.end().await, Some(1));
    second.says("cannot listen on 127.0.0.1").await;
}

#[tokio::test]
async fn manager_64_the_log_has_the_lines_that_monitoring_looks_for() {
    let house = House::new().await;
    house.write(&format!("log_format = \"json\"\n{}", house.one()));
    let manager = house.start();
    for script in ["true", "exit 3"] {
        let job = house.gitlab.enqueue(JobSpec::new("test").script([script]));
        job.wait_finished(PATIENCE).await.unwrap();
    }
    manager.says("Job failed: command terminated with exit code 3").await;
    let log = manager.log();
    let lines: Vec<serde_json::Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let find = |message: &str| {
        let found = lines.iter().find(|line| line["msg"].as_str().unwrap().starts_with(message));
        found.unwrap_or_else(|| panic!("no {message} in {log}"))
    };
    let received = find("Checking for jobs... received");
    assert_eq!(received["level"], "info");
    for field in ["job", "project", "project_full_path", "time_in_queue_seconds"] {
        assert!(!received[field].is_null(), "{field} in {received}");
    }
    for field in ["runner", "runner_name"] {
        assert!(received[field].is_string(), "{field} in {received}");
    }
    let added = find("Added job to processing list");
    let pod = added["pod_name"].as_str().unwrap_or_default();
    assert!(pod.contains("runner-testkit00-project-1-"), "{added}");
    assert_eq!((&added["builds"], &added["max_builds"]), (&1.into(), &1.into()), "{added}");
    assert_eq!(find("Submitting job to coordinator... ok")["job-status"], "success");
    assert_eq!(find("Removed job from processing list")["builds"], 0);
    let good = find("Job succeeded");
    assert_eq!(
        (good["level"].as_str(), good["job-status"].as_str()),
        (Some("info"), Some("success"))
    );
    assert!(good["duration_s"].as_f64().is_some(), "{good}");
    let bad = find("Job failed");
    assert_eq!(
        (bad["level"].as_str(), bad["job-status"].as_str()),
        (Some("warning"), Some("failed"))
    );
    assert_eq!(bad["failure_reason"], "script_failure");
    assert_eq!(bad["exit_code"], 3);
}
