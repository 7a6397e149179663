//! Names, labels and format of the pages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use runner_core::executor::Milestone;
use runner_core::ids::{JobId, Offset, SourceId};
use runner_core::manager::{
    JobFacts, JobLabel, JobUpdate, Observer, RequestCounts, RunnerLabel, RunnerUpdate,
};
use runner_core::outcome::{Outcome, StageReport};

use crate::config::QueueTimes;

use super::{ClusterCounts, ConfigEvent, Metrics, ProcessState, RunnerName};

/// Every name of the reference that applies to this executor.
const NAMES: &[&str] = &[
    "gitlab_runner_acceptable_job_queuing_duration_exceeded_total",
    "gitlab_runner_api_request_duration_seconds",
    "gitlab_runner_api_request_retries_total",
    "gitlab_runner_api_request_statuses_total",
    "gitlab_runner_concurrent",
    "gitlab_runner_configuration_loaded_total",
    "gitlab_runner_configuration_loading_error_total",
    "gitlab_runner_configuration_saved_total",
    "gitlab_runner_configuration_saving_error_total",
    "gitlab_runner_errors_total",
    "gitlab_runner_failed_jobs_total",
    "gitlab_runner_job_duration_seconds",
    "gitlab_runner_job_execution_mode_total",
    "gitlab_runner_job_queue_depth",
    "gitlab_runner_job_queue_duration_seconds",
    "gitlab_runner_job_queue_size",
    "gitlab_runner_job_stage_duration_seconds",
    "gitlab_runner_jobs",
    "gitlab_runner_jobs_total",
    "gitlab_runner_limit",
    "gitlab_runner_process_state_info",
    "gitlab_runner_request_concurrency",
    "gitlab_runner_request_concurrency_adaptive_limit",
    "gitlab_runner_request_concurrency_exceeded_total",
    "gitlab_runner_request_concurrency_hard_limit",
    "gitlab_runner_request_concurrency_used_limit",
    "gitlab_runner_version_info",
    "gitlab_runner_worker_feed_failures_total",
    "gitlab_runner_worker_feeds_total",
    "gitlab_runner_worker_health_check_failures_total",
    "gitlab_runner_worker_processing_failures_total",
    "gitlab_runner_worker_slot_operations_total",
    "gitlab_runner_worker_slots_number",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
];

const R: &str = r#"runner="abc",runner_name="one",system_id="s_1""#;

fn source() -> SourceId {
    SourceId("gitlab-1".into())
}

fn metrics() -> Arc<Metrics> {
    let metrics = Arc::new(Metrics::default());
    let name = RunnerName {
        short_token: "abc".into(),
        name: "one".into(),
        system_id: "s_1".into(),
        stage_durations: true,
        limit: 7,
        queue_times: QueueTimes::always(Duration::from_secs(60)),
    };
    metrics.configure(4, vec![(source(), name)], Vec::new());
    metrics
}

fn label(id: u64) -> JobLabel {
    JobLabel {
        runner: "one".into(),
        source: source(),
        id: JobId(id),
        name: Some("test".into()),
        facts: None,
    }
}

fn has(page: &str, line: &str) {
    assert!(page.lines().any(|other| other == line), "{line} is not in\n{page}");
}

/// A strict reader of the format; the names of the metrics.
fn read(page: &str) -> BTreeSet<String> {
    let (mut names, mut current) = (BTreeSet::new(), String::new());
    let mut series = BTreeSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(names.insert(name.to_owned()), "{name} comes twice");
            current = name.to_owned();
        } else if !line.starts_with("# HELP ") {
            let (head, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let name = head.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix).filter(|base| *base == current));
            assert_eq!(base.unwrap_or(name), current, "{line} stands below another metric");
            assert!(series.insert(head.to_owned()), "{head} comes twice");
        }
    }
    names
}

#[test]
fn manager_51_every_metric_is_there_from_the_start_with_its_zero_series() {
    let metrics = metrics();
    let page = metrics.page();
    let names = read(&page);
    for name in NAMES {
        assert!(names.contains(*name), "{name} is missing");
    }
    has(&page, "gitlab_runner_concurrent 4");
    has(&page, &format!("gitlab_runner_limit{{{R}}} 7"));
    has(&page, &format!("gitlab_runner_jobs_total{{{R}}} 0"));
    has(&page, &format!("gitlab_runner_worker_feeds_total{{{R}}} 0"));
    has(&page, r#"gitlab_runner_errors_total{level="panic"} 0"#);
    has(&page, r#"gitlab_runner_request_concurrency{runner="abc",system_id="s_1"} 0"#);
    let idle = r#"state="idle",stage="idle",executor_stage="idle""#;
    has(&page, &format!("gitlab_runner_jobs{{{R},{idle}}} 0"));
    has(&page, r#"gitlab_runner_worker_slot_operations_total{operation="started"} 4"#);
}

#[test]
fn manager_52_a_job_moves_through_states_and_stages() {
    let metrics = metrics();
    let jobs = |state: &str, stage: &str, executor: &str| {
        let more = format!("state=\"{state}\",stage=\"{stage}\",executor_stage=\"{executor}\"");
        has(&metrics.page(), &format!("gitlab_runner_jobs{{{R},{more}}} 1"));
        read(&metrics.page());
    };
    let job = label(1);
    metrics.update(&job, &JobUpdate::Received);
    jobs("pending", "", "");
    metrics.update(&job, &JobUpdate::Starting { place: "ci/pod".into() });
    jobs("running", "", "prepare");
    metrics.update(&job, &JobUpdate::Reached(Milestone::Placed));
    metrics.update(&job, &JobUpdate::Reached(Milestone::Pulled));
    metrics.update(&job, &JobUpdate::Running);
    metrics.update(&job, &JobUpdate::StageStarted { name: "step_script".into() });
    jobs("running", "step_script", "prepare");
    let report = StageReport {
        name: "step_script".into(),
        started_ms: 0,
        took_ms: 2500,
        outcome: Outcome::Exited(0),
    };
    metrics.update(&job, &JobUpdate::StageFinished(report));
    let chunks = vec![bytes::Bytes::from_static(b"12345")];
    metrics.update(
        &job,
        &JobUpdate::TraceStored { chunks, from: Offset(0), lag: Duration::from_secs(4) },
    );
    metrics.update(&job, &JobUpdate::Concluded { outcome: Outcome::Exited(0), delivered: true });
    jobs("success", "step_script", "cleanup");
    metrics.update(&job, &JobUpdate::Released);
    let page = metrics.page();
    assert!(!page.contains("success"), "{page}");
    has(&page, &format!("gitlab_runner_jobs_total{{{R}}} 1"));
    has(&page, &format!("podwright_trace_bytes_total{{{R}}} 5"));
    let stage = format!("{R},stage=\"step_script\"");
    has(&page, &format!("gitlab_runner_job_stage_duration_seconds_bucket{{{stage},le=\"3\"}} 1"));
    has(&page, &format!("gitlab_runner_job_duration_seconds_count{{{R},mode=\"traditional\"}} 1"));
    for phase in ["reserve", "schedule", "pull", "start"] {
        has(&page, &format!("podwright_job_start_seconds_count{{{R},phase=\"{phase}\"}} 1"));
    }
    has(&page, &format!("podwright_trace_lag_seconds_sum{{{R}}} 4"));
}

#[test]
fn manager_53_a_job_that_waited_for_longer_than_it_may_is_counted() {
    let metrics = metrics();
    let waits = |id: u64, seconds: u64| {
        let mut facts = JobFacts::default();
        facts.queue.waited = Some(Duration::from_secs(seconds));
        let job = JobLabel { facts: Some(Arc::new(facts)), ..label(id) };
        metrics.update(&job, &JobUpdate::Received);
    };
    let counted = |count: u64| {
        let name = "gitlab_runner_acceptable_job_queuing_duration_exceeded_total";
        has(&metrics.page(), &format!("{name}{{{R}}} {count}"));
    };
    waits(1, 60);
    counted(0);
    waits(2, 61);
    counted(1);
}

#[test]
fn manager_53_a_failed_job_counts_with_its_unmapped_reason() {
    let metrics = metrics();
    for (id, outcome) in [(1, Outcome::Exited(3)), (2, Outcome::Cancelled)] {
        let job = label(id);
        metrics.update(&job, &JobUpdate::Received);
        metrics.update(&job, &JobUpdate::Concluded { outcome, delivered: true });
        metrics.update(&job, &JobUpdate::Released);
    }
    let page = metrics.page();
    for reason in ["script_failure", "job_canceled"] {
        let labels = format!(
            r#"runner="abc",runner_name="one",failure_reason="{reason}",mode="traditional""#
        );
        has(&page, &format!("gitlab_runner_failed_jobs_total{{{labels}}} 1"));
    }
    let labels = format!("failure_type=\"job_failure\",{R}");
    has(&page, &format!("gitlab_runner_worker_processing_failures_total{{{labels}}} 2"));
}

#[test]
fn requests_for_jobs_are_counted() {
    let metrics = metrics();
    let source = source();
    let runner = RunnerLabel { name: "one", source: &source };
    metrics.runner(runner, &RunnerUpdate::Asking);
    metrics.runner(runner, &RunnerUpdate::TooManyRequests);
    metrics.runner(runner, &RunnerUpdate::Refused { left_alone: Some(Duration::from_secs(1)) });
    let counts = RequestCounts { under_way: 2, hard_limit: 5, adaptive_limit: 2.5, used_limit: 3 };
    metrics.runner(runner, &RunnerUpdate::Requests(counts));
    let page = metrics.page();
    let token = r#"runner="abc",system_id="s_1""#;
    for (name, value) in [
        ("request_concurrency", "2"),
        ("request_concurrency_hard_limit", "5"),
        ("request_concurrency_adaptive_limit", "2.5"),
        ("request_concurrency_used_limit", "3"),
        ("request_concurrency_exceeded_total", "1"),
    ] {
        has(&page, &format!("gitlab_runner_{name}{{{token}}} {value}"));
    }
    has(&page, &format!("gitlab_runner_worker_feeds_total{{{R}}} 1"));
    has(&page, &format!("gitlab_runner_worker_health_check_failures_total{{{R}}} 1"));
    has(&page, &format!("gitlab_runner_worker_feed_failures_total{{{R}}} 1"));
}

#[test]
fn manager_34_manager_55_state_and_jobs_are_listed() {
    let metrics = metrics();
    assert_eq!((metrics.state().as_str(), metrics.is_ready()), ("starting", false));
    for (state, word) in [
        (ProcessState::Running, "running"),
        (ProcessState::Graceful, "graceful-shutdown"),
        (ProcessState::Forceful, "forceful-shutdown"),
    ] {
        metrics.set_state(state);
        assert!(metrics.is_ready());
        has(&metrics.page(), &format!("gitlab_runner_process_state_info{{state=\"{word}\"}} 1"));
    }
    assert_eq!(metrics.job_list(), "");
    metrics.update(&label(9), &JobUpdate::Adopted { place: "ci/pod".into() });
    let list = metrics.job_list();
    assert!(list.starts_with("url=9 state=running stage= executor_stage= duration="), "{list}");
    assert!(list.ends_with("s\n"), "{list}");
    metrics.config(ConfigEvent::Loaded);
    has(&metrics.page(), "gitlab_runner_configuration_loaded_total 1");
}

#[test]
fn k8s_91_pause_pods_have_gitlab_runners_metrics_where_there_are_any() {
    let metrics = metrics();
    assert!(!metrics.page().contains("autoscaler"));
    let numbers = ClusterCounts {
        runner: ["abc", "one", "s_1"].map(Into::into),
        requests: Default::default(),
        streams: Default::default(),
        room: Default::default(),
        pause_pods: Some(Default::default()),
    };
    metrics.configure(4, Vec::new(), vec![numbers]);
    let page = metrics.page();
    read(&page);
    for name in ["pause_pods_desired", "pause_pods_current"] {
        has(&page, &format!("gitlab_runner_kubernetes_autoscaler_{name}{{{R}}} 0"));
    }
    for direction in ["up", "down"] {
        let name = "gitlab_runner_kubernetes_autoscaler_scale_operations_total";
        has(&page, &format!("{name}{{{R},direction=\"{direction}\"}} 0"));
    }
}

#[test]
fn stages_that_a_hostile_agent_makes_up_do_not_make_series_without_end() {
    let metrics = metrics();
    let job = label(9);
    metrics.update(&job, &JobUpdate::Received);
    for number in 0..1000 {
        let name = format!("made-up-{number}-{}", "x".repeat(number));
        let outcome = Outcome::Exited(0);
        let report = StageReport { name, started_ms: 0, took_ms: 1, outcome };
        metrics.update(&job, &JobUpdate::StageFinished(report));
    }
    let page = metrics.page();
    let count = |line: &&str| line.starts_with("gitlab_runner_job_stage_duration_seconds_count");
    assert_eq!(page.lines().filter(count).count(), 65);
    let name = "gitlab_runner_job_stage_duration_seconds_count";
    has(&page, &format!("{name}{{{R},stage=\"other\"}} 936"));
}
