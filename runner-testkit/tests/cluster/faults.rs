//! The cluster can be hurt in the ways real ones hurt, and says so as real ones do.

use std::time::Duration;

use http::Method;
use rstest::rstest;
use runner_testkit::cluster::{Fault, Isolation, NoSuchPod, RandomDrops, RequestFilter};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{PATIENCE, Sim, pod, settings, sim, state};

fn condition<'a>(pod: &'a Value, kind: &str) -> &'a Value {
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

async fn running(isolation: Isolation) -> Sim {
    let sim = Sim::start(settings(isolation));
    sim.create(&pod("p", "sleep 1000")).await;
    sim.until_running("p").await;
    sim
}

#[rstest]
#[tokio::test]
async fn k8s_74_an_evicted_pod_fails_with_that_reason(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = running(isolation).await;
    sim.cluster.evict("p").unwrap();
    let ended = sim.until_ended("p").await;
    assert_eq!(
        (&ended["status"]["phase"], &ended["status"]["reason"]),
        (&"Failed".into(), &"Evicted".into())
    );
    let message = ended["status"]["message"].as_str().unwrap();
    assert!(message.contains("low on resource"), "{message}");
    assert_eq!(state(&ended)["terminated"]["exitCode"], 137);
    assert_eq!(condition(&ended, "DisruptionTarget")["reason"], "TerminationByKubelet");
    assert_eq!(condition(&ended, "Ready")["reason"], "PodFailed");
}

#[rstest]
#[case::oom(true, "OOMKilled")]
#[case::pid_1(false, "Error")]
#[tokio::test]
async fn k8s_75_killing_one_container_leaves_the_others(#[case] oom: bool, #[case] reason: &str) {
    let sim = sim();
    let mut pod = pod("p", "sleep 1000");
    let second =
        json!({"name": "svc", "image": crate::support::IMAGE, "command": ["sleep", "1000"]});
    pod["spec"]["containers"].as_array_mut().unwrap().push(second);
    sim.create(&pod).await;
    let both = |p: &Value| {
        let all = p["status"]["containerStatuses"].as_array();
        all.is_some_and(|a| a.iter().all(|c| c["state"]["running"].is_object()))
    };
    sim.until("p", both).await;
    if oom {
        sim.cluster.oom_kill("p", "svc").unwrap();
    } else {
        sim.cluster.kill_pid1("p", "svc").unwrap();
    }
    let dead = |p: &Value| p["status"]["containerStatuses"][1]["state"]["terminated"].is_object();
    let seen = sim.until("p", dead).await;
    let ended = &seen["status"]["containerStatuses"][1]["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&reason.into(), &137.into()));
    assert_eq!(seen["status"]["phase"], "Running");
    assert!(state(&seen)["running"].is_object());
}

#[tokio::test]
async fn a_lost_node_says_nothing_more() {
    let sim = running(Isolation::Auto).await;
    let mut exec = sim.exec("p", "main", "echo begun; sleep 1000").await;
    exec.begun().await;
    sim.cluster.lose_node();
    let seen = sim.until("p", |p| !p["metadata"]["deletionTimestamp"].is_null()).await;
    assert_eq!(seen["status"]["phase"], "Running");
    assert_eq!(condition(&seen, "Ready")["status"], "False");
    assert_eq!(condition(&seen, "DisruptionTarget")["reason"], "DeletionByTaintManager");
    assert!(state(&seen)["running"].is_object());
    let path = crate::support::exec_path("p", "main", &["true"]);
    let token = sim.cluster.admin_token().to_owned();
    let (code, body) = sim.upgrade(&token, &path, "v5.channel.k8s.io").await.err().unwrap();
    assert_eq!(code, 500);
    assert!(body.contains("no route to host"), "{body}");
    // The old stream hangs: neither data nor end.
    let silent = timeout(Duration::from_millis(300), exec.0.get_mut().inner_ready()).await;
    assert!(silent.is_err());
    sim.cluster.remove_node();
    let (code, _) = sim.call(Method::GET, &sim.path("pods/p"), None).await;
    assert_eq!(code, 404);
    sim.create(&pod("next", "true")).await;
    sim.cluster.restore_node();
    assert_eq!(sim.until_ended("next").await["status"]["phase"], "Succeeded");
}

/// Reading a byte, for a stream from which nothing must come.
trait InnerReady {
    async fn inner_ready(&mut self);
}

impl InnerReady for hyper_util::rt::TokioIo<hyper::upgrade::Upgraded> {
    async fn inner_ready(&mut self) {
        use tokio::io::AsyncReadExt;
        let mut byte = [0];
        drop(self.read(&mut byte).await);
    }
}

#[tokio::test]
async fn faults_of_pods_need_a_pod() {
    let sim = sim();
    assert_eq!(sim.cluster.evict("none"), Err(NoSuchPod("none".into())));
    assert_eq!(sim.cluster.delete_pod("none", None), Err(NoSuchPod("none".into())));
}

#[rstest]
#[case(Fault::Conflict, 409, "Conflict", None)]
#[case(Fault::Gone, 410, "Expired", None)]
#[case(Fault::TooManyRequests { retry_after: Duration::from_secs(3) }, 429, "TooManyRequests", Some("3"))]
#[case(Fault::Internal, 500, "InternalError", None)]
#[case(Fault::Unavailable, 503, "ServiceUnavailable", None)]
#[tokio::test]
async fn the_next_requests_fail_as_told(
    #[case] fault: Fault,
    #[case] code: u16,
    #[case] reason: &str,
    #[case] retry_after: Option<&str>,
) {
    let sim = sim();
    sim.cluster.fail_next(2, RequestFilter::of("create", "pods"), fault);
    let token = sim.cluster.admin_token().to_owned();
    assert_eq!(sim.call(Method::GET, &sim.path("pods"), None).await.0, 200);
    for _ in 0..2 {
        let body = pod("p", "true").to_string().into_bytes();
        let answer = sim.send(&token, Method::POST, &sim.path("pods"), &[], body).await.unwrap();
        assert_eq!(answer.status().as_u16(), code);
        let header = answer.headers().get("retry-after").map(|h| h.to_str().unwrap().to_owned());
        assert_eq!(header.as_deref(), retry_after);
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["reason"], reason);
    }
    sim.create(&pod("p", "true")).await;
}

#[tokio::test]
async fn an_answer_can_be_lost_after_the_request_had_its_effect() {
    let sim = sim();
    let token = sim.cluster.admin_token().to_owned();
    for (fault, effect) in [(Fault::Drop, false), (Fault::LoseAnswer, true)] {
        sim.cluster.fail_next(1, RequestFilter::any(), fault);
        let body = pod("p", "sleep 100").to_string().into_bytes();
        let answer = sim.send(&token, Method::POST, &sim.path("pods"), &[], body).await;
        assert!(answer.is_err(), "{fault:?}");
        assert_eq!(sim.cluster.pod("p").is_some(), effect, "{fault:?}");
    }
}

#[tokio::test]
async fn k8s_51_an_api_server_that_is_away_refuses_connections_and_pods_run_on() {
    let sim = running(Isolation::Auto).await;
    sim.create(&pod("short", "sleep 0.2; exit 4")).await;
    let mut watch = sim.watch("").await;
    sim.cluster.api_away(Duration::from_secs(3600));
    // The watch ends.
    timeout(PATIENCE, async { while watch.next().await.is_some() {} }).await.unwrap();
    assert!(tokio::net::TcpStream::connect(sim.cluster.address()).await.is_err());
    let ended = || sim.cluster.pod("short").is_some_and(|p| p["status"]["phase"] == "Failed");
    for _ in 0..500 {
        if ended() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(ended());
    sim.cluster.api_back();
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(sim.cluster.address()).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(sim.until_ended("short").await["status"]["phase"], "Failed");
    assert!(state(&sim.cluster.pod("p").unwrap())["running"].is_object());
}

#[tokio::test]
async fn a_restart_of_the_api_server_cuts_streams_and_forgets_nothing() {
    let sim = running(Isolation::Auto).await;
    let mut exec = sim.exec("p", "main", "echo begun; sleep 1000").await;
    exec.begun().await;
    sim.cluster.restart_api();
    let came = exec.read().await;
    assert!(came.status.is_none() && !came.closed);
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(sim.cluster.address()).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(sim.call(Method::GET, &sim.path("pods/p"), None).await.0, 200);
}

#[tokio::test]
async fn a_stream_breaks_after_so_many_bytes() {
    let sim = running(Isolation::Auto).await;
    sim.cluster.drop_stream_after(100_000);
    let came = sim.exec("p", "main", "seq 1 100000").await.read().await;
    // What was sent is the upgrade's answer, frames with their heads, and the output.
    assert!(came.status.is_none() && !came.closed);
    assert!(came.stdout.len() > 50_000 && came.stdout.len() < 100_000, "{}", came.stdout.len());
    // Only the one.
    let came = sim.exec("p", "main", "seq 1 100000").await.read().await;
    assert_eq!(came.status.unwrap()["status"], "Success");
}

#[tokio::test]
async fn a_seed_says_where_streams_break() {
    let mut lengths = Vec::new();
    for _ in 0..2 {
        let sim = running(Isolation::Plain).await;
        sim.cluster.drop_streams_randomly(RandomDrops { seed: 7, times: 3, mean_bytes: 50_000 });
        let mut broken = 0;
        while sim.exec_ok("seq 1 100000").await.is_none() {
            broken += 1;
        }
        lengths.push(broken);
    }
    assert_eq!(lengths, [3, 3]);
}

impl Sim {
    /// The status of an exec, `None` when the stream broke, at whatever byte.
    async fn exec_ok(&self, script: &str) -> Option<Value> {
        let path = crate::support::exec_path("p", "main", &["sh", "-c", script]);
        let token = self.cluster.admin_token().to_owned();
        let headers = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "v5.channel.k8s.io"),
        ];
        let answer =
            self.send(&token, Method::GET, &self.path(&path), &headers, Vec::new()).await.ok()?;
        let io = hyper_util::rt::TokioIo::new(hyper::upgrade::on(answer).await.ok()?);
        let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
        let socket = tokio_tungstenite::WebSocketStream::from_raw_socket(io, role, None).await;
        crate::support::Exec(socket).read().await.status
    }
}

#[tokio::test]
async fn streams_can_be_stalled_and_cut() {
    let sim = running(Isolation::Auto).await;
    let mut exec = sim.exec("p", "main", "echo begun; cat").await;
    exec.begun().await;
    sim.cluster.stall_streams(true);
    exec.input(b"hello").await;
    assert!(timeout(Duration::from_millis(200), exec.begun()).await.is_err());
    sim.cluster.stall_streams(false);
    exec.begun().await;
    assert_eq!(sim.cluster.open_streams(), 1);
    sim.cluster.drop_streams();
    let came = exec.read().await;
    assert!(came.status.is_none() && !came.closed);
    // Whoever is not a stream is not touched.
    assert_eq!(sim.call(Method::GET, &sim.path("pods/p"), None).await.0, 200);
}

#[tokio::test]
async fn a_request_can_be_slow() {
    let sim = sim();
    sim.cluster.fail_next(1, RequestFilter::on("pods"), Fault::Delay(Duration::from_millis(120)));
    let begun = tokio::time::Instant::now();
    assert_eq!(sim.call(Method::GET, &sim.path("pods"), None).await.0, 200);
    assert!(begun.elapsed() >= Duration::from_millis(120));
}
