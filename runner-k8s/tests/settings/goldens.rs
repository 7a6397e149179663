//! Whole configurations as they are in use, after the public documentation of GitLab Runner and of
//! cloud providers, and the pods that follow.

use rstest::rstest;
use serde_json::Value;

use crate::world::{job, see, settings, variable, with_init_container};

#[rstest]
#[case::docker_in_docker("docker_in_docker", include_str!("configs/docker_in_docker.toml"))]
#[case::kaniko("kaniko", include_str!("configs/kaniko.toml"))]
#[case::rootless("rootless", include_str!("configs/rootless.toml"))]
#[case::gpu("gpu", include_str!("configs/gpu.toml"))]
#[case::random_uid("random_uid", include_str!("configs/random_uid.toml"))]
#[case::multi_arch("multi_arch", include_str!("configs/multi_arch.toml"))]
#[case::spot("spot", include_str!("configs/spot.toml"))]
#[case::four_contexts("four_contexts", include_str!("configs/four_contexts.toml"))]
#[case::s3_cache("s3_cache", include_str!("configs/s3_cache.toml"))]
#[case::per_project("per_project", include_str!("configs/per_project.toml"))]
fn a_configuration_from_real_life(#[case] name: &str, #[case] toml: &str) {
    let settings = settings(toml);
    assert_eq!(settings.warnings, [], "{name}");
    let mut job = job();
    job.image = None;
    job.services.clear();
    for (key, value) in [
        ("CI_PROJECT_NAMESPACE", "group/sub"),
        ("CI_PROJECT_PATH_SLUG", "group-sub-widgets"),
        ("CI_COMMIT_REF_SLUG", "main"),
    ] {
        job.variables.push(variable(key, value));
    }
    let seen = see(&job, &settings).unwrap();
    insta::assert_json_snapshot!(name, without_environment(seen.built.pod.to_value()));
    // What is different where images cannot be mounted.
    let old = with_init_container(&seen);
    assert_eq!(old["spec"]["initContainers"][0]["name"], "init-permissions");
    let own = Value::Object(settings.init_security.clone());
    assert_eq!(old["spec"]["initContainers"][0]["securityContext"], own);
}

/// Variables that the planner sets change with the planner, not with the pod.
fn without_environment(mut pod: Value) -> Value {
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) else { continue };
        env.retain(|entry| {
            let name = entry["name"].as_str().unwrap_or_default();
            !["FF_", "CI_", "RUNNER_"].iter().any(|prefix| name.starts_with(prefix))
        });
    }
    pod
}
