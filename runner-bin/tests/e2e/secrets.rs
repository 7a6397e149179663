//! Jobs whose variables another service holds.

use runner_testkit::gitlab::{JobSpec, JobState, Variable};
use runner_testkit::secrets::{SecretService, Service};
use serde_json::{Value, json};

use crate::place::is_real;
use crate::world::{PATIENCE, World, failure, success, text};

const JWT: &str = "job.token.signature";
const VALUE: &str = "c0rrect-horse-battery";

async fn vault() -> SecretService {
    let service = SecretService::start(Service::Vault, JWT).await.unwrap();
    service.put("ops/prod/db", &json!({ "password": VALUE }).to_string());
    service
}

fn secret(service: &SecretService, field: &str, file: Option<bool>) -> Value {
    let mut secret = json!({ "vault": {
        "server": { "url": service.url(), "auth": {
            "name": "jwt", "path": "jwt", "data": { "jwt": "$ID_TOKEN", "role": "app" },
        } },
        "engine": { "name": "kv-v2", "path": "ops" },
        "path": "prod/db",
        "field": field,
    } });
    if let Some(file) = file {
        secret["file"] = file.into();
    }
    secret
}

fn spec(secrets: Value) -> JobSpec {
    JobSpec::new("deploy")
        .with(Variable::new("ID_TOKEN", JWT).masked())
        .patch(move |payload| payload["secrets"] = secrets.clone())
}

#[tokio::test]
async fn stages_117_secrets_are_files_or_values_masked_in_the_log_and_nowhere_in_the_pods_spec() {
    let service = vault().await;
    let world = World::new().await;
    let secrets = json!({
        "IN_FILE": secret(&service, "password", None),
        "IN_VALUE": secret(&service, "password", Some(false)),
    });
    let script = [
        "echo \"value $IN_VALUE, file $(cat \"$IN_FILE\")\"",
        &format!("test \"$(printf %s \"$IN_VALUE\" | wc -c)\" = {}", VALUE.len()),
        "read line || sleep 1",
    ];
    let job = world.gitlab.enqueue(spec(secrets).script(script));
    let running = world.manager("s_first0000000").await;
    if !is_real() {
        let pod = world.pod().await;
        let pod = world.cluster().pod(&pod).unwrap().to_string();
        assert!(!pod.contains(VALUE) && !pod.contains(JWT), "{pod}");
    }
    let end = job.wait_finished(PATIENCE).await.unwrap();
    running.drain().await;
    success(&end);
    let text = text(&end);
    assert!(!text.contains(VALUE) && !text.contains(JWT), "{text}");
    assert!(text.contains("value [MASKED], file [MASKED]"), "{text}");
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is not in {text}"));
    assert!(at("section_start:") < at(":resolve_secrets\r"));
    assert!(at("Resolving secret \"IN_FILE\"...") < at("Using \"vault\" secret resolver..."));
    assert!(at("Resolving secret \"IN_VALUE\"...") < at("Preparing environment"));
    world.check().await;
}

#[tokio::test]
async fn stages_117_a_secret_that_vault_refuses_fails_the_job_before_there_is_a_pod() {
    let service = vault().await;
    let world = World::new().await;
    for (status, reason) in [
        (403, "runner_configuration_error"),
        (503, "runner_external_dependency_failure"),
        (418, "runner_system_failure"),
    ] {
        service.fail_with([status]);
        let secrets = json!({ "A": secret(&service, "password", None) });
        let job =
            world.gitlab.enqueue(spec(secrets).script(["echo not reached"]).failure_reasons([
                "runner_configuration_error",
                "runner_external_dependency_failure",
            ]));
        let end = world.run(&[job]).await.remove(0);
        failure(&end, reason);
        let said = format!("resolving the secret \"A\": Vault answered {status}");
        assert!(text(&end).contains(&said), "{}", text(&end));
        if !is_real() {
            let made = world.cluster().requests().of("create", "pods") > 0;
            assert!(!made, "no pod is made for a job that cannot run");
        }
    }
    assert_eq!(service.seen().len(), 3);
}

#[tokio::test]
async fn stages_117_a_missing_value_is_empty_when_the_job_says_so() {
    let service = vault().await;
    let world = World::new().await;
    let secrets = json!({
        "A": secret(&service, "none", Some(false)),
        "B": { "akeyless": { "name": "x" } },
    });
    let spec = spec(secrets)
        .variable("FF_SECRET_RESOLVING_FAILS_IF_MISSING", "false")
        .script(["echo \"<$A> ${B-unset}\""]);
    let end = world.run_one(spec).await;
    success(&end);
    assert!(text(&end).contains("<> unset"), "{}", text(&end));
    assert!(text(&end).contains("WARNING: Not resolved: no resolver"), "{}", text(&end));
    assert_eq!(end.state, JobState::Success);
}
