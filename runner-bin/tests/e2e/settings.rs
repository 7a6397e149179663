//! Jobs that ask for what the runner's settings do not allow: the log says so, and nothing is made.

use std::time::Duration;

use rstest::rstest;
use runner_k8s::RawSettings;
use runner_testkit::cluster::{ClusterSettings, Rule};
use runner_testkit::gitlab::{GitLab, Image, JobSpec};

use crate::world::{PATIENCE, World, failure, success, text};

fn bounded(settings: &mut RawSettings) {
    settings.memory_limit = "1Gi".into();
    settings.memory_limit_overwrite_max_allowed = "2Gi".into();
    settings.namespace_overwrite_allowed = "^ci-".into();
    settings.allowed_images = vec!["debian:*".into()];
    settings.pull_policy = runner_k8s::settings::OneOrMany::One("if-not-present".into());
}

fn plain() -> JobSpec {
    JobSpec::new("job").script(["echo it runs"])
}

#[rstest]
#[case::too_much_memory(
    plain().variable("KUBERNETES_MEMORY_LIMIT", "2049Mi"),
    &["KUBERNETES_MEMORY_LIMIT = \"2049Mi\"", "memory_limit_overwrite_max_allowed is \"2Gi\""]
)]
#[case::another_namespace(
    plain().variable("KUBERNETES_NAMESPACE_OVERWRITE", "kube-system"),
    &["\"kube-system\"", "namespace_overwrite_allowed allows what matches \"^ci-\""]
)]
#[case::another_image(
    plain().image(Image::new("evil.example/miner:1")),
    &["\"evil.example/miner:1\" is not allowed by this runner", "allowed: debian:*"]
)]
#[case::root(
    plain().patch(|job| job["image"] = serde_json::json!({
        "name": "debian:test", "executor_opts": { "kubernetes": { "user": "0" } }
    })),
    &["user \"0\"", "allowed_users of this runner does not allow 0; allowed: all but 0"]
)]
#[tokio::test]
async fn k8s_22_a_job_that_asks_for_more_than_it_may_fails_with_words_and_nothing_is_made(
    #[case] job: JobSpec,
    #[case] words: &[&str],
) {
    let Some(mut world) = World::simulated("to count requests").await else { return };
    bounded(&mut world.settings);
    let end = world.run_one(job).await;
    failure(&end, "runner_configuration_error");
    let said = text(&end);
    for part in words {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("it runs"), "{said}");
    let requests = world.cluster().requests();
    for kind in ["pods", "secrets", "namespaces", "poddisruptionbudgets"] {
        assert_eq!(requests.of("create", kind), 0, "{kind}");
    }
}

#[tokio::test]
async fn k8s_22_a_job_at_its_ceiling_runs_and_its_log_says_what_it_has() {
    let Some(mut world) = World::simulated("to look at its settings only").await else { return };
    bounded(&mut world.settings);
    let end = world.run_one(plain().variable("KUBERNETES_MEMORY_LIMIT", "2048Mi")).await;
    success(&end);
    let said = text(&end);
    assert!(said.contains("memory_limit is \"2048Mi\" (KUBERNETES_MEMORY_LIMIT)"), "{said}");
}

fn broken(world: &mut World) {
    world.slow_start = Some(Duration::ZERO);
    world.settings.poll_timeout = 2;
    let volume = "[[volumes.secret]]\nname = \"nobody-made-it\"\nmount_path = \"/s\"";
    let volumes: RawSettings = toml::from_str(volume).unwrap();
    world.settings.volumes = volumes.volumes;
}

/// A volume that nobody has made keeps the pod from starting, and only events say so.
async fn without_its_volume(says: Option<bool>, rules: Vec<Rule>) -> Option<(World, String)> {
    let cluster = ClusterSettings { rules, ..ClusterSettings::default() };
    let what = "to do without a Secret";
    let mut world = World::simulated_with(what, GitLab::builder(), cluster).await?;
    world.settings.print_pod_warning_events = says;
    broken(&mut world);
    let end = world.run_one(plain()).await;
    failure(&end, "runner_system_failure");
    Some((world, text(&end)))
}

#[tokio::test]
async fn k8s_81_warnings_of_kubernetes_are_said_once_when_a_pod_fails() {
    let mut rules = Rule::least_privilege();
    rules.push(Rule::core(&["events"], &["list"]));
    let Some((world, said)) = without_its_volume(None, rules).await else { return };
    let warnings: Vec<_> =
        said.lines().filter(|line| line.contains("Kubernetes warned: FailedMount")).collect();
    assert_eq!(warnings.len(), 1, "{said}");
    assert!(warnings[0].contains("nobody-made-it"), "{said}");
    assert!(said.contains("Waiting for"), "{said}");
    assert_eq!(world.cluster().requests().of("list", "events"), 1);
}

#[tokio::test]
async fn k8s_48_k8s_81_with_print_pod_warning_events_off_nothing_of_the_kind_is_said_or_asked() {
    let rules = Rule::least_privilege();
    let Some((world, said)) = without_its_volume(Some(false), rules).await else { return };
    assert!(!said.contains("Kubernetes warned") && !said.contains("Waiting for"), "{said}");
    assert!(said.contains("did not start in time"), "{said}");
    assert_eq!(world.cluster().requests().of("list", "events"), 0);
}

#[tokio::test]
async fn k8s_88_a_role_without_events_costs_the_warnings_and_nothing_else() {
    let Some((_, said)) = without_its_volume(None, Rule::least_privilege()).await else { return };
    assert!(
        said.contains("did not start in time") && !said.contains("Kubernetes warned"),
        "{said}"
    );
}

fn with_events() -> ClusterSettings {
    let mut rules = Rule::least_privilege();
    rules.push(Rule::core(&["events"], &["list", "watch"]));
    ClusterSettings { rules, ..ClusterSettings::default() }
}

/// Reasons of the events in a trace.
fn events(said: &str) -> Vec<&str> {
    let lines = said.lines().filter_map(|line| line.split_once("[pod] "));
    lines.filter_map(|(_, event)| event.split_whitespace().nth(1)).collect()
}

#[tokio::test]
async fn k8s_81_k8s_82_all_events_of_the_pod_are_said_once_whoever_follows_the_job() {
    let what = "to have a role of its own";
    let Some(world) = World::simulated_with(what, GitLab::builder(), with_events()).await else {
        return;
    };
    let spec = plain().variable("FF_PRINT_POD_EVENTS", "true");
    let job = world.gitlab.enqueue(spec.clone().script(["echo here; sleep 4"]));
    let first = world.manager("s_first0000000").await;
    job.wait_trace("[pod] Normal  Started", PATIENCE).await.unwrap();
    first.vanish();
    let second = world.manager("s_second000000").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    second.drain().await;
    success(&end);
    let said = text(&end);
    let events = events(&said);
    for (reason, times) in [("Scheduled", 1), ("Started", 2)] {
        let found = events.iter().filter(|event| **event == reason).count();
        assert_eq!(found, times, "{reason}: {said}");
    }
}

#[tokio::test]
async fn k8s_81_all_events_of_a_pod_that_never_ran_are_said_at_its_end() {
    let what = "to have a role of its own";
    let Some(mut world) = World::simulated_with(what, GitLab::builder(), with_events()).await
    else {
        return;
    };
    broken(&mut world);
    let end = world.run_one(plain().variable("FF_PRINT_POD_EVENTS", "true")).await;
    failure(&end, "runner_system_failure");
    let said = text(&end);
    assert!(said.contains("Kubernetes said: Scheduled: "), "{said}");
    assert!(said.contains("Kubernetes warned: FailedMount: "), "{said}");
}

#[tokio::test]
async fn k8s_88_a_role_without_events_does_not_fail_a_job_that_wants_to_see_them() {
    let Some(world) = World::simulated("to have the least role").await else { return };
    let spec = plain().variable("FF_PRINT_POD_EVENTS", "true").script(["sleep 1"]);
    let end = world.run_one(spec).await;
    success(&end);
    let said = text(&end);
    assert!(said.contains("[pod] the runner's role does not allow it to see"), "{said}");
}

#[tokio::test]
async fn k8s_81_a_job_that_fails_by_itself_has_no_warnings() {
    let Some(world) = World::simulated("to count requests").await else { return };
    let end = world.run_one(JobSpec::new("job").script(["exit 3"])).await;
    assert_eq!(end.exit_code, Some(3));
    assert_eq!(world.cluster().requests().of("list", "events"), 0);
}
