//! Answers have the status codes and bodies that a real API server gave (`recordings/answers.json`).

use http::Method;
use serde_json::{Value, json};

use crate::support::{pod, sim};

fn recordings() -> Vec<Value> {
    serde_json::from_str(include_str!("../../recordings/answers.json")).unwrap()
}

/// Takes out what differs from run to run.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    let end = |word: &mut String, out: &mut String| {
        let number = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit());
        let uid = word.len() == 36 && word.chars().filter(|&c| c == '-').count() == 4;
        if number || uid {
            out.push('#')
        } else {
            out.push_str(word)
        }
        word.clear();
    };
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '-' {
            word.push(c);
        } else {
            end(&mut word, &mut out);
            out.push(c);
        }
    }
    end(&mut word, &mut out);
    out
}

/// What of an answer must be the same: all of a `Status`, and of an object what the server added.
fn shape(code: u64, body: &Value) -> Value {
    if body["kind"] != "Status" {
        let text = body.as_str().map(str::to_owned);
        let meta: Vec<&String> =
            body["metadata"].as_object().into_iter().flat_map(|m| m.keys()).collect();
        return json!({
            "code": code, "kind": body["kind"], "apiVersion": body["apiVersion"], "text": text,
            "metadata": meta, "data": body["data"], "type": body["type"], "status": body["status"],
        });
    }
    let mut body = body.clone();
    if let Some(message) = body["message"].as_str() {
        body["message"] = plain(message).into();
    }
    if !body["details"]["uid"].is_null() {
        body["details"]["uid"] = "#".into();
    }
    json!({"code": code, "body": body})
}

#[tokio::test]
async fn answers_are_those_of_a_real_server() {
    let sim = sim();
    sim.cluster.add_namespace("pw-sim");
    sim.cluster.add_namespace("pw-sim-q");
    sim.cluster.set_pod_quota("pw-sim-q", Some(0));
    let least = sim.cluster.add_service_account("pw-sim", "least", {
        use runner_testkit::cluster::Rule;
        vec![
            Rule::core(&["pods"], &["list", "get", "watch", "create", "delete"]),
            Rule::core(&["pods/exec"], &["create"]),
            Rule::core(&["secrets"], &["list", "get", "create", "delete", "update"]),
        ]
    });
    let skipped = [
        // Contents that a simulation has no reason to share.
        "version",
        "api",
        "apis",
        "pod_running",
        "log_empty",
        // Words of Go's JSON decoder.
        "body_not_json",
        // Depends on how much history there is; shown in `watches`.
        "watch_too_old",
        // Names the quota.
        "quota_exceeded",
    ];
    let (mut wrong, mut seen) = (Vec::new(), 0);
    let mut made: Option<Value> = None;
    for recording in recordings() {
        let name = recording["name"].as_str().unwrap();
        if skipped.contains(&name) {
            continue;
        }
        let method: Method = recording["method"].as_str().unwrap().parse().unwrap();
        let mut body = recording["request"].clone();
        if name == "secret_too_big" {
            let data = "eHh4".repeat(1_100_000 / 3);
            body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "rbig"}, "data": {"a": data}});
        }
        if let (true, Some(made)) = (name.starts_with("secret_update"), &made) {
            // The version is the one of this server.
            for key in ["uid", "resourceVersion"] {
                body["metadata"][key] = made["metadata"][key].clone();
            }
        }
        let token = match name {
            n if n.starts_with("forbidden") || n == "allowed_list" => least.clone(),
            _ => sim.cluster.admin_token().to_owned(),
        };
        let body = (!body.is_null()).then_some(&body);
        let path = recording["path"].as_str().unwrap();
        let (code, answer) = sim.call_as(&token, method, path, body).await;
        if name == "secret_created" {
            made = Some(answer.clone());
        }
        let expected = shape(recording["status"].as_u64().unwrap(), &recording["body"]);
        let got = shape(u64::from(code), &answer);
        if expected != got {
            wrong.push(format!("{name}:\n real {expected}\n sim  {got}"));
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 40, "only {seen} recordings");
}

#[tokio::test]
async fn quota_counts_pods_that_have_not_ended() {
    let sim = sim();
    sim.cluster.set_pod_quota("ci", Some(1));
    sim.run(&pod("one", "true")).await;
    sim.create(&pod("two", "sleep 100")).await;
    let (code, body) = sim.call(Method::POST, &sim.path("pods"), Some(&pod("three", "true"))).await;
    assert_eq!((code, &body["reason"]), (403, &"Forbidden".into()));
    assert_eq!(
        body["message"],
        "pods \"three\" is forbidden: exceeded quota: pods, requested: pods=1, used: pods=1, limited: pods=1"
    );
}

#[tokio::test]
async fn a_request_without_a_known_token_is_not_authorised() {
    let sim = sim();
    let (code, body) = sim.call_as("wrong", Method::GET, &sim.path("pods"), None).await;
    assert_eq!((code, &body["reason"]), (401, &"Unauthorized".into()));
}

#[tokio::test]
async fn k8s_88_the_least_role_may_do_what_a_manager_needs_and_no_more() {
    let sim = sim();
    let token = sim.cluster.token().to_owned();
    for (verb, resource, subresource, expected) in [
        ("create", "pods", "", true),
        ("watch", "pods", "", true),
        ("update", "secrets", "", true),
        ("create", "pods", "exec", true),
        ("get", "pods", "exec", false),
        ("get", "pods", "attach", true),
        ("list", "events", "", false),
        ("patch", "pods", "", false),
    ] {
        let review = json!({"spec": {"resourceAttributes": {
            "namespace": "ci", "verb": verb, "resource": resource, "subresource": subresource,
        }}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let (code, body) = sim.call_as(&token, Method::POST, path, Some(&review)).await;
        let allowed = (code, body["status"]["allowed"].as_bool());
        assert_eq!(allowed, (201, Some(expected)), "{verb} {resource}/{subresource}");
    }
    let (code, _) = sim.call_as(&token, Method::GET, "/api/v1/namespaces/default/pods", None).await;
    assert_eq!(code, 403);
}

#[tokio::test]
async fn leases_and_events_are_kept() {
    let sim = sim();
    let path = "/apis/coordination.k8s.io/v1/namespaces/ci/leases";
    let lease = json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}});
    let (code, mut made) = sim.call(Method::POST, path, Some(&lease)).await;
    assert_eq!((code, &made["apiVersion"]), (201, &"coordination.k8s.io/v1".into()));
    let stale = made.clone();
    made["spec"]["holderIdentity"] = "b".into();
    assert_eq!(sim.call(Method::PUT, &format!("{path}/l"), Some(&made)).await.0, 200);
    assert_eq!(sim.call(Method::PUT, &format!("{path}/l"), Some(&stale)).await.0, 409);
    // As a real API server: which version is replaced must be said, and a PUT makes what is not there.
    let (code, refusal) = sim.call(Method::PUT, &format!("{path}/l"), Some(&lease)).await;
    let message = "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: \
                   must be specified for an update";
    assert_eq!((code, refusal["message"].as_str()), (422, Some(message)));
    for version in ["", "1"] {
        assert_eq!(sim.call(Method::DELETE, &format!("{path}/l"), None).await.0, 200);
        let mut gone = lease.clone();
        gone["metadata"]["resourceVersion"] = version.into();
        assert_eq!(sim.call(Method::PUT, &format!("{path}/l"), Some(&gone)).await.0, 201);
    }
    sim.run(&pod("p", "true")).await;
    let query = "events?fieldSelector=involvedObject.name%3Dp%2Creason%3DScheduled";
    let (_, events) = sim.call(Method::GET, &sim.path(query), None).await;
    assert_eq!(events["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_admission_webhook_can_refuse_pods() {
    let sim = sim();
    sim.cluster.refuse_pods(Some("no hostPath here"));
    let (code, body) = sim.call(Method::POST, &sim.path("pods"), Some(&pod("p", "true"))).await;
    assert_eq!(code, 400);
    let message = body["message"].as_str().unwrap();
    assert!(message.starts_with("admission webhook") && message.contains("no hostPath here"));
    sim.cluster.refuse_pods(None);
    sim.create(&pod("p", "true")).await;
}

#[tokio::test]
async fn requests_are_counted_by_verb_and_resource() {
    let sim = sim();
    sim.run(&pod("p", "true")).await;
    let before = sim.cluster.requests();
    sim.call(Method::GET, &sim.path("pods/p"), None).await;
    sim.call(Method::GET, &sim.path("pods/p/log"), None).await;
    sim.call(Method::DELETE, &sim.path("pods/p"), None).await;
    let made = sim.cluster.requests().since(&before);
    assert_eq!((made.of("get", "pods"), made.of("get", "pods/log")), (1, 1));
    assert_eq!((made.of("delete", "pods"), made.total()), (1, 3));
}
