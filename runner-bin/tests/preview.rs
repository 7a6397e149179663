//! `podwright pod preview` as a process: the pod that would be made, without GitLab or a cluster.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::process::Command;

use serde_json::{Value, json};

const CONFIG: &str = r#"
[[runners]]
name = "one"
# Nobody listens there.
url = "http://127.0.0.1:1"
token = "glrt-abcdefgh12345"
executor = "kubernetes"
environment = ["DOCKER_AUTH_CONFIG={\"auths\":{\"r\":{\"auth\":\"c2VjcmV0OmxvZ2lu\"}}}"]
[runners.kubernetes]
namespace = "ci"
bearer_token = "hidden-bearer"
memory_limit = "1Gi"
memory_limit_overwrite_max_allowed = "2Gi"
pull_policy = ["always", "if-not-present"]
image_pull_secrets = ["registry"]

[[runners]]
name = "two"
url = "http://127.0.0.1:1"
token = "glrt-second12345"
executor = "kubernetes"
[runners.kubernetes]
namespace = "other"
"#;

struct Done {
    code: Option<i32>,
    out: String,
    log: String,
}

fn preview(job: &Value, more: &[&str]) -> Done {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (config, job) = (file("config.toml", CONFIG), file("job.json", &job.to_string()));
    let output = Command::new(env!("CARGO_BIN_EXE_podwright"))
        .args(["pod", "preview", "--config", &config, "--job", &job])
        .args(more)
        .env_clear()
        .output()
        .unwrap();
    Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        log: String::from_utf8(output.stderr).unwrap(),
    }
}

fn job() -> Value {
    json!({
        "image": { "name": "debian:12" },
        "services": [{
            "name": "postgres:16",
            "alias": "db",
            "variables": [{ "key": "POSTGRES_PASSWORD", "value": "hunter2hunter2", "masked": true }],
        }],
        "variables": [
            { "key": "KUBERNETES_MEMORY_LIMIT", "value": "2Gi", "public": true },
            { "key": "TOKEN", "value": "topsecretvalue", "masked": true },
            { "key": "URL", "value": "https://u:$TOKEN@h", "public": true },
        ],
        "steps": [{ "name": "script", "script": ["make"] }],
        "job_info": { "name": "unit", "project_id": 7, "project_name": "w" },
        "git_info": { "repo_url": "https://gitlab.example/g/w.git", "ref": "main" },
    })
}

/// An entry of a list by its name.
fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    list.as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap()
}

#[test]
fn the_pod_is_printed_as_yaml_with_the_jobs_own_settings() {
    let done = preview(&job(), &[]);
    assert_eq!(done.code, Some(0), "{}", done.log);
    let pod: Value = serde_saphyr::from_str(&done.out).unwrap();
    assert_eq!((&pod["kind"], &pod["metadata"]["namespace"]), (&json!("Pod"), &json!("ci")));
    let build = named(&pod["spec"]["containers"], "build");
    assert_eq!(build["image"], "debian:12");
    assert_eq!(build["resources"]["limits"]["memory"], "2Gi");
    assert_eq!(build["imagePullPolicy"], "Always");
    let head: Vec<_> = done.out.lines().take_while(|line| line.starts_with('#')).collect();
    let said = |words: &str| assert!(head.iter().any(|line| line.contains(words)), "{head:#?}");
    said("# log: memory_limit is \"2Gi\" (KUBERNETES_MEMORY_LIMIT)");
    said("# build: when the image cannot be pulled, IfNotPresent");
}

#[test]
fn secrets_are_shown_as_their_names_only() {
    let done = preview(&job(), &[]);
    for secret in
        ["hunter2", "topsecret", "abcdefgh12345", "hidden-bearer", "c2VjcmV0OmxvZ2lu", "auths"]
    {
        assert!(!done.out.contains(secret) && !done.log.contains(secret), "{secret}: {}", done.out);
    }
    let pod: Value = serde_saphyr::from_str(&done.out).unwrap();
    let env = &named(&pod["spec"]["containers"], "db")["env"];
    let reference = &named(env, "POSTGRES_PASSWORD")["valueFrom"]["secretKeyRef"];
    let (name, key) = (reference["name"].as_str().unwrap(), reference["key"].as_str().unwrap());
    let line =
        done.out.lines().find(|line| line.starts_with(&format!("# Secret {name}:"))).unwrap();
    assert!(line.contains(key) && line.contains("plan.0"), "{line}");
    let pull = &pod["spec"]["imagePullSecrets"];
    assert_eq!(pull[0]["name"], "registry");
    let own = pull[1]["name"].as_str().unwrap();
    assert!(done.out.contains(&format!("# Secret {own}: .dockerconfigjson")), "{}", done.out);
}

#[test]
fn a_job_that_would_be_refused_is_refused_in_the_words_of_its_log() {
    let mut job = job();
    job["variables"][0]["value"] = json!("3Gi");
    let done = preview(&job, &[]);
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    let words = "Job failed: KUBERNETES_MEMORY_LIMIT = \"3Gi\" is more than this runner allows";
    assert!(done.log.contains(words), "{}", done.log);
}

#[test]
fn another_runner_and_another_cluster_may_be_asked_for() {
    let done = preview(&job(), &["--runner", "two", "--kubernetes-version", "1.29"]);
    let pod: Value = serde_saphyr::from_str(&done.out).unwrap();
    assert_eq!(pod["metadata"]["namespace"], "other");
    // No image volumes there.
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "init-permissions");
    assert!(done.out.contains("KUBERNETES_MEMORY_LIMIT has no effect"), "{}", done.out);
    let done = preview(&job(), &["--runner", "three"]);
    assert_eq!(done.code, Some(1));
    assert!(done.log.contains("no runner \"three\""), "{}", done.log);
}

#[test]
fn a_file_that_is_no_job_is_refused_with_what_is_wrong() {
    let done = preview(&json!({ "steps": "make" }), &[]);
    assert_eq!(done.code, Some(1));
    assert!(done.log.contains("job.json is no job") && done.log.contains("steps"), "{}", done.log);
}
