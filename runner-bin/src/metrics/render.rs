//! The pages: `/metrics` and `/debug/jobs/list`.

use std::collections::BTreeMap;

use runner_k8s::client::{RequestKind, StreamCounts};
use runner_k8s::pause::Numbers;
use runner_k8s::{NoRoom, RoomCounts};
use tokio::time::Instant;

use super::names::MODE;
use super::page::{Kind, Page};
use super::state::{RunnerState, State};
use super::{ClusterCounts, process};
use crate::version;

/// What is known beside the state.
pub(super) struct Surroundings<'a> {
    pub(super) process_state: &'a str,
    pub(super) loaded: [u64; 4],
    pub(super) errors: Vec<(&'static str, u64)>,
    pub(super) clusters: Vec<ClusterCounts>,
    /// `None`: no traces are sent.
    pub(super) traces_dropped: Option<u64>,
}

/// The names of a runner in labels.
fn names(runner: &RunnerState) -> [(&str, &str); 3] {
    let name = &runner.name;
    [
        ("runner", name.short_token.as_str()),
        ("runner_name", name.name.as_str()),
        ("system_id", name.system_id.as_str()),
    ]
}

/// The two that GitLab Runner uses for requests.
fn token(runner: &RunnerState) -> [(&str, &str); 2] {
    let [runner, _, system] = names(runner);
    [runner, system]
}

/// One sample for each runner.
fn each(
    page: &mut Page,
    runners: &[&RunnerState],
    (name, help, kind): (&str, &str, Kind),
    value: impl Fn(&RunnerState) -> Option<u64>,
) {
    page.metric(name, help, kind);
    for runner in runners {
        if let Some(value) = value(runner) {
            page.sample(name, &names(runner), value as f64);
        }
    }
}

fn with<'a>(labels: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    labels.iter().chain(more).copied().collect()
}

/// All metrics.
pub(super) fn metrics(state: &State, around: &Surroundings<'_>) -> String {
    let mut page = Page::default();
    let mut runners: Vec<&RunnerState> = state.runners.values().collect();
    runners.sort_by(|one, other| names(one).cmp(&names(other)));
    manager(&mut page, state, around, &runners);
    jobs(&mut page, state, &runners);
    requests(&mut page, state, &runners);
    own(&mut page, around, &runners);
    process::write(&mut page);
    page.finish()
}

fn manager(page: &mut Page, state: &State, around: &Surroundings<'_>, runners: &[&RunnerState]) {
    use Kind::{Counter, Gauge};
    let help = "The current value of concurrent setting";
    page.single("gitlab_runner_concurrent", help, Gauge, state.concurrent as f64);
    let help = "The current value of the runner's limit setting";
    each(page, runners, ("gitlab_runner_limit", help, Gauge), |runner| {
        runner.present.then_some(runner.name.limit as u64)
    });
    let name = "gitlab_runner_version_info";
    page.metric(
        name,
        "A metric with a constant '1' value labeled by different build stats.",
        Gauge,
    );
    let labels = [
        ("name", "gitlab-runner"),
        ("version", version::VERSION),
        ("revision", version::REVISION),
        ("branch", version::BRANCH),
        ("go_version", ""),
        ("built_at", version::BUILT_AT),
        ("os", std::env::consts::OS),
        ("architecture", std::env::consts::ARCH),
    ];
    page.sample(name, &labels, 1.0);
    let name = "gitlab_runner_process_state_info";
    page.metric(name, "The state of the process; 1 for the one it is in", Gauge);
    page.sample(name, &[("state", around.process_state)], 1.0);
    let [loaded, load_errors, saved, save_errors] = around.loaded;
    for (name, help, value) in [
        ("loaded", "Total number of times the configuration file was loaded", loaded),
        ("loading_error", "Total number of failed configuration loads", load_errors),
        ("saved", "Total number of times the configuration file was saved", saved),
        ("saving_error", "Total number of failed configuration saves", save_errors),
    ] {
        let name = format!("gitlab_runner_configuration_{name}_total");
        page.single(&name, help, Counter, value as f64);
    }
    let name = "gitlab_runner_errors_total";
    page.metric(name, "The number of caught errors.", Counter);
    for (level, count) in &around.errors {
        page.sample(name, &[("level", level)], *count as f64);
    }
    let help = "Current number of worker slots";
    page.single("gitlab_runner_worker_slots_number", help, Gauge, state.concurrent as f64);
    let name = "gitlab_runner_worker_slot_operations_total";
    page.metric(name, "Total number of worker slots started and stopped", Counter);
    page.sample(name, &[("operation", "started")], state.slots_started as f64);
    page.sample(name, &[("operation", "stopped")], state.slots_stopped as f64);
    let help = "Total number of times that a runner asked for a job";
    each(page, runners, ("gitlab_runner_worker_feeds_total", help, Counter), |r| Some(r.feeds));
    let help = "Total number of times that a runner was not asked for, as it is unhealthy";
    let name = "gitlab_runner_worker_feed_failures_total";
    each(page, runners, (name, help, Counter), |runner| Some(runner.feed_failures));
    let help = "Total number of refusals of a runner";
    let name = "gitlab_runner_worker_health_check_failures_total";
    each(page, runners, (name, help, Counter), |runner| Some(runner.health_failures));
    let name = "gitlab_runner_worker_processing_failures_total";
    page.metric(name, "Total number of failed jobs", Counter);
    for runner in runners {
        for (kind, value) in
            [("other", 0), ("no_free_executor", 0), ("job_failure", runner.job_failures)]
        {
            let labels = with(&[("failure_type", kind)], &names(runner));
            page.sample(name, &labels, value as f64);
        }
    }
}

fn jobs(page: &mut Page, state: &State, runners: &[&RunnerState]) {
    use Kind::{Counter, Gauge, Histogram};
    let name = "gitlab_runner_jobs";
    page.metric(name, "The current number of running builds", Gauge);
    for runner in runners {
        let mut counts: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
        // Always there, so that the metric is never absent.
        counts.insert(("idle", "idle", "idle"), 0);
        let own = state.jobs.iter().filter(|((source, _), _)| {
            state.runners.get(source).is_some_and(|other| std::ptr::eq(*runner, other))
        });
        for (_, job) in own {
            *counts.entry((job.state, &job.stage, job.executor_stage)).or_default() += 1;
        }
        for ((state, stage, executor_stage), count) in counts {
            let more = [("state", state), ("stage", stage), ("executor_stage", executor_stage)];
            page.sample(name, &with(&names(runner), &more), count as f64);
        }
    }
    let help = "Total number of handled jobs";
    each(page, runners, ("gitlab_runner_jobs_total", help, Counter), |r| Some(r.jobs_started));
    let name = "gitlab_runner_job_duration_seconds";
    page.metric(name, "Histogram of job durations", Histogram);
    for runner in runners {
        page.histogram(name, &with(&names(runner), &[("mode", MODE)]), &runner.durations);
    }
    let name = "gitlab_runner_job_queue_duration_seconds";
    page.metric(name, "A histogram representing job queue duration", Histogram);
    for runner in runners {
        for (running, histogram) in &runner.queued {
            let more = [("project_jobs_running", running.as_str())];
            page.histogram(name, &with(&names(runner), &more), histogram);
        }
    }
    let help = "Jobs in the queue when the last one was received";
    each(page, runners, ("gitlab_runner_job_queue_size", help, Gauge), |r| r.queue_size);
    let help = "Place in the queue of the last job that was received";
    each(page, runners, ("gitlab_runner_job_queue_depth", help, Gauge), |r| r.queue_depth);
    let name = "gitlab_runner_acceptable_job_queuing_duration_exceeded_total";
    let help = "Jobs that waited for longer than the configured threshold";
    each(page, runners, (name, help, Counter), |r| {
        (r.jobs_started > 0).then_some(r.queued_too_long)
    });
    let name = "gitlab_runner_job_execution_mode_total";
    page.metric(name, "Jobs by how their script runs", Counter);
    let started: u64 = runners.iter().map(|runner| runner.jobs_started).sum();
    page.sample(name, &[("mode", MODE), ("executor", "kubernetes")], started as f64);
    let name = "gitlab_runner_job_stage_duration_seconds";
    page.metric(name, "A histogram of stage durations", Histogram);
    for runner in runners {
        for (stage, histogram) in &runner.stages {
            page.histogram(name, &with(&names(runner), &[("stage", stage)]), histogram);
        }
    }
    let name = "gitlab_runner_failed_jobs_total";
    page.metric(name, "Total number of failed jobs", Counter);
    for runner in runners {
        let [token, runner_name, _] = names(runner);
        for (reason, count) in &runner.failed {
            let labels = [token, runner_name, ("failure_reason", *reason), ("mode", MODE)];
            page.sample(name, &labels, *count as f64);
        }
    }
}

fn requests(page: &mut Page, state: &State, runners: &[&RunnerState]) {
    use Kind::{Counter, Gauge, Histogram};
    type Value = fn(&RunnerState) -> f64;
    let metrics: [(&str, &str, Kind, Value); 5] = [
        ("", "The current number of concurrent requests for a new job", Gauge, |runner| {
            runner.requests.under_way as f64
        }),
        (
            "_exceeded_total",
            "Requests that were not made because of the limit",
            Counter,
            |runner| runner.requests_exceeded as f64,
        ),
        ("_hard_limit", "The configured request_concurrency", Gauge, |runner| {
            runner.requests.hard_limit.max(1) as f64
        }),
        ("_adaptive_limit", "The adaptive limit of requests", Gauge, |runner| {
            runner.requests.adaptive_limit
        }),
        ("_used_limit", "The limit of requests in force", Gauge, |runner| {
            runner.requests.used_limit.max(1) as f64
        }),
    ];
    for (suffix, help, kind, value) in metrics {
        let name = format!("gitlab_runner_request_concurrency{suffix}");
        page.metric(&name, help, kind);
        for runner in runners {
            page.sample(&name, &token(runner), value(runner));
        }
    }
    let name = "gitlab_runner_api_request_statuses_total";
    let help = "The total number of api requests, partitioned by runner, endpoint and status.";
    page.metric(name, help, Counter);
    for runner in runners {
        for ((endpoint, status, method), count) in &runner.statuses {
            let more =
                [("endpoint", *endpoint), ("status", status.as_str()), ("method", method.as_str())];
            page.sample(name, &with(&token(runner), &more), *count as f64);
        }
    }
    let name = "gitlab_runner_api_request_duration_seconds";
    page.metric(name, "Latency histogram of API requests made by GitLab Runner", Histogram);
    for runner in runners {
        for ((endpoint, class, method), histogram) in &runner.request_durations {
            let more =
                [("endpoint", *endpoint), ("status_class", *class), ("method", method.as_str())];
            page.histogram(name, &with(&token(runner), &more), histogram);
        }
    }
    let name = "gitlab_runner_api_request_retries_total";
    page.metric(name, "The total number of attempts of api requests", Counter);
    for ((path, method), count) in &state.attempts {
        page.sample(name, &[("path", path), ("method", method)], *count as f64);
    }
}

/// Podwright's own.
fn own(page: &mut Page, around: &Surroundings<'_>, runners: &[&RunnerState]) {
    use Kind::{Counter, Histogram};
    let name = "podwright_job_start_seconds";
    let help = "Time until a job is written down and accepted (reserve); then until it has a node \
                (schedule), from there until its images are there (pull); and from its acceptance \
                until its own program speaks (start)";
    page.metric(name, help, Histogram);
    for runner in runners {
        for (phase, histogram) in &runner.starts {
            page.histogram(name, &with(&names(runner), &[("phase", phase)]), histogram);
        }
    }
    let help = "Bytes of trace that GitLab has stored";
    each(page, runners, ("podwright_trace_bytes_total", help, Counter), |r| Some(r.trace_bytes));
    let name = "podwright_trace_lag_seconds";
    page.metric(name, "Time from a byte's arrival here until GitLab has stored it", Histogram);
    for runner in runners {
        page.histogram(name, &names(runner), &runner.trace_lag);
    }
    let help = "Jobs taken over from other managers";
    each(page, runners, ("podwright_jobs_adopted_total", help, Counter), |r| Some(r.adopted));
    let help = "Jobs left to the next manager";
    let name = "podwright_jobs_left_behind_total";
    each(page, runners, (name, help, Counter), |runner| Some(runner.left_behind));
    let help = "Verdicts that GitLab did not take";
    let name = "podwright_verdicts_undelivered_total";
    each(page, runners, (name, help, Counter), |runner| Some(runner.undelivered));
    let name = "podwright_kubernetes_requests_total";
    page.metric(name, "Requests to the Kubernetes API, by kind", Counter);
    for cluster in &around.clusters {
        for kind in RequestKind::ALL {
            let labels = [("runner_name", cluster.runner[1].as_str()), ("kind", kind.as_str())];
            page.sample(name, &labels, cluster.requests.get(kind) as f64);
        }
    }
    pause_pods(page, &around.clusters);
    streams(page, &around.clusters);
    room(page, &around.clusters);
    if let Some(dropped) = around.traces_dropped {
        let help = "Traces of jobs that could not be sent";
        page.single("podwright_traces_dropped_total", help, Counter, dropped as f64);
    }
}

/// Streams into pods.
fn streams(page: &mut Page, clusters: &[ClusterCounts]) {
    type Value = fn(&StreamCounts) -> f64;
    let metrics: [(&str, &str, Value); 4] = [
        ("opened_total", "Streams into pods that were opened", |counts| counts.opened() as f64),
        ("lost_total", "Streams that ended before their job", |counts| counts.lost() as f64),
        ("bytes_total", "Bytes of trace that came through streams", |counts| counts.bytes() as f64),
        ("gap_seconds_total", "Time that logs stood still because a stream was lost", |counts| {
            counts.gaps().as_secs_f64()
        }),
    ];
    for (suffix, help, value) in metrics {
        let name = format!("podwright_stream_{suffix}");
        page.metric(&name, help, Kind::Counter);
        for cluster in clusters {
            page.sample(&name, &[("runner_name", &cluster.runner[1])], value(&cluster.streams));
        }
    }
}

/// A number with a label of its own, or an empty one.
type Labelled = (&'static str, &'static str, u64);

/// GitLab Runner's numbers of its Kubernetes autoscaler; nothing where no runner has one.
fn pause_pods(page: &mut Page, clusters: &[ClusterCounts]) {
    let numbers: Vec<_> = clusters
        .iter()
        .filter_map(|cluster| Some((&cluster.runner, cluster.pause_pods.as_ref()?.now())))
        .collect();
    if numbers.is_empty() {
        return;
    }
    let mut of = |name: &str, help, kind, find: &dyn Fn(&Numbers) -> Vec<Labelled>| {
        let name = &format!("gitlab_runner_kubernetes_autoscaler_{name}");
        page.metric(name, help, kind);
        for (runner, numbers) in &numbers {
            let [token, runner_name, system] = runner.each_ref().map(String::as_str);
            for (label, value, count) in find(numbers) {
                let mut labels =
                    vec![("runner", token), ("runner_name", runner_name), ("system_id", system)];
                labels.extend((!label.is_empty()).then_some((label, value)));
                page.sample(name, &labels, count as f64);
            }
        }
    };
    let help = "Pause pods that the policies want";
    of("pause_pods_desired", help, Kind::Gauge, &|n| vec![("", "", n.desired.into())]);
    let help = "Pause pods that the Deployment asks for";
    of("pause_pods_current", help, Kind::Gauge, &|n| vec![("", "", n.current.into())]);
    let help = "Looks at the Deployment of pause pods that failed";
    of("reconcile_errors_total", help, Kind::Counter, &|n| {
        n.errors.iter().map(|(reason, count)| ("reason", *reason, *count)).collect()
    });
    let help = "How often the number of pause pods was changed";
    of("scale_operations_total", help, Kind::Counter, &|n| {
        vec![("direction", "up", n.scaled_up), ("direction", "down", n.scaled_down)]
    });
}

/// Whether jobs are taken.
fn room(page: &mut Page, clusters: &[ClusterCounts]) {
    let mut metric = |name: &str, help: &str, kind: Kind, value: fn(&RoomCounts, NoRoom) -> f64| {
        page.metric(name, help, kind);
        for cluster in clusters {
            for reason in NoRoom::ALL {
                let labels =
                    [("runner_name", cluster.runner[1].as_str()), ("reason", reason.as_str())];
                page.sample(name, &labels, value(&cluster.room, reason));
            }
        }
    };
    let help = "1 while no jobs are taken because the cluster has no room for them";
    metric("podwright_acquisition_held", help, Kind::Gauge, |room, reason| {
        f64::from(u8::from(room.is_held(reason)))
    });
    let help = "Time that no jobs were taken because the cluster had no room for them";
    metric("podwright_acquisition_held_seconds_total", help, Kind::Counter, |room, reason| {
        room.held(reason).as_secs_f64()
    });
}

/// `/debug/jobs/list`: one job a line.
pub(super) fn job_list(state: &State) -> String {
    let now = Instant::now();
    let line = |((_, id), job): (&(_, runner_core::ids::JobId), &super::state::JobState)| {
        // The URL of an adopted job is not known any more; its number is.
        let url = if job.url.is_empty() { id.to_string() } else { job.url.clone() };
        format!(
            "url={url} state={} stage={} executor_stage={} duration={}\n",
            job.state,
            job.stage,
            job.executor_stage,
            go_duration(now.duration_since(job.since)),
        )
    };
    state.jobs.iter().map(line).collect()
}

/// As Go prints it: `1h2m3.5s`.
fn go_duration(duration: std::time::Duration) -> String {
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs_f64() % 60.0);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}
