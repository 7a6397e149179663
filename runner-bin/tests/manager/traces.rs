//! Traces of jobs, against a receiver that looks at the spans.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use runner_testkit::gitlab::JobSpec;
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::house::{House, PATIENCE};

/// A collector; the first `refusals` requests get a 503.
async fn collector(refusals: u32) -> (String, mpsc::Receiver<Value>) {
    let (sender, receiver) = mpsc::channel(16);
    let mut left = refusals;
    let refusals = std::sync::Arc::new(parking_lot::Mutex::new(move || {
        let refuse = left > 0;
        left = left.saturating_sub(1);
        refuse
    }));
    let take = async move |headers: HeaderMap, Json(body): Json<Value>| {
        if (refusals.lock())() {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        assert_eq!(headers["x-key"], "a b");
        sender.send(body).await.unwrap();
        StatusCode::OK
    };
    let app = axum::Router::new().route("/v1/traces", post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (format!("http://{address}"), receiver)
}

fn nanoseconds(span: &Value, key: &str) -> i128 {
    span[key].as_str().unwrap().parse().unwrap()
}

/// Attributes by name.
fn attributes(of: &Value) -> BTreeMap<&str, &str> {
    let all = of["attributes"].as_array().unwrap();
    all.iter()
        .map(|one| (one["key"].as_str().unwrap(), one["value"]["stringValue"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_job_is_a_trace_from_the_queue_to_the_clean_up() {
    let house = House::new().await;
    let (endpoint, mut traces) = collector(1).await;
    house.write(&house.one());
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b"),
        ("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=test"),
    ];
    let job = house.gitlab.enqueue(JobSpec::new("unit test").script(["echo hello", "exit 3"]));
    let mut manager = house.start_in(&environment);
    job.wait_finished(PATIENCE).await.unwrap();
    let body = timeout(PATIENCE, traces.recv()).await.unwrap().unwrap();
    let resource = &body["resourceSpans"][0];
    let about = attributes(&resource["resource"]);
    assert_eq!((about["service.name"], about["k8s.cluster.name"]), ("podwright", "test"));
    let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
    let find = |name: &str| {
        let found = spans.iter().find(|span| span["name"] == name);
        found.unwrap_or_else(|| panic!("no span {name} in {body:#}"))
    };
    let root = find("unit test");
    assert_eq!(root["traceId"].as_str().unwrap().len(), 32);
    assert!(root.get("parentSpanId").is_none());
    assert_eq!(root["status"]["code"], 2);
    let about = attributes(root);
    assert_eq!(about["cicd.pipeline.task.run.id"], job.id().to_string());
    assert_eq!((about["error.type"], about["podwright.runner"]), ("script_failure", "one"));
    assert!(about["cicd.pipeline.task.run.url.full"].ends_with(&format!("/-/jobs/{}", job.id())));
    assert!(about["k8s.pod.name"].starts_with("runner-"));
    let mut ids = vec![root["spanId"].as_str().unwrap()];
    for name in
        ["queue", "reserve", "schedule", "pull", "start", "get_sources", "step_script", "clean-up"]
    {
        let span = find(name);
        assert_eq!(span["parentSpanId"], root["spanId"], "{name}");
        assert_eq!(span["traceId"], root["traceId"], "{name}");
        let (began, ended) =
            (nanoseconds(span, "startTimeUnixNano"), nanoseconds(span, "endTimeUnixNano"));
        assert!(began <= ended, "{name}");
        // The pod's clock has milliseconds.
        assert!(began >= nanoseconds(root, "startTimeUnixNano") - 1_000_000, "{name}");
        assert!(ended <= nanoseconds(root, "endTimeUnixNano"), "{name}");
        ids.push(span["spanId"].as_str().unwrap());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 9, "ids of spans are different");
    assert_eq!(find("step_script")["status"]["message"], "exit code 3");
    assert!(!body.to_string().contains(&job.token()), "no secrets");
    manager.signal(Signal::QUIT);
    assert_eq!(manager.end().await, Some(0));
}

#[tokio::test]
async fn a_collector_that_does_not_answer_holds_up_neither_jobs_nor_the_end() {
    let house = House::new().await;
    // Accepts, and says nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    house.write(&format!("concurrent = 3\n{}", house.one()));
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let mut manager = house.start_in(&environment);
    for _ in 0..3 {
        let job = house.gitlab.enqueue(JobSpec::new("test").script(["true"]));
        assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state.as_str(), "success");
    }
    manager.signal(Signal::QUIT);
    let ended = timeout(Duration::from_secs(20), manager.end()).await;
    assert_eq!(ended.unwrap(), Some(0));
    manager.says("the last traces could not be sent in time").await;
}

#[tokio::test]
async fn a_protocol_that_is_not_spoken_is_an_error_in_the_log_and_jobs_run() {
    let house = House::new().await;
    house.write(&house.one());
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    let manager = house.start_in(&environment);
    manager.says("traces are sent as http/json only").await;
    let job = house.gitlab.enqueue(JobSpec::new("test").script(["true"]));
    assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state.as_str(), "success");
}
