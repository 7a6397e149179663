//! Exec over websockets, beside the recordings of a real cluster (`recordings/exec_websocket.json`).

use rstest::rstest;
use runner_testkit::cluster::{Isolation, Rule};
use serde_json::Value;

use crate::support::{Sim, exec_path, pod, settings, sim};

async fn idle(isolation: Isolation) -> Sim {
    let sim = Sim::start(settings(isolation));
    sim.create(&pod("p", "echo own output; exec sleep 1000")).await;
    sim.until_running("p").await;
    sim
}

/// The order of messages and the status of a recorded stream.
fn recorded(name: &str) -> (Vec<String>, Value) {
    let all: Value =
        serde_json::from_str(include_str!("../../recordings/exec_websocket.json")).unwrap();
    let (mut order, mut status) = (Vec::new(), Value::Null);
    for frame in all[name]["frames"].as_array().unwrap() {
        if frame["op"] == "close" {
            order.push(format!("close {}", frame["code"]));
            continue;
        }
        let text = frame["text"].as_str().unwrap();
        order.push(format!("{}:{}", frame["channel"], if text.is_empty() { "" } else { "x" }));
        if frame["channel"] == 3 {
            status = serde_json::from_str(text).unwrap();
        }
    }
    (order, status)
}

/// A status without the id of an exec, which containerd names in some messages.
fn without_id(status: &Value) -> Value {
    let text = status.to_string();
    let Some(at) = text.find("failed to start exec \\\"") else { return status.clone() };
    let id = &text[at + 20..];
    let end = id[3..].find('"').unwrap() + 4;
    serde_json::from_str(&text.replace(&id[..end], "")).unwrap()
}

#[rstest]
#[case::exit_0_v4("exit_0_v4", "v4.channel.k8s.io", &["sh", "-c", "echo out"])]
#[case::exit_7("exit_7", "v5.channel.k8s.io", &["sh", "-c", "exit 7"])]
#[case::exit_7_v4("exit_7_v4", "v4.channel.k8s.io", &["sh", "-c", "exit 7"])]
#[case::killed("killed", "v5.channel.k8s.io", &["sh", "-c", "kill -9 $$"])]
#[case::both_offered("both_offered", "v5.channel.k8s.io, v4.channel.k8s.io", &["true"])]
#[case::no_such_command("no_such_command", "v5.channel.k8s.io", &["nosuchprogram"])]
#[case::no_such_command_v4("no_such_command_v4", "v4.channel.k8s.io", &["nosuchprogram"])]
#[tokio::test]
async fn status_frames_are_those_of_a_real_cluster(
    #[case] name: &str,
    #[case] protocols: &str,
    #[case] command: &[&str],
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = idle(isolation).await;
    let token = sim.cluster.admin_token().to_owned();
    let path = exec_path("p", "main", command);
    let (protocol, mut exec) = sim.upgrade(&token, &path, protocols).await.unwrap();
    assert_eq!(protocol, protocols.split(',').next().unwrap());
    let came = exec.read().await;
    let (order, status) = recorded(name);
    assert_eq!(came.order, order);
    let squeeze = |v: &Value| without_id(v).to_string().replace("exec : OCI", "exec: OCI");
    assert_eq!(squeeze(&came.status.unwrap()), squeeze(&status));
}

#[rstest]
#[case(
    "no_such_pod",
    "pods/nope/exec?command=true&container=main&stdout=true",
    "v5.channel.k8s.io"
)]
#[case(
    "no_such_container",
    "pods/p/exec?command=true&container=zzz&stdout=true",
    "v5.channel.k8s.io"
)]
#[case("no_streams", "pods/p/exec?command=true&container=main", "v5.channel.k8s.io")]
#[case(
    "unknown_protocol",
    "pods/p/exec?command=true&container=main&stdout=true",
    "v9.channel.k8s.io"
)]
#[case(
    "container_not_running",
    "pods/ended/exec?command=true&container=main&stdout=true",
    "v5.channel.k8s.io"
)]
#[tokio::test]
async fn refusals_are_those_of_a_real_cluster(
    #[case] name: &str,
    #[case] path: &str,
    #[case] protocols: &str,
) {
    let sim = idle(Isolation::Auto).await;
    sim.run(&pod("ended", "true")).await;
    let token = sim.cluster.admin_token().to_owned();
    let (code, body) = sim.upgrade(&token, path, protocols).await.err().unwrap();
    let all: Value =
        serde_json::from_str(include_str!("../../recordings/exec_websocket.json")).unwrap();
    let real = &all[name];
    assert_eq!(Value::from(code), real["status"]);
    let real = real["body"].as_str().unwrap().replace("ridle", "p");
    let json = |text: &str| serde_json::from_str(text).unwrap_or(Value::from(text.trim()));
    assert_eq!(json(&body), json(&real));
}

#[rstest]
#[tokio::test]
async fn input_reaches_the_program_until_it_is_closed(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = idle(isolation).await;
    let mut exec = sim.exec("p", "main", "cat; echo done >&2").await;
    exec.input(b"hello ").await;
    exec.input(b"world").await;
    exec.close_input().await;
    let came = exec.read().await;
    assert_eq!((came.stdout, came.stderr), (b"hello world".to_vec(), b"done\n".to_vec()));
    assert_eq!(came.status.unwrap()["status"], "Success");
}

#[tokio::test]
async fn an_exec_sees_the_containers_files_and_processes() {
    let sim = idle(Isolation::Auto).await;
    let script = "touch /only-in-the-pod; ls /only-in-the-pod; tr '\\0' ' ' < /proc/1/cmdline";
    let came = sim.exec("p", "main", script).await.read().await;
    if sim.cluster.has_namespaces() {
        let text = String::from_utf8_lossy(&came.stdout).into_owned();
        assert!(text.starts_with("/only-in-the-pod\n") && text.contains("sleep"), "{text}");
        assert!(!std::path::Path::new("/only-in-the-pod").exists());
    } else {
        std::fs::remove_file("/only-in-the-pod").ok();
    }
}

#[tokio::test]
async fn much_output_arrives_whole_and_in_order() {
    let sim = idle(Isolation::Auto).await;
    let came = sim.exec("p", "main", "seq 1 400000").await.read().await;
    let mut expected = String::new();
    for n in 1..=400_000 {
        expected.push_str(&format!("{n}\n"));
    }
    assert_eq!(came.stdout.len(), expected.len());
    assert!(came.stdout == expected.as_bytes());
}

#[rstest]
#[tokio::test]
async fn a_program_whose_stream_is_gone_has_its_input_closed(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = idle(isolation).await;
    let mut exec = sim.exec("p", "main", "echo begun; cat >/dev/null; true").await;
    exec.begun().await;
    let before = sim.cluster.leftovers().processes.len();
    drop(exec);
    // The processes of the exec go; what is left is the container's own.
    let mut fewer = false;
    for _ in 0..200 {
        fewer = sim.cluster.leftovers().processes.len() < before;
        if fewer {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(fewer, "the program of the exec lives on");
}

#[rstest]
#[case::writing("yes")]
#[case::later("sleep 0.3; while echo x; do sleep 0.01; done")]
#[tokio::test]
async fn a_program_whose_stream_is_gone_cannot_write(#[case] rest: &str) {
    let sim = idle(Isolation::Auto).await;
    let script = format!("echo begun; {rest}");
    let mut exec = sim.exec("p", "main", &script).await;
    exec.begun().await;
    drop(exec);
    for _ in 0..500 {
        // The container's own.
        if sim.cluster.leftovers().processes.len() == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the program of the exec still writes");
}

#[tokio::test]
async fn the_end_of_the_container_ends_its_streams() {
    let sim = idle(Isolation::Auto).await;
    let mut exec = sim.exec("p", "main", "echo begun; sleep 1000").await;
    exec.begun().await;
    sim.cluster.delete_pod("p", Some(std::time::Duration::ZERO)).unwrap();
    let came = exec.read().await;
    let (_, real) = recorded("pod_deleted_meanwhile");
    if sim.cluster.has_namespaces() {
        assert_eq!(came.status.unwrap(), real);
    } else {
        assert_eq!(came.status.unwrap()["status"], "Failure");
    }
}

#[tokio::test]
async fn k8s_88_a_role_with_only_create_may_not_use_a_websocket() {
    let sim = idle(Isolation::Auto).await;
    let token = sim.cluster.token().to_owned();
    let path = exec_path("p", "main", &["true"]);
    let (code, body) = sim.upgrade(&token, &path, "v5.channel.k8s.io").await.err().unwrap();
    assert_eq!(code, 403);
    assert!(body.contains("cannot get resource"), "{body}");
    // Since 1.35 `get` alone is not enough either.
    let rules = vec![Rule::core(&["pods/exec"], &["get"])];
    let token = sim.cluster.add_service_account("ci", "get-only", rules);
    let (code, body) = sim.upgrade(&token, &path, "v5.channel.k8s.io").await.err().unwrap();
    assert_eq!(code, 403);
    assert!(body.contains("cannot create resource"), "{body}");
    let rules = vec![Rule::core(&["pods/exec"], &["get", "create"])];
    let token = sim.cluster.add_service_account("ci", "both", rules);
    assert!(sim.upgrade(&token, &path, "v5.channel.k8s.io").await.is_ok());
}

#[tokio::test]
async fn attach_follows_the_containers_own_output() {
    let sim = sim();
    let mut pod = pod("p", "read line; echo got $line");
    pod["spec"]["containers"][0]["stdin"] = true.into();
    sim.create(&pod).await;
    sim.until_running("p").await;
    let token = sim.cluster.admin_token().to_owned();
    let path = "pods/p/attach?container=main&stdin=true&stdout=true&stderr=true";
    let (_, mut exec) = sim.upgrade(&token, path, "v5.channel.k8s.io").await.unwrap();
    exec.input(b"this\n").await;
    let came = exec.read().await;
    assert_eq!(came.stdout, b"got this\n");
    assert_eq!(sim.until_ended("p").await["status"]["phase"], "Succeeded");
}
