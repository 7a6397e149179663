//! Pods from their creation to their removal, in both kinds of isolation.

use std::time::Duration;

use http::Method;
use rstest::rstest;
use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec, Isolation};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{PATIENCE, Sim, pod, settings, sim, state};

#[rstest]
#[tokio::test]
async fn a_container_runs_its_command_with_its_environment(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = Sim::start(settings(isolation));
    let image = ImageSpec { env: vec![("FROM_IMAGE".into(), "i".into())], ..ImageSpec::present() };
    sim.cluster.register_image("with/env", image);
    let mut pod = pod("p", "echo $A-$B-$FROM_IMAGE-$HOSTNAME; echo err >&2");
    let container = &mut pod["spec"]["containers"][0];
    container["image"] = "with/env".into();
    container["imagePullPolicy"] = "IfNotPresent".into();
    container["env"] = json!([
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)$$(A)"},
        {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]);
    let (ended, log) = sim.run(&pod).await;
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended:#}");
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["1-1$(A)-i-p", "err"]);
}

#[rstest]
#[tokio::test]
async fn k8s_75_the_termination_message_is_read(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = Sim::start(settings(isolation));
    let (ended, _) = sim.run(&pod("p", "printf verdict > /dev/termination-log; exit 3")).await;
    let ended = &state(&ended)["terminated"];
    assert_eq!((&ended["message"], &ended["exitCode"]), (&"verdict".into(), &3.into()));
    let mut fallback = pod("q", "echo last words; exit 1");
    fallback["spec"]["containers"][0]["terminationMessagePolicy"] = "FallbackToLogsOnError".into();
    let (ended, _) = sim.run(&fallback).await;
    assert_eq!(state(&ended)["terminated"]["message"], "last words\n");
}

#[tokio::test]
async fn with_namespaces_the_program_is_pid_1_and_takes_everything_with_it() {
    let sim = sim();
    if !sim.cluster.has_namespaces() {
        // Here plain mode is all there is, and the next test shows what it does instead.
        return;
    }
    let script =
        "setsid sleep 1000 & sh -c 'echo $PPID'; ls /.old 2>&1 | wc -l; touch /seen-by-nobody-else";
    let (_, log) = sim.run(&pod("p", script)).await;
    assert_eq!(log.lines().next(), Some("1"));
    assert!(!std::path::Path::new("/seen-by-nobody-else").exists());
    assert!(sim.cluster.leftovers().processes.is_empty());
}

#[rstest]
#[tokio::test]
async fn nothing_that_a_container_started_survives_it(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = Sim::start(settings(isolation));
    let script =
        "(setsid sleep 1000 >/dev/null 2>&1 &) ; (nohup sleep 1000 >/dev/null 2>&1 &); true";
    sim.run(&pod("p", script)).await;
    assert_eq!(sim.cluster.leftovers().processes, [0; 0]);
    sim.create(&pod("q", "sleep 1000 & sleep 1000")).await;
    sim.until_running("q").await;
    assert!(!sim.cluster.leftovers().processes.is_empty());
    let cluster = sim.cluster;
    let uid = cluster.pod("q").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    drop(cluster);
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&environment).contains(&uid), "{:?}", entry.path());
    }
}

#[rstest]
#[tokio::test]
async fn a_deleted_pod_gets_term_then_kill_and_goes(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = Sim::start(settings(isolation));
    let script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut pod = pod("p", script);
    pod["spec"]["terminationGracePeriodSeconds"] = 30.into();
    sim.create(&pod).await;
    sim.until_running("p").await;
    let token = sim.cluster.admin_token().to_owned();
    let log = sim.path("pods/p/log?follow=true");
    let mut log = sim.send(&token, Method::GET, &log, &[], Vec::new()).await.unwrap().into_body();
    timeout(PATIENCE, http_body_util::BodyExt::frame(&mut log)).await.unwrap();
    let mut watch = sim.watch("").await;
    let (code, body) = sim.call(Method::DELETE, &sim.path("pods/p"), None).await;
    assert_eq!((code, &body["kind"]), (200, &"Pod".into()));
    let mut last = json!(null);
    while let Some(event) = timeout(PATIENCE, watch.next()).await.unwrap() {
        if event["type"] == "DELETED" {
            break;
        }
        last = event;
    }
    assert_eq!(state(&last["object"])["terminated"]["exitCode"], 5);
    assert!(sim.cluster.leftovers().is_empty(), "{:?}", sim.cluster.leftovers());
}

#[tokio::test]
async fn deletion_checks_preconditions_and_what_is_gone_is_not_found() {
    let sim = sim();
    let made = sim.create(&pod("p", "sleep 100")).await;
    let options = |uid: &str| json!({"preconditions": {"uid": uid}, "gracePeriodSeconds": 0});
    let path = sim.path("pods/p");
    let (code, body) = sim.call(Method::DELETE, &path, Some(&options("x"))).await;
    assert_eq!((code, &body["reason"]), (409, &"Conflict".into()));
    let uid = made["metadata"]["uid"].as_str().unwrap();
    assert_eq!(sim.call(Method::DELETE, &path, Some(&options(uid))).await.0, 200);
    assert_eq!(sim.call(Method::DELETE, &path, None).await.0, 404);
}

#[tokio::test]
async fn init_containers_run_one_after_the_other_and_first() {
    let sim = sim();
    let mut pod = pod("p", "cat /v/order; echo main");
    let init = |name: &str| {
        json!({
            "name": name, "image": crate::support::IMAGE, "command": ["sh", "-c", format!("echo {name} >> /v/order")],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        })
    };
    pod["spec"]["initContainers"] = json!([init("one"), init("two")]);
    pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    let (ended, log) = sim.run(&pod).await;
    assert_eq!(log, "one\ntwo\nmain\n");
    let inits = &ended["status"]["initContainerStatuses"];
    assert_eq!(inits[1]["state"]["terminated"]["reason"], "Completed");
}

#[tokio::test]
async fn a_pod_without_a_node_waits_until_there_is_one() {
    let sim = sim();
    sim.cluster.set_schedulable(false);
    sim.create(&pod("p", "true")).await;
    let waiting = sim.until("p", |p| p["status"]["conditions"].is_array()).await;
    let condition = &waiting["status"]["conditions"][0];
    assert_eq!(
        (&condition["status"], &condition["reason"]),
        (&"False".into(), &"Unschedulable".into())
    );
    sim.cluster.set_schedulable(true);
    assert_eq!(sim.until_ended("p").await["status"]["phase"], "Succeeded");
}

#[tokio::test]
async fn scheduling_takes_as_long_as_told() {
    let sim = sim();
    sim.cluster.set_schedule_delay(Duration::from_millis(150));
    let begun = tokio::time::Instant::now();
    sim.run(&pod("p", "true")).await;
    assert!(begun.elapsed() >= Duration::from_millis(150));
}

#[rstest]
#[tokio::test]
async fn two_containers_share_volumes_and_the_network(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = Sim::start(settings(isolation));
    let server = "import socket, sys\ns = socket.create_server(('127.0.0.1', 0))\nopen('/v/port.new', 'w').write(str(s.getsockname()[1]))\nimport os\nos.rename('/v/port.new', '/v/port')\nc, _ = s.accept()\nc.sendall(b'hello from the service\\n')\nc.close()";
    let client = "import os, socket, time\nwhile not os.path.exists('/v/port'): time.sleep(0.02)\nc = socket.create_connection(('localhost', int(open('/v/port').read())))\nprint(c.recv(100).decode(), end='')";
    if !std::process::Command::new("/usr/bin/python3")
        .arg("-c")
        .arg("")
        .status()
        .is_ok_and(|s| s.success())
    {
        // The same without a network is shown by the tests of volumes.
        return;
    }
    let container = |name: &str, script: &str| {
        // In plain mode paths inside a script are replaced too.
        json!({
            "name": name, "image": crate::support::IMAGE, "command": ["/usr/bin/python3", "-c", script],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        })
    };
    let mut pod = pod("p", "");
    pod["spec"]["containers"] = json!([container("main", client), container("svc", server)]);
    pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    let (ended, log) = sim.run(&pod).await;
    assert_eq!(log, "hello from the service\n", "{ended:#}");
}

#[tokio::test]
async fn a_pod_that_restarts_keeps_its_volumes() {
    let sim = sim();
    let mut pod =
        pod("p", "echo run >> /v/runs; test $(wc -l < /v/runs) = 3 || exit 137; cat /v/runs");
    pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    let container = &mut pod["spec"]["containers"][0];
    container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    container["restartPolicy"] = "Never".into();
    container["restartPolicyRules"] =
        json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [137, 139]}}]);
    let (ended, log) = sim.run(&pod).await;
    assert_eq!(ended["status"]["containerStatuses"][0]["restartCount"], 2);
    assert_eq!(log, "run\nrun\nrun\n");
}

#[test]
fn a_cluster_needs_no_runtime_and_leaves_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let work_dir = Some(dir.path().to_owned());
    let cluster =
        Cluster::start(ClusterSettings { work_dir, ..settings(Isolation::Auto) }).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let address = cluster.address();
    drop(cluster);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(std::net::TcpStream::connect(address).is_err());
}
