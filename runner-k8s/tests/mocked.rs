//! The executor with a mocked Kubernetes API: request by request, as a user of the library may test.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use runner_core::executor::{Executor as _, ExecutorErrorKind, JobHandle, JobRequest};
use runner_core::ids::{JobId, SourceId};
use runner_core::job::{Image, Job, Project, SourceFeatures, Step};
use runner_core::planner::{PlanSettings, Transfers, plan};
use runner_core::secret::Secret;
use runner_core::source::Ticket;
use runner_k8s::client::Clients;
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RawSettings, RunnerIdentity};
use serde_json::{Value, json};
use tower_test::mock;

type Api = mock::Handle<Request<Body>, Response<Body>>;

fn executor() -> (KubernetesExecutor, Api) {
    let (service, api) = mock::pair();
    let raw = RawSettings { namespace: "ci".into(), ..RawSettings::default() };
    let runner = RunnerIdentity {
        source: SourceId("mocked".into()),
        name: "mocked".into(),
        short_token: "abc".into(),
        manager: "m1".into(),
    };
    let clients = Clients::from_client(Client::new(service, "ci"));
    let settings = KubernetesSettings::resolve(&raw).unwrap();
    (KubernetesExecutor::with_clients(clients, settings, runner), api)
}

/// Answers one request, after checking what it is. Managers' signs of life come in between; a role
/// that grants none of them is answered for.
async fn answer(api: &mut Api, expected: &str, code: u16, reply: impl FnOnce(Value) -> Value) {
    let (request, respond) = loop {
        let (request, respond) = api.next_request().await.unwrap();
        let path = request.uri().path();
        if !path.contains("/leases") && !path.contains("/configmaps") {
            break (request, respond);
        }
        let body = refusal(403, "Forbidden").to_string().into_bytes();
        respond.send_response(Response::builder().status(403).body(Body::from(body)).unwrap());
    };
    assert_eq!(format!("{} {}", request.method(), request.uri().path()), expected);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = reply(serde_json::from_slice(&body).unwrap_or(Value::Null));
    let response = Response::builder().status(code);
    respond.send_response(response.body(Body::from(body.to_string().into_bytes())).unwrap());
}

fn stored(mut object: Value) -> Value {
    object["metadata"]["uid"] = json!("uid-1");
    object["metadata"]["resourceVersion"] = json!("5");
    object
}

fn refusal(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": reason,
        "details": { "retryAfterSeconds": if code == 429 { 7 } else { 0 } },
    })
}

async fn version(api: &mut Api) {
    let text = "";
    answer(api, "GET /version", 200, |_| {
        json!({
            "major": "1", "minor": "36", "gitVersion": text, "gitCommit": text,
            "gitTreeState": text, "buildDate": text, "goVersion": text, "compiler": text,
            "platform": text,
        })
    })
    .await;
}

async fn reserve(
    executor: &KubernetesExecutor,
) -> Result<Box<dyn JobHandle>, runner_core::executor::ExecutorError> {
    let job = Job {
        id: JobId(9),
        name: "mocked".into(),
        project: Project { id: 1, name: "p".into(), path: "g/p".into(), ..Project::default() },
        sources: None,
        variables: Vec::new(),
        steps: vec![Step { name: "script".into(), script: vec!["true".into()] }],
        image: Some(Image { name: "debian:12".into(), ..Image::default() }),
        services: Vec::new(),
        artifacts: Vec::new(),
        dependencies: Vec::new(),
        caches: Vec::new(),
        registries: Vec::new(),
        timeout: Duration::from_secs(60),
        features: SourceFeatures::default(),
        url: None,
        ..Job::empty(JobId(0))
    };
    let plan = plan(&job, &PlanSettings::default(), Transfers::default()).unwrap();
    let ticket = Ticket(Secret::new("t"));
    executor.reserve(JobRequest { job: &job, plan: &plan, ticket: &ticket, session: None }).await
}

const SECRETS: &str = "/api/v1/namespaces/ci/secrets";

#[tokio::test]
async fn a_job_is_written_down_in_one_request_and_only_then_started() {
    let (executor, mut api) = executor();
    let served = tokio::spawn(async move {
        version(&mut api).await;
        answer(&mut api, &format!("POST {SECRETS}"), 201, |secret| {
            let keys: Vec<_> = secret["data"].as_object().unwrap().keys().cloned().collect();
            assert_eq!(keys, ["plan.0", "pod", "record"]);
            assert!(secret["metadata"].get("ownerReferences").is_none());
            stored(secret)
        })
        .await;
    });
    let handle = reserve(&executor).await.unwrap();
    assert!(handle.place().starts_with("ci/runner-abc-project-1-concurrent-0-"));
    served.await.unwrap();
}

#[tokio::test]
async fn a_busy_api_server_says_how_long_to_wait() {
    let (executor, mut api) = executor();
    tokio::spawn(async move {
        version(&mut api).await;
        let path = format!("POST {SECRETS}");
        answer(&mut api, &path, 429, |_| refusal(429, "TooManyRequests")).await;
    });
    let error = reserve(&executor).await.err().unwrap();
    assert_eq!(error.kind, ExecutorErrorKind::Unavailable);
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
}

#[tokio::test]
async fn k8s_88_a_role_without_secrets_is_a_refusal_that_names_the_role() {
    let (executor, mut api) = executor();
    tokio::spawn(async move {
        version(&mut api).await;
        answer(&mut api, &format!("POST {SECRETS}"), 403, |_| {
            let mut status = refusal(403, "Forbidden");
            status["message"] = json!(
                "secrets is forbidden: User \"x\" cannot create resource \"secrets\" in API group"
            );
            status
        })
        .await;
    });
    let error = reserve(&executor).await.err().unwrap();
    let ExecutorErrorKind::Refused(outcome) = error.kind else { panic!("{error:?}") };
    assert!(format!("{outcome:?}").contains("role in the cluster"), "{outcome:?}");
}

#[tokio::test]
async fn a_record_that_another_manager_has_started_is_left_alone() {
    let (executor, mut api) = executor();
    let served = tokio::spawn(async move {
        version(&mut api).await;
        let mut theirs = Value::Null;
        answer(&mut api, &format!("POST {SECRETS}"), 409, |secret| {
            theirs = secret;
            refusal(409, "AlreadyExists")
        })
        .await;
        let name = theirs["metadata"]["name"].as_str().unwrap().to_owned();
        answer(&mut api, &format!("GET {SECRETS}/{name}"), 200, |_| {
            use base64::Engine as _;
            use base64::engine::general_purpose::STANDARD;
            let record = STANDARD.decode(theirs["data"]["record"].as_str().unwrap()).unwrap();
            let mut record: Value = serde_json::from_slice(&record).unwrap();
            record["claim"]["manager"] = json!("m2");
            record["phase"] = json!("started");
            theirs["data"]["record"] = json!(STANDARD.encode(record.to_string()));
            stored(theirs)
        })
        .await;
    });
    let error = reserve(&executor).await.err().unwrap();
    assert_eq!(error.kind, ExecutorErrorKind::Superseded);
    served.await.unwrap();
}

#[tokio::test]
async fn a_record_that_was_written_again_is_not_this_jobs_any_more() {
    // The same manager was given the job again. Who deleted or changed that record, whatever the API
    // server says of its uid, would try for ever, without a pause (chaos seed 3002).
    let (executor, mut api) = executor();
    let served = tokio::spawn(async move {
        version(&mut api).await;
        let mut first = Value::Null;
        answer(&mut api, &format!("POST {SECRETS}"), 201, |secret| {
            first = stored(secret);
            first.clone()
        })
        .await;
        let name = first["metadata"]["name"].as_str().unwrap().to_owned();
        answer(&mut api, &format!("GET {SECRETS}/{name}"), 200, |_| {
            first["metadata"]["uid"] = json!("uid-2");
            first
        })
        .await;
    });
    let mut handle = reserve(&executor).await.unwrap();
    let error = handle.dispose().await.unwrap_err();
    assert_eq!(error.kind, ExecutorErrorKind::Superseded);
    served.await.unwrap();
}
