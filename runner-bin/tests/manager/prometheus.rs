//! A real Prometheus scrapes a manager under load, and is asked what dashboards and an autoscaler ask.
//!
//! Needs `prometheus` and `promtool`: `.ci/run prometheus` brings both. Without them it says so.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runner_testkit::gitlab::JobSpec;
use serde_json::Value;
use tokio::time::Instant;

use crate::house::{House, PATIENCE};

/// What dashboards and alerts for GitLab Runner ask; all have an answer under load.
const QUERIES: &[&str] = &[
    // The HPA of the official chart, by way of an adapter.
    "sum(gitlab_runner_jobs)",
    "sum by (state, stage) (gitlab_runner_jobs{state!=\"idle\"}) > 0",
    "sum(gitlab_runner_jobs) / sum(gitlab_runner_concurrent)",
    "sum by (runner) (rate(gitlab_runner_jobs_total[1m])) > 0",
    "histogram_quantile(0.95, sum by (le) (rate(gitlab_runner_job_duration_seconds_bucket[1m]))) >= 0",
    "histogram_quantile(0.5, sum by (le) \
     (rate(gitlab_runner_job_queue_duration_seconds_bucket[1m]))) >= 0",
    "sum by (failure_reason) (increase(gitlab_runner_failed_jobs_total[1m])) >= 0",
    "sum by (endpoint, status) (rate(gitlab_runner_api_request_statuses_total[1m])) > 0",
    "histogram_quantile(0.9, sum by (le, endpoint) \
     (rate(gitlab_runner_api_request_duration_seconds_bucket{endpoint=\"patch_trace\"}[1m]))) >= 0",
    "rate(process_cpu_seconds_total[1m]) > 0",
    "process_resident_memory_bytes < 150e6",
    "time() - process_start_time_seconds < 600",
    "gitlab_runner_version_info{name=\"gitlab-runner\"} == 1",
    "gitlab_runner_process_state_info{state=\"running\"} == 1",
    "increase(gitlab_runner_errors_total{level=\"error\"}[1m]) >= 0",
    // Podwright's own.
    "histogram_quantile(0.9, sum by (le, phase) (rate(podwright_job_start_seconds_bucket[1m]))) > 0",
    "rate(podwright_stream_bytes_total[1m]) > 0",
    "sum by (kind) (rate(podwright_kubernetes_requests_total{kind=\"create\"}[1m])) > 0",
    "histogram_quantile(0.9, sum by (le) (rate(podwright_trace_lag_seconds_bucket[1m]))) >= 0",
];

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn program(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        eprintln!("left out: {variable} is not set; `.ci/run prometheus` sets it");
    }
    path
}

async fn page(pages: &str) -> String {
    reqwest::get(format!("{pages}/metrics")).await.unwrap().text().await.unwrap()
}

/// `promtool check metrics`: what it has against the page.
fn check(promtool: &Path, page: &str) -> String {
    use std::io::Write as _;
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn ask(server: &str, path: &str, query: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = reqwest::Url::parse_with_params(&format!("{server}{path}"), [("query", query)]);
    let Ok(answer) = client.get(url.unwrap()).send().await else { return Value::Null };
    let text = answer.text().await.unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

#[tokio::test]
async fn manager_51_manager_73_a_prometheus_scrapes_a_manager_under_load() {
    let (Some(prometheus), Some(promtool)) =
        (program("PODWRIGHT_PROMETHEUS"), program("PODWRIGHT_PROMTOOL"))
    else {
        return;
    };
    let house = House::new().await;
    let head = "listen_address = \"127.0.0.1:0\"\nconcurrent = 6\ncheck_interval = 1\n";
    house.write(&format!("{head}{}", house.one()));
    let manager = house.start();
    let pages = manager.pages().await;
    let target = pages.trim_start_matches("http://");
    let config = format!(
        "global: {{ scrape_interval: 500ms }}\nscrape_configs:\n- job_name: podwright\n  \
         static_configs: [{{ targets: ['{target}'] }}]\n"
    );
    std::fs::write(house.path("prometheus.yml"), config).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = format!("http://127.0.0.1:{port}");
    let _prometheus = Running(
        Command::new(prometheus)
            .arg(format!("--config.file={}", house.path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", house.path("prometheus").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );

    // Load for as long as it takes until all have an answer.
    let mut left: Vec<&str> = QUERIES.to_vec();
    let mut jobs = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !left.is_empty() {
        assert!(Instant::now() < deadline, "no answer to {left:#?}\n{}", page(&pages).await);
        for code in [0, 0, 0, 3] {
            let script = ["echo hello", "sleep 0.3", &format!("exit {code}")].map(str::to_owned);
            jobs.push(house.gitlab.enqueue(JobSpec::new("load").script(script)));
        }
        // Prometheus tells nobody that it has scraped, which it does every 500 ms: it is asked again after that.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let mut still = Vec::new();
        for query in left {
            let answer = ask(&server, "/api/v1/query", query).await;
            if answer["data"]["result"].as_array().is_none_or(Vec::is_empty) {
                still.push(query);
            }
        }
        left = still;
    }
    let targets = ask(&server, "/api/v1/targets", "").await;
    let target = &targets["data"]["activeTargets"][0];
    assert_eq!((target["health"].as_str(), target["lastError"].as_str()), (Some("up"), Some("")));
    let up = ask(&server, "/api/v1/query", "min_over_time(up[1m])").await;
    assert_eq!(up["data"]["result"][0]["value"][1], "1", "every scrape was understood: {up}");

    // What it has against names is against GitLab Runner's names, which cannot change.
    let found = check(&promtool, &page(&pages).await);
    let ours: Vec<&str> =
        found.lines().filter(|line| !line.starts_with("gitlab_runner_")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
}
