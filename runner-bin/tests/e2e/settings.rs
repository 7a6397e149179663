//! Jobs that ask for what the runner's settings do not allow: the log says so, and nothing is made.

use rstest::rstest;
use runner_k8s::RawSettings;
use runner_testkit::gitlab::{Image, JobSpec};

use crate::world::{World, failure, success, text};

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
