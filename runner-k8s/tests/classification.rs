//! What the executor makes of a real cluster's answers (`tests/recordings`, Kubernetes 1.36.2).

#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::path::Path;

use kube::core::Status;
use rstest::rstest;
use runner_core::executor::ExecutorErrorKind;
use runner_core::outcome::InfraKind::{self, Configuration, System};
use runner_core::outcome::{Outcome, TraceSummary, Verdict};
use runner_k8s::classify::{
    ApiErrorKind, Sighting, Whole, api_error, executor_error, sight, worst,
};
use runner_k8s::watch::PodView;
use serde_json::Value;

fn recording(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn sightings(name: &str) -> Vec<Sighting> {
    let recording = recording(&format!("watch-{name}.json"));
    let events = recording["events"].as_array().unwrap();
    let sight_of = |event: &Value| {
        let mut pod: PodView = serde_json::from_value(event["object"].clone()).unwrap();
        pod.strip();
        sight(&pod)
    };
    events.iter().map(sight_of).collect()
}

#[rstest]
#[case::k8s_17_image_pull_error("image-pull-error", Configuration, "not found")]
#[case::k8s_15_image_never("image-never", Configuration, "pull policy of Never")]
#[case::k8s_18_invalid_image_name("invalid-image-name", Configuration, "UPPER/Case:::1")]
#[case::k8s_18_container_config_error("config-error", Configuration, "secret \"absent\"")]
#[case::non_root("non-root", Configuration, "runAsNonRoot")]
#[case::no_such_program("no-command", Configuration, "/no/such/program")]
#[case::k8s_75_oom_build("oom-build", System, "the job's container used more memory")]
#[case::k8s_75_oom_helper("oom-helper", System, "helper container used more memory")]
#[case::k8s_75_oom_service("oom-service", System, "\"svc-0\" used more memory")]
#[case::k8s_74_evicted("evicted", System, "evicted from its node")]
#[case::k8s_74_evicted_by_kubelet("evicted-disk", System, "Usage of EmptyDir volume")]
#[case::k8s_74_deleted("deleted", System, "deleted by someone")]
#[case::k8s_85_deadline("deadline", System, "ran longer than it may")]
#[case::k8s_80_no_verdict("helper-no-verdict", System, "ended with status 1 before it could say")]
#[case::agent_image_missing("image-volume-missing", Configuration, "registry.invalid:5000/agent")]
fn a_job_that_cannot_go_on_ends_with_the_cause(
    #[case] name: &str,
    #[case] kind: InfraKind,
    #[case] words: &str,
) {
    let end = sightings(name).into_iter().find_map(|sighting| sighting.end).expect("an end");
    assert_eq!(end.infra.kind, kind, "{end:?}");
    assert!(end.infra.message.contains(words), "{end:?}");
    assert!(end.detail.contains(name), "the operator finds the pod: {end:?}");
}

#[rstest]
#[case("unschedulable", "didn't match")]
#[case("unschedulable-cpu", "Insufficient cpu")]
#[case("volume-missing", "the start of containers: helper, build")]
fn k8s_48_a_pod_that_may_still_start_waits_and_says_for_what(
    #[case] name: &str,
    #[case] words: &str,
) {
    let last = sightings(name).pop().unwrap();
    assert_eq!(last.end, None);
    assert!(last.waits_for.as_ref().unwrap().contains(words), "{last:?}");
}

#[test]
fn k8s_50_the_agent_can_be_reached_while_the_build_image_is_still_pulled() {
    let reachable = |sighting: &Sighting| sighting.reachable && !sighting.all_started;
    assert!(sightings("image-pull-error").iter().any(reachable));
}

#[test]
fn an_undisturbed_pod_never_looks_like_an_end() {
    let all = sightings("success");
    assert!(all.iter().all(|sighting| sighting.end.is_none()), "{all:?}");
    let last = all.last().unwrap();
    assert!(last.helper_over && last.all_started);
    let verdict = last.verdict.as_ref().expect("the termination message is a verdict");
    assert_eq!(worst(Some(verdict), None, Whole::Yes), Outcome::Exited(0));
}

#[test]
fn the_build_containers_exit_status_is_not_the_jobs() {
    // Only the agent knows whether the container ended because of the job's commands.
    let running: Vec<_> = sightings("build-exit-37");
    let while_helper_runs = running.iter().filter(|sighting| sighting.reachable);
    assert!(while_helper_runs.clone().all(|sighting| sighting.end.is_none()));
    assert_ne!(while_helper_runs.count(), 0);
}

#[test]
fn an_out_of_memory_kill_of_a_child_is_left_to_the_agent() {
    // cgroup v1: reason OOMKilled, exit status 0. The first process got over it.
    assert!(sightings("oom-build-child").iter().all(|sighting| {
        sighting.end.as_ref().is_none_or(|end| !end.infra.message.contains("memory"))
    }));
}

#[test]
fn a_helper_that_comes_back_by_a_restart_rule_is_not_an_end() {
    let all = sightings("helper-restart");
    let came_back = all.iter().filter(|sighting| sighting.reachable).count();
    assert!(came_back >= 2, "it was seen running before and after: {all:?}");
    let (last, before) = all.split_last().unwrap();
    assert!(before.iter().take_while(|s| !s.helper_over).all(|s| s.end.is_none()), "{before:?}");
    assert!(last.helper_over);
}

#[test]
fn a_helper_in_the_back_off_of_its_restarts_is_neither_reachable_nor_over() {
    let last = sightings("helper-restart-loop").pop().unwrap();
    assert!(!last.reachable && !last.helper_over && last.has_run, "{last:?}");
    assert_eq!(last.end, None);
}

#[test]
fn no_recording_without_a_verdict_is_ever_a_success() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = file.strip_prefix("watch-").and_then(|n| n.strip_suffix(".json")) else {
            continue;
        };
        for sighting in sightings(name) {
            let outcome = worst(sighting.verdict.as_ref(), sighting.end.as_ref(), Whole::Yes);
            assert!(!outcome.is_success() || sighting.verdict.is_some(), "{name}: {sighting:?}");
            seen += 1;
        }
    }
    assert!(seen > 100);
}

fn answer(name: &str) -> kube::Error {
    let body = recording(&format!("answer-{name}.json"))["body"].clone();
    kube::Error::Api(Box::new(serde_json::from_value::<Status>(body).unwrap()))
}

#[rstest]
#[case("404-pod", ApiErrorKind::NotFound)]
#[case("404-namespace", ApiErrorKind::NotFound)]
#[case("409-already-exists", ApiErrorKind::AlreadyExists)]
#[case("409-conflict", ApiErrorKind::Conflict)]
#[case("409-delete-precondition", ApiErrorKind::Conflict)]
#[case("403-quota", ApiErrorKind::Forbidden)]
#[case("422-pod", ApiErrorKind::Invalid)]
#[case("422-secret-too-long", ApiErrorKind::Invalid)]
#[case("500-webhook-unreachable", ApiErrorKind::Unavailable)]
fn errors_are_told_apart_by_code_and_reason(#[case] name: &str, #[case] kind: ApiErrorKind) {
    assert_eq!(api_error(&answer(name)).0, kind);
}

#[rstest]
#[case("403-quota", "quota leaves no room")]
#[case("403-pod-security", "pod security standard")]
#[case("403-service-account", "service account does not exist")]
#[case("404-namespace", "namespace does not exist")]
#[case("422-admission-policy", "a policy of the cluster")]
fn k8s_53_a_refused_pod_is_a_system_failure_with_its_cause(
    #[case] name: &str,
    #[case] words: &str,
) {
    let error = executor_error(answer(name), "create the pod");
    let ExecutorErrorKind::Refused(Outcome::Infra(infra)) = &error.kind else {
        panic!("{error:?}");
    };
    assert_eq!(infra.kind, System);
    assert!(infra.message.contains(words), "{infra:?}");
}

/// Whoever runs commands in `helper` can write the file and have the container killed for its memory.
#[test]
fn a_verdict_that_a_killed_helper_left_is_not_believed_while_it_comes_back() {
    let recording = recording("watch-helper-restart.json");
    let verdict = serde_json::to_string(&Verdict {
        outcome: Outcome::Exited(0),
        trace: TraceSummary::default(),
        stages: Vec::new(),
    });
    let mut killed = 0;
    for event in recording["events"].as_array().unwrap() {
        let mut object = event["object"].clone();
        // By pointer: an index would put `null` where a pod has none yet.
        let statuses = object.pointer_mut("/status/containerStatuses");
        let statuses = statuses.and_then(Value::as_array_mut);
        for status in statuses.into_iter().flatten().filter(|status| status["name"] == "helper") {
            if let Some(terminated) = status["state"].get_mut("terminated") {
                terminated["message"] = verdict.as_deref().unwrap().into();
            }
        }
        let mut pod: PodView = serde_json::from_value(object).unwrap();
        pod.strip();
        let sighting = sight(&pod);
        if !sighting.reachable && !sighting.helper_over && sighting.has_run {
            killed += 1;
            assert_eq!(sighting.verdict, None);
        }
    }
    assert!(killed > 0, "the recording shows a helper between two starts");
}
