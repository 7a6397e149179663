//! Watches: versions, selectors, bookmarks, and the event sequences of a real cluster.

use std::time::Duration;

use http::Method;
use rstest::rstest;
use runner_testkit::cluster::ClusterSettings;
use runner_testkit::cluster::{ImageSpec, Isolation};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{PATIENCE, Sim, Watch, pod, settings, sim};

/// What an event says about a pod, without times, ids and node names.
fn summary(event: &Value) -> String {
    let object = &event["object"];
    let status = &object["status"];
    let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    let conditions: Vec<String> = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| format!("{}={}({})", text(&c["type"]), text(&c["status"]), text(&c["reason"])))
        .collect();
    let state = |s: &Value| -> String {
        let Some((kind, inner)) = s.as_object().and_then(|m| m.iter().next()) else {
            return "-".into();
        };
        format!(
            "{kind}({} {} {})",
            text(&inner["reason"]),
            inner["exitCode"],
            inner["message"].is_string()
        )
    };
    let containers: Vec<String> = ["initContainerStatuses", "containerStatuses"]
        .iter()
        .flat_map(|list| status[*list].as_array().into_iter().flatten())
        .map(|c| {
            let (now, last) = (state(&c["state"]), state(&c["lastState"]));
            format!("{} {now} last {last} x{} {}", text(&c["name"]), c["restartCount"], c["ready"])
        })
        .collect();
    format!(
        "{} {} {} grace {} | {} | {}",
        text(&event["type"]),
        text(&status["phase"]),
        text(&status["reason"]),
        object["metadata"]["deletionGracePeriodSeconds"],
        conditions.join(" "),
        containers.join("; "),
    )
}

fn sequence(events: &[Value]) -> Vec<String> {
    let mut all: Vec<String> =
        events.iter().filter(|e| e["type"] != "BOOKMARK").map(summary).collect();
    all.dedup();
    all
}

async fn read(watch: &mut Watch, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    let mut distinct = 0;
    while distinct < count {
        let Ok(Some(event)) = timeout(PATIENCE, watch.next()).await else { break };
        events.push(event);
        distinct = sequence(&events).len();
    }
    events
}

fn recording(name: &str) -> Value {
    let path = format!("{}/recordings/watch_{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The same pod, treated in the same way, gives the same events as on a real cluster.
#[rstest]
#[case::completed("completed", "")]
#[case::exit_7("exit_7", "")]
#[case::no_such_command("no_such_command", "")]
#[case::graceful_delete("graceful_delete", "delete")]
#[case::delete_ignoring_term("delete_ignoring_term", "delete")]
#[case::delete_now("delete_now", "delete now")]
#[case::deadline("deadline", "")]
#[case::unschedulable("unschedulable", "delete when seen")]
#[case::init_fails("init_fails", "")]
#[case::restart_rules("restart_rules", "")]
#[case::oom("oom", "oom")]
#[tokio::test]
async fn events_are_those_of_a_real_cluster(
    #[case] name: &str,
    #[case] act: &str,
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = Sim::start(settings(isolation));
    let recording = recording(name);
    let expected = sequence(recording["events"].as_array().unwrap());
    let mut pod = recording["pod"].clone();
    let pod_name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    if act == "oom" {
        // Nothing here limits memory: the container waits to be killed.
        pod["spec"]["containers"][0]["command"] = json!(["sleep", "100"]);
    }
    let (_, list) = sim.call(Method::GET, &sim.path("pods"), None).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = sim.watch(&format!("resourceVersion={version}")).await;
    sim.create(&pod).await;
    match act {
        "" => {}
        "delete when seen" => {
            sim.until(&pod_name, |p| p["status"]["conditions"][0]["status"] == "False").await;
            sim.cluster.delete_pod(&pod_name, None).unwrap();
        }
        act => {
            sim.until_running(&pod_name).await;
            if act == "oom" {
                sim.cluster.oom_kill(&pod_name, "main").unwrap();
            } else {
                // The shell needs a moment to set its trap.
                let log = sim.path(&format!("pods/{pod_name}"));
                sim.call(Method::GET, &log, None).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                let grace = (act == "delete now").then_some(Duration::ZERO);
                sim.cluster.delete_pod(&pod_name, grace).unwrap();
            }
        }
    }
    let events = read(&mut watch, expected.len()).await;
    let got = sequence(&events);
    assert_eq!(got, expected, "\nsim  {got:#?}\nreal {expected:#?}");
}

/// A kubelet looks at a pod with a failing image again and again; the order of reasons is what counts.
#[rstest]
#[case("err_image_pull", &["ErrImagePull", "ImagePullBackOff", "ErrImagePull"])]
#[case("invalid_image_name", &["InvalidImageName"])]
#[case("image_never", &["ErrImageNeverPull"])]
#[tokio::test]
async fn k8s_18_image_errors_wait_with_the_reasons_of_a_real_kubelet(
    #[case] name: &str,
    #[case] reasons: &[&str],
) {
    let sim = sim();
    let waiting = |event: &Value| {
        let waiting = &event["object"]["status"]["containerStatuses"][0]["state"]["waiting"];
        let reason = waiting["reason"].as_str()?.to_owned();
        (reason != "ContainerCreating").then(|| (reason, waiting["message"].clone()))
    };
    let recording = recording(name);
    let mut real: Vec<_> =
        recording["events"].as_array().unwrap().iter().filter_map(waiting).collect();
    real.dedup();
    real.truncate(reasons.len());
    let mut watch = sim.watch("").await;
    sim.create(&recording["pod"]).await;
    let mut got = Vec::new();
    while got.len() < reasons.len() {
        let event = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        got.extend(waiting(&event));
        got.dedup();
    }
    assert_eq!(got.iter().map(|(r, _)| r.as_str()).collect::<Vec<_>>(), reasons);
    assert_eq!(got, real);
    let pod_name = recording["pod"]["metadata"]["name"].as_str().unwrap();
    sim.cluster.delete_pod(pod_name, None).unwrap();
    let mut last = Value::Null;
    loop {
        let event = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        if event["type"] == "DELETED" {
            break;
        }
        last = event;
    }
    let ended = &last["object"]["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["reason"], "ContainerStatusUnknown");
    assert_eq!(ended["exitCode"], 137);
}

#[tokio::test]
async fn a_watch_goes_on_where_a_list_ended() {
    let sim = sim();
    sim.create(&pod("before", "sleep 100")).await;
    let running = sim.until_running("before").await;
    let version = running["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = sim.watch(&format!("resourceVersion={version}")).await;
    sim.create(&pod("after", "true")).await;
    let event = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["metadata"]["name"]),
        (&"ADDED".into(), &"after".into())
    );
}

#[tokio::test]
async fn a_watch_from_a_forgotten_version_gets_410_and_so_does_one_that_runs() {
    let sim = sim();
    let (_, list) = sim.call(Method::GET, &sim.path("pods"), None).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut running = sim.watch(&format!("resourceVersion={version}")).await;
    sim.cluster.expire_watches();
    let mut late = sim.watch(&format!("resourceVersion={version}")).await;
    for watch in [&mut running, &mut late] {
        let event = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        assert_eq!(event["type"], "ERROR");
        assert_eq!(
            (&event["object"]["code"], &event["object"]["reason"]),
            (&410.into(), &"Expired".into())
        );
        assert!(timeout(PATIENCE, watch.next()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn history_is_as_long_as_set() {
    let sim = Sim::start(ClusterSettings { history: 2, ..settings(Isolation::Plain) });
    let (_, list) = sim.call(Method::GET, &sim.path("pods"), None).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    for name in ["a", "b", "c"] {
        let secret = json!({"metadata": {"name": name}});
        assert_eq!(sim.call(Method::POST, &sim.path("secrets"), Some(&secret)).await.0, 201);
    }
    let event = sim.watch(&format!("resourceVersion={version}")).await.next().await.unwrap();
    assert_eq!(event["object"]["code"], 410);
}

#[tokio::test]
async fn bookmarks_come_to_those_who_ask() {
    let sim = Sim::start(ClusterSettings {
        bookmark_interval: Duration::from_millis(20),
        ..settings(Isolation::Plain)
    });
    let mut watch = sim.watch("timeoutSeconds=30").await;
    let event = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert_eq!(event["type"], "BOOKMARK");
    let real = recording("completed");
    let bookmarks = real["events"].as_array().unwrap();
    let real = bookmarks.iter().find(|e| e["type"] == "BOOKMARK").unwrap();
    let keys = |e: &Value| e["object"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&event), keys(real));
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_over() {
    let sim = sim();
    let mut watch = sim.watch("timeoutSeconds=0").await;
    assert_eq!(timeout(PATIENCE, watch.next()).await.unwrap().unwrap()["type"], "BOOKMARK");
    assert!(timeout(PATIENCE, watch.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn labels_select_what_a_watch_sees() {
    let sim = sim();
    let mut watch = sim.watch("labelSelector=app%3Dwanted").await;
    sim.create(&pod("other", "true")).await;
    sim.create(&pod("wanted", "true")).await;
    let event = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert_eq!(event["object"]["metadata"]["name"], "wanted");
}

#[tokio::test]
async fn pulls_take_their_time_and_fail_as_told() {
    let sim = sim();
    let mut spec = ImageSpec::default();
    spec.pull.failures = vec!["registry said: 503".into()];
    sim.cluster.register_image("slow/image:1", spec);
    let mut pod = pod("p", "echo done");
    pod["spec"]["containers"][0]["image"] = "slow/image:1".into();
    sim.create(&pod).await;
    let waiting =
        |p: &Value| p["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    let failed = sim.until("p", |p| waiting(p) == "ErrImagePull").await;
    let state = &failed["status"]["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(state["message"], "registry said: 503");
    assert_eq!(sim.until_ended("p").await["status"]["phase"], "Succeeded");
}
