//! Each provider against a stand-in (`runner_testkit::secrets`) that checks the protocol.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

use rstest::rstest;
use runner_core::ids::JobId;
use runner_core::job::{Job, SecretRequest, Variable};
use runner_core::outcome::InfraKind;
use runner_core::planner::{PlanSettings, VariableSet, before_secrets};
use runner_core::secrets::{SecretStore, SecretStoreError};
use runner_secrets::{Secrets, SecretsSettings};
use runner_testkit::secrets::{SecretService, Service};
use serde_json::{Value, json};

const JWT: &str = "job.token.signature";

fn variables() -> VariableSet {
    let variable = |key: &str, value: &str| Variable {
        key: key.into(),
        value: value.into(),
        ..Variable::default()
    };
    let job = Job {
        variables: vec![
            variable("ID_TOKEN", JWT),
            variable("ENVIRONMENT", "prod"),
            variable("CI_JOB_ID", "7"),
            variable("CI_PROJECT_ID", "42"),
            variable("CI_SERVER_HOST", &"h".repeat(100)),
        ],
        ..Job::empty(JobId(7))
    };
    before_secrets(&job, &PlanSettings::default()).unwrap().0
}

async fn service(kind: Service) -> SecretService {
    let _ = rustls::crypto::ring::default_provider().install_default();
    SecretService::start(kind, JWT).await.unwrap()
}

/// All addresses lead to this service.
fn secrets(service: &SecretService) -> Secrets {
    let url = || service.url().to_owned();
    let settings = SecretsSettings {
        google_sts: url(),
        google_secrets: url(),
        azure_login: url(),
        aws_sts: url(),
        aws_secrets: url(),
        ..SecretsSettings::default()
    };
    Secrets::new(settings).unwrap()
}

async fn resolve(
    service: &SecretService,
    provider: Value,
) -> Result<Option<String>, SecretStoreError> {
    let request =
        SecretRequest { key: "A".into(), file: true, provider: provider.to_string().into() };
    let store = secrets(service);
    assert!(store.provider(&request).is_some());
    let value = store.resolve(&request, &variables()).await?;
    Ok(value.map(|value| value.expose().to_owned()))
}

fn vault(service: &SecretService, engine: &str, field: &str) -> Value {
    json!({ "vault": {
        "server": {
            "url": format!("{}/", service.url()),
            "namespace": "team/ci",
            "auth": { "name": "jwt", "path": "jwt",
                      "data": { "jwt": "$ID_TOKEN", "role": "app", "other": "x", "no": null } },
        },
        "engine": { "name": engine, "path": "ops" },
        "path": "$ENVIRONMENT/db",
        "field": field,
    } })
}

#[rstest]
#[case("kv-v2")]
#[case("kv-v1")]
#[case("generic")]
#[tokio::test]
async fn stages_117_vault_is_logged_in_to_with_the_jobs_token_and_read(#[case] engine: &str) {
    let service = service(Service::Vault).await;
    service.use_namespace("team/ci");
    service.put("ops/prod/db", r#"{"password":"s3 cr3t\n","port":5432,"none":null}"#);
    let get = |field| resolve(&service, vault(&service, engine, field));
    assert_eq!(get("password").await.unwrap().as_deref(), Some("s3 cr3t\n"));
    assert_eq!(get("port").await.unwrap().as_deref(), Some("5432"));
    for missing in ["none", "user"] {
        assert_eq!(get(missing).await.unwrap(), None);
    }
    assert_eq!(service.seen()[0], "POST /v1/auth/jwt/login");
}

#[rstest]
#[case(400, InfraKind::Configuration)]
#[case(401, InfraKind::Configuration)]
#[case(403, InfraKind::Configuration)]
#[case(404, InfraKind::Configuration)]
#[case(429, InfraKind::System)]
#[case(500, InfraKind::ExternalDependency)]
#[case(503, InfraKind::ExternalDependency)]
#[tokio::test]
async fn stages_117_a_refusal_has_the_class_that_decides_about_retries(
    #[case] status: u16,
    #[case] kind: InfraKind,
) {
    let service = service(Service::Vault).await;
    service.fail_with([status]);
    let error = resolve(&service, vault(&service, "kv-v2", "x")).await.unwrap_err();
    assert_eq!(error.kind, kind);
    assert!(error.message.contains("told to fail") && error.message.contains("login"), "{error}");
    assert!(!error.message.contains(JWT), "{error}");
}

#[tokio::test]
async fn a_service_that_is_not_there_is_named_without_its_address() {
    let gone = service(Service::Vault).await.url().to_owned();
    let service = service(Service::Vault).await;
    let mut request = vault(&service, "kv-v2", "x");
    request["vault"]["server"]["url"] = gone.clone().into();
    let error = resolve(&service, request).await.unwrap_err();
    assert_eq!(error.kind, InfraKind::System);
    assert!(error.message.contains("Vault") && !error.message.contains(&gone), "{error}");
}

#[rstest]
#[case("/vault/server/url", json!("vault.example"), "no http(s) URL")]
#[case("/vault/server/auth/name", json!("userpass"), "only jwt is")]
#[case("/vault/server/auth/data", json!({}), "id_tokens")]
#[case("/vault/engine/name", json!("ssh"), "kv-v2, kv-v1 and generic")]
#[case("/vault/path", json!(["x"]), "wrong type")]
#[tokio::test]
async fn a_request_that_cannot_be_is_a_configuration_error(
    #[case] field: &str,
    #[case] value: Value,
    #[case] said: &str,
) {
    let service = service(Service::Vault).await;
    let mut request = vault(&service, "kv-v2", "x");
    request["vault"]["server"]["namespace"] = Value::Null;
    *request.pointer_mut(field).unwrap() = value;
    let error = resolve(&service, request).await.unwrap_err();
    assert_eq!(error.kind, InfraKind::Configuration);
    assert!(error.message.contains(said), "{error}");
}

#[rstest]
#[case(json!({ "path": "auth/jwt/login", "jwt": JWT, "role": "app" }))]
#[case(json!({ "auth_mount": "jwt", "jwt": JWT, "role": "app" }))]
#[tokio::test]
async fn stages_117_gitlabs_own_manager_is_asked_in_one_request(#[case] auth: Value) {
    let service = service(Service::OpenBao).await;
    service.put("secrets/kv/explicit/$A", r#"{"value":"x"}"#);
    let request = |entry: &str| {
        json!({ "gitlab_secrets_manager": {
            "server": { "url": service.url(), "inline_auth": auth },
            "engine": { "name": "kv-v2", "path": "secrets/kv" },
            "path": entry,
            "field": "value",
        } })
    };
    // Nothing in it is expanded.
    service.put("secrets/kv/explicit/%24A", r#"{"value":"x"}"#);
    assert_eq!(resolve(&service, request("explicit/$A")).await.unwrap().as_deref(), Some("x"));
    assert_eq!(service.seen().len(), 1);
    let error = resolve(&service, request("explicit/B")).await.unwrap_err();
    assert_eq!(error.kind, InfraKind::Configuration);
}

#[tokio::test]
async fn stages_117_google_exchanges_the_token_and_the_values_checksum_is_looked_at() {
    let service = service(Service::Google).await;
    service.put("projects/42/secrets/key", "välue");
    service.put("projects/other/secrets/key", "elsewhere");
    let request = |name: &str, version: Value| {
        json!({ "gcp_secret_manager": { "name": name, "version": version, "server": {
            "project_number": "42",
            "workload_identity_federation_pool_id": "pool",
            "workload_identity_federation_provider_id": "provider",
            "jwt": "$ID_TOKEN",
        } } })
    };
    let get = |name: &'static str, version| resolve(&service, request(name, version));
    assert_eq!(get("key", Value::Null).await.unwrap().as_deref(), Some("välue"));
    assert_eq!(get("key", json!(3)).await.unwrap().as_deref(), Some("välue"));
    let elsewhere = get("projects/other/secrets/key", json!("latest")).await.unwrap();
    assert_eq!(elsewhere.as_deref(), Some("elsewhere"));
    assert_eq!(get("none", Value::Null).await.unwrap(), None);
}

#[tokio::test]
async fn stages_117_azure_is_signed_in_to_with_the_jobs_token() {
    let service = service(Service::Azure).await;
    service.put("key", "v&=1");
    service.put("key/7", "older");
    let request = |name: &str, version: Value, jwt: &str| {
        json!({ "azure_key_vault": { "name": name, "version": version, "server": {
            "client_id": "client", "tenant_id": "tenant", "jwt": jwt, "url": service.url(),
        } } })
    };
    let get = |name: &'static str, version, jwt: &'static str| {
        resolve(&service, request(name, version, jwt))
    };
    assert_eq!(get("key", Value::Null, "$ID_TOKEN").await.unwrap().as_deref(), Some("v&=1"));
    assert_eq!(get("key", json!("7"), "$ID_TOKEN").await.unwrap().as_deref(), Some("older"));
    assert_eq!(get("none", Value::Null, "$ID_TOKEN").await.unwrap(), None);
    let error = get("key", Value::Null, "wrong").await.unwrap_err();
    assert_eq!(error.kind, InfraKind::Configuration);
    assert!(error.message.contains("AADSTS700027"), "{error}");
}

fn aws(name: &str, field: Value) -> Value {
    json!({ "aws_secrets_manager": {
        "secret_id": name, "version_id": null, "version_stage": "AWSCURRENT", "field": field,
        "region": "", "server": {
            "region": "eu-central-1", "jwt": "$ID_TOKEN", "role_arn": "arn:aws:iam::42:role/app",
        },
    } })
}

#[tokio::test]
async fn stages_117_aws_gives_keys_for_the_token_and_checks_the_signature() {
    let service = service(Service::Aws).await;
    service.put("prod/db", r#"{"password":"x","port":1}"#);
    let whole = resolve(&service, aws("$ENVIRONMENT/db", Value::Null)).await.unwrap();
    assert_eq!(whole.as_deref(), Some(r#"{"password":"x","port":1}"#));
    let field = resolve(&service, aws("prod/db", json!("password"))).await.unwrap();
    assert_eq!(field.as_deref(), Some("x"));
    assert_eq!(resolve(&service, aws("prod/db", json!("user"))).await.unwrap(), None);
    assert_eq!(resolve(&service, aws("none", Value::Null)).await.unwrap(), None);

    let mut wrong = aws("prod/db", Value::Null);
    wrong["aws_secrets_manager"]["role_arn"] = "arn:aws:iam::42:role/other".into();
    let error = resolve(&service, wrong).await.unwrap_err();
    assert_eq!(error.kind, InfraKind::Configuration);
    assert!(error.message.contains("cannot be used for this role"), "{error}");
}

#[test]
fn a_provider_that_nobody_knows_is_not_ours() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = Secrets::new(SecretsSettings::default()).unwrap();
    let request = |text: &str| SecretRequest { key: "A".into(), file: true, provider: text.into() };
    assert_eq!(store.provider(&request(r#"{"akeyless":{}}"#)), None);
    assert_eq!(store.provider(&request("nonsense")), None);
    assert_eq!(store.provider(&request(r#"{"vault":{}}"#)), Some("vault"));
}
