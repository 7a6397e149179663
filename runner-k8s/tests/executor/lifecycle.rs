//! From reserving to disposing.

use http::Method;
use runner_core::executor::{
    Executor as _, ExecutorErrorKind, JobEnd, JobEvent, JobPhase, JobRequest, Remarks, Stop,
};
use runner_core::ids::Offset;
use runner_core::job::{RegistryLogin, Variable};
use runner_core::outcome::{InfraKind, Outcome, TraceSummary};
use runner_core::secret::Secret;
use runner_core::wire::ManagerFrame;
use serde_json::json;

use crate::cluster::{Cluster, Fault};
use crate::world::{
    Agent, BREAK, executor, executor_with, job, planned, reserve, running, runs, settings, ticket,
    to_the_end,
};

const ALL: Offset = Offset(1 << 20);

fn ended(event: JobEvent) -> JobEnd {
    match event {
        JobEvent::Ended(end) => end,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn k8s_93_an_undisturbed_job_is_five_requests() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"hello\n", Outcome::Exited(0)));
    let executor = executor(&cluster, &agent, "m1");
    let mut handle = reserve(&executor).await;
    assert_eq!(handle.phase(), JobPhase::Reserved);
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, ALL).await;
    let pod = runs(&cluster);
    let (trace, end) = to_the_end(&mut *handle).await;
    assert_eq!(trace, b"hello\n");
    let end = ended(end);
    assert_eq!(end.outcome, Outcome::Exited(0));
    assert_eq!(end.trace, Some(TraceSummary::of(b"hello\n")));
    handle.dispose().await.unwrap();

    let record = cluster.requests()[0].clone();
    let mut requests = cluster.requests();
    // The shared watch's first list: once for all jobs.
    requests.retain(|request| request != "GET pods");
    let name = requests[3].strip_prefix("DELETE secrets/").unwrap().to_owned();
    assert_eq!(record, "POST secrets");
    assert_eq!(
        requests,
        [
            "POST secrets",
            "POST pods",
            &format!("DELETE pods/{pod}"),
            &format!("DELETE secrets/{name}")
        ]
    );
    assert_eq!(agent.connections(), 1);
    assert_eq!(agent.heard().last(), Some(&ManagerFrame::Release));
    assert!(cluster.names("secrets").is_empty() && cluster.names("pods").is_empty());
}

#[tokio::test]
async fn k8s_52_a_lost_answer_to_a_create_neither_fails_nor_doubles_the_job() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let executor = executor(&cluster, &agent, "m1");
    cluster.fault(Method::POST, "secrets", Fault::LoseAnswer);
    cluster.fault(Method::POST, "pods", Fault::LoseAnswer);
    let (job, ticket) = (job(), ticket());
    let plan = planned(&job);
    let request = || JobRequest { job: &job, plan: &plan, ticket: &ticket, session: None };
    let error = executor.reserve(request()).await.err().unwrap();
    assert_eq!(error.kind, ExecutorErrorKind::Unavailable);
    let mut handle = executor.reserve(request()).await.unwrap();
    assert_eq!(handle.start().await.unwrap_err().kind, ExecutorErrorKind::Unavailable);
    handle.start().await.unwrap();
    handle.start().await.unwrap();
    assert_eq!((cluster.names("secrets").len(), cluster.names("pods").len()), (1, 1));
    handle.dispose().await.unwrap();
    assert!(cluster.names("secrets").is_empty() && cluster.names("pods").is_empty());
}

#[tokio::test]
async fn k8s_63_a_stream_that_breaks_costs_one_request_and_no_byte() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"0123456789", Outcome::Exited(0)));
    agent.break_at(BREAK);
    let executor = executor(&cluster, &agent, "m1");
    let mut handle = reserve(&executor).await;
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, ALL).await;
    runs(&cluster);
    let (trace, _) = to_the_end(&mut *handle).await;
    assert_eq!(trace, b"0123456789");
    assert_eq!(agent.connections(), 2);
}

#[tokio::test]
async fn no_more_trace_is_handed_out_than_was_asked_for() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"0123456789", Outcome::Exited(0)));
    let executor = executor(&cluster, &agent, "m1");
    let mut handle = reserve(&executor).await;
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, Offset(4)).await;
    runs(&cluster);
    let mut seen = 0;
    loop {
        match handle.event().await {
            JobEvent::Trace { bytes, .. } => seen += bytes.len(),
            JobEvent::Finishing => break,
            JobEvent::Ended(end) => panic!("{end:?}"),
            _ => {}
        }
    }
    assert_eq!(seen, 4);
    handle.follow(Offset(4), ALL).await;
    assert!(matches!(handle.event().await, JobEvent::Trace { offset: Offset(4), .. }));
    assert_eq!(ended(handle.event().await).outcome, Outcome::Exited(0));
}

#[tokio::test]
async fn a_source_that_asks_again_gets_every_byte_once_more() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"0123456789", Outcome::Exited(0)));
    let executor = executor(&cluster, &agent, "m1");
    let mut handle = reserve(&executor).await;
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, ALL).await;
    runs(&cluster);
    to_the_end(&mut *handle).await;
    handle.follow(Offset::ZERO, ALL).await;
    let (again, _) = to_the_end(&mut *handle).await;
    assert_eq!(again, b"0123456789");
}

#[tokio::test]
async fn nothing_secret_stands_in_the_pod() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let executor = executor(&cluster, &agent, "m1");
    let mut job = job();
    let variable = |key: &str, value: &str, public| Variable {
        key: key.into(),
        value: value.into(),
        public,
        masked: !public,
        ..Variable::default()
    };
    job.variables = vec![
        variable("TOKEN", "hunter2hunter2", false),
        variable("URL", "https://u:$TOKEN@h", true),
        variable("PLAIN", "costs $5", true),
        variable("PODWRIGHT_ROOT", "/builds/elsewhere", true),
    ];
    job.services = vec![runner_core::job::Image {
        name: "postgres:16".into(),
        aliases: vec!["db".into()],
        variables: vec![variable("PASSWORD", "$TOKEN", true)],
        ..Default::default()
    }];
    job.registries = vec![RegistryLogin {
        registry: "r.example".into(),
        username: "u".into(),
        password: Secret::new("registrypassword"),
    }];
    let (plan, ticket) = (planned(&job), ticket());
    let mut handle = executor
        .reserve(JobRequest { job: &job, plan: &plan, ticket: &ticket, session: None })
        .await
        .unwrap();
    handle.start().await.unwrap();
    let pod = cluster.only("pods");
    for secret in ["hunter2", "registrypassword", "job-token-secret"] {
        assert!(!pod.to_string().contains(secret), "{secret}: {pod:#}");
    }
    // Nor what would lead the agent to a socket of the job's.
    assert!(!pod.to_string().contains("/builds/elsewhere"), "{pod:#}");
    // The service has its password all the same, from the record.
    let service = &pod["spec"]["containers"][2];
    assert_eq!(service["name"], "db");
    let env = service["env"].as_array().unwrap();
    let password = env.iter().find(|entry| entry["name"] == "PASSWORD").unwrap();
    let key = password["valueFrom"]["secretKeyRef"]["key"].as_str().unwrap();
    let record = password["valueFrom"]["secretKeyRef"]["name"].as_str().unwrap();
    assert!(cluster.object("secrets", record).unwrap()["data"][key].is_string());
    // Credentials have a Secret of their own, and all of it goes.
    assert_eq!(pod["spec"]["imagePullSecrets"], json!([{ "name": format!("{record}-pull") }]));
    assert_eq!(cluster.names("secrets").len(), 2);
    handle.dispose().await.unwrap();
    handle.dispose().await.unwrap();
    assert!(cluster.names("secrets").is_empty());
}

#[tokio::test]
async fn k8s_53_a_quota_refuses_the_job_with_its_cause() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let executor = executor(&cluster, &agent, "m1");
    let mut handle = reserve(&executor).await;
    let message = "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1";
    cluster.fault(Method::POST, "pods", Fault::Refuse(403, "Forbidden", message));
    let error = handle.start().await.unwrap_err();
    let ExecutorErrorKind::Refused(Outcome::Infra(infra)) = error.kind else { panic!("{error:?}") };
    assert_eq!(infra.kind, InfraKind::System);
    assert!(infra.message.contains("quota leaves no room"), "{infra}");
    handle.dispose().await.unwrap();
    assert!(cluster.names("secrets").is_empty());
}

#[tokio::test]
async fn k8s_10_a_job_without_any_image_is_refused_before_anything_is_written() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let executor = executor(&cluster, &agent, "m1");
    let (mut job, ticket) = (job(), ticket());
    job.image = None;
    let plan = planned(&job);
    let error = executor
        .reserve(JobRequest { job: &job, plan: &plan, ticket: &ticket, session: None })
        .await;
    let ExecutorErrorKind::Refused(Outcome::Infra(infra)) = error.err().unwrap().kind else {
        panic!("not refused");
    };
    assert_eq!(infra.kind, InfraKind::Configuration);
    assert!(cluster.requests().is_empty());
}

#[tokio::test]
async fn a_cluster_without_image_volumes_gets_an_init_container() {
    for set_up in [Cluster::is_old as fn(&Cluster), Cluster::drops_image_volumes] {
        let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
        set_up(&cluster);
        let executor = executor(&cluster, &agent, "m1");
        let mut handle = reserve(&executor).await;
        handle.start().await.unwrap();
        let pod = cluster.only("pods");
        assert_eq!(pod["spec"]["initContainers"][0]["image"], "agent:1");
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        assert!(volumes.iter().all(|volume| volume.get("image").is_none()));
    }
}

#[tokio::test]
async fn a_pod_that_somebody_changed_while_it_was_deleted_is_deleted_again() {
    // Seed 1349: the conflict was taken for another pod of that name, and this one stayed.
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let mut handle = reserve(&executor(&cluster, &agent, "m1")).await;
    handle.start().await.unwrap();
    let pod = cluster.names("pods").pop().unwrap();
    let message = "the object has been modified; please apply your changes to the latest version";
    cluster.fault(Method::DELETE, &pod, Fault::Refuse(409, "Conflict", message));
    let error = handle.dispose().await.unwrap_err();
    assert_eq!(error.kind, ExecutorErrorKind::Unavailable);
    assert!(!cluster.names("secrets").is_empty(), "the record goes last");
    handle.dispose().await.unwrap();
    assert!(cluster.names("pods").is_empty() && cluster.names("secrets").is_empty());
}

#[tokio::test]
async fn a_version_that_is_too_old_refuses_no_job() {
    // Seed 1833.
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    cluster.fault(Method::POST, "pods", Fault::Refuse(410, "Expired", "too old resource version"));
    let mut handle = reserve(&executor(&cluster, &agent, "m1")).await;
    let error = handle.start().await.unwrap_err();
    assert_eq!(error.kind, ExecutorErrorKind::Unavailable);
    handle.start().await.unwrap();
}

#[tokio::test]
async fn what_a_cluster_cannot_do_is_found_out_once() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let message = "Pod \"x\" is invalid: spec.containers[0].restartPolicyRules: Forbidden";
    cluster.fault(Method::POST, "pods", Fault::Refuse(422, "Invalid", message));
    let executor = executor(&cluster, &agent, "m1");
    let mut handle = reserve(&executor).await;
    handle.start().await.unwrap();
    assert!(cluster.only("pods")["spec"]["containers"][0].get("restartPolicyRules").is_none());
}

#[tokio::test]
async fn k8s_74_a_pod_that_someone_deletes_ends_the_job_with_that_reason() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"some trace", Outcome::Exited(0)));
    let executor = executor(&cluster, &agent, "m1");
    let mut handle = reserve(&executor).await;
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, Offset(4)).await;
    let pod = runs(&cluster);
    while !matches!(handle.event().await, JobEvent::Finishing) {}
    cluster.delete_pod(&pod);
    let end = ended(handle.event().await);
    // The verdict was known, but not all of the trace: the worst wins, and no checksum is invented.
    assert!(matches!(&end.outcome, Outcome::Infra(infra) if infra.message.contains("deleted")));
    assert_eq!(end.trace, None);
    handle.dispose().await.unwrap();
}

#[tokio::test]
async fn k8s_14_the_next_pull_policy_gets_a_pod_of_its_own() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"done", Outcome::Exited(0)));
    let mut settings = settings();
    settings.pull_policy =
        runner_k8s::settings::OneOrMany::Many(vec!["always".into(), "if-not-present".into()]);
    let executor = executor_with(&cluster, &agent, "m1", &settings);
    let mut handle = reserve(&executor).await;
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, ALL).await;
    let first = cluster.names("pods").pop().unwrap();
    let mut status = running();
    status["containerStatuses"][0]["state"] =
        json!({ "waiting": { "reason": "ErrImagePull", "message": "not found" } });
    cluster.set_status(&first, status);
    loop {
        match handle.event().await {
            JobEvent::Waiting { reason } if reason.contains("IfNotPresent") => break,
            JobEvent::Waiting { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let second = loop {
        match cluster.names("pods").pop() {
            Some(name) if name != first => break name,
            _ => tokio::task::yield_now().await,
        }
    };
    let pod = cluster.only("pods");
    let build = &pod["spec"]["containers"][1];
    assert_eq!(
        (&build["name"], &build["imagePullPolicy"]),
        (&json!("build"), &json!("IfNotPresent"))
    );
    cluster.set_status(&second, running());
    let (trace, end) = to_the_end(&mut *handle).await;
    assert_eq!((&trace[..], ended(end).outcome), (&b"done"[..], Outcome::Exited(0)));
    handle.dispose().await.unwrap();
    assert!(cluster.names("pods").is_empty() && cluster.names("secrets").is_empty());
}

#[tokio::test]
async fn k8s_72_a_job_cancelled_while_its_pod_is_pending_leaves_nothing() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let executor = executor(&cluster, &agent, "m1");
    let mut handle = reserve(&executor).await;
    handle.start().await.unwrap();
    handle.stop(Stop::Cancel).await.unwrap();
    let (_, end) = to_the_end(&mut *handle).await;
    assert_eq!(ended(end).outcome, Outcome::Cancelled);
    handle.dispose().await.unwrap();
    assert!(cluster.names("pods").is_empty() && cluster.names("secrets").is_empty());
}

#[tokio::test]
async fn what_is_said_while_a_job_waits_is_one_request_more() {
    let (cluster, agent) = (Cluster::new(), Agent::new(b"", Outcome::Exited(0)));
    let executor = executor(&cluster, &agent, "m1");
    let mut handle = reserve(&executor).await;
    handle.start().await.unwrap();
    let before = cluster.requests().len();
    let remarks = Remarks { before: "waiting\n".into(), ..Remarks::default() };
    handle.remark(remarks.clone()).await.unwrap();
    let list = |request: &&String| *request != "GET pods";
    assert_eq!(cluster.requests()[before..].iter().filter(list).count(), 1);
    assert_eq!(handle.remarks(), remarks);
}
