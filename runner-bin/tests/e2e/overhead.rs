//! How much slower a job starts than a bare pod of the same containers, measured on a real cluster in
//! one run. Prints a table; the goals are in `BENCHMARKS.md`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use runner_k8s::names::{SOURCE_LABEL, source_hash};
use runner_testkit::gitlab::JobSpec;
use serde_json::{Value, json};

use crate::place::{Place, Real};
use crate::world::{PATIENCE, World, success, text};

const ROUNDS: usize = 15;

fn now() -> f64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs_f64()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The number in the line after this word.
fn stamp(text: &str, word: &str) -> f64 {
    let line = text.lines().find_map(|line| line.split_once(word).map(|(_, rest)| rest));
    line.unwrap_or_else(|| panic!("no {word} in {text}")).trim().parse().unwrap()
}

/// The same pod without the job: no plan, and the build container only says what time it is.
fn bare(pod: &Value, name: &str) -> Pod {
    let mut pod = pod.clone();
    pod["metadata"] = json!({ "name": name });
    pod["status"] = Value::Null;
    let spec = pod["spec"].as_object_mut().unwrap();
    for key in ["nodeName", "serviceAccount"] {
        spec.remove(key);
    }
    for volume in spec["volumes"].as_array_mut().unwrap() {
        let volume = volume.as_object_mut().unwrap();
        if volume.remove("secret").is_some() || volume.remove("projected").is_some() {
            volume.insert("emptyDir".into(), json!({}));
        }
    }
    for container in spec["containers"].as_array_mut().unwrap() {
        let script = match container["name"].as_str() {
            Some("build") => "echo \"NOW $(date +%s.%N)\"; sleep 100",
            _ => "sleep 100",
        };
        container["command"] = json!(["sh", "-c", script]);
        let container = container.as_object_mut().unwrap();
        for key in ["args", "env", "envFrom"] {
            container.remove(key);
        }
    }
    serde_json::from_value(pod).unwrap()
}

async fn run_bare(real: &Real, pod: &Value, round: usize) -> f64 {
    let name = format!("bare-{}-{round}", std::process::id());
    let began = now();
    real.pods().create(&PostParams::default(), &bare(pod, &name)).await.unwrap();
    let log = LogParams { container: Some("build".into()), ..LogParams::default() };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let said = loop {
        // Refused until the container runs.
        match real.pods().logs(&name, &log).await {
            Ok(text) if text.contains("NOW ") => break stamp(&text, "NOW "),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        assert!(tokio::time::Instant::now() < deadline, "the bare pod does not start");
    };
    real.pods().delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
    said - began
}

/// From the hand-out to the first line by the pod's clock, the same to GitLab's trace, and from the
/// script's end to the verdict.
async fn run_job(world: &World) -> (f64, f64, f64) {
    let spec = JobSpec::new("test").variable("GIT_STRATEGY", "none").script([
        "echo \"FIRST $(date +%s.%N)\"",
        "sleep 3",
        "echo \"LAST $(date +%s.%N)\"",
    ]);
    // A parked request is answered the moment there is a job.
    assert!(world.gitlab.wait_parked_polls(1, PATIENCE).await);
    let began = now();
    let job = world.gitlab.enqueue(spec);
    job.wait_trace("O FIRST 1", PATIENCE).await.unwrap();
    let seen = now();
    let end = job.wait_finished(PATIENCE).await.unwrap();
    let ended = now();
    success(&end);
    let text = text(&end);
    let last = stamp(&text, "O LAST ");
    (stamp(&text, "O FIRST ") - began, seen - began, ended - last)
}

#[tokio::test]
async fn a_job_starts_about_as_fast_as_a_bare_pod() {
    let world = World::new().await;
    let Place::Real(real) = &world.place else {
        return eprintln!("left out: how fast pods start is a real cluster's business");
    };
    if std::env::var("PODWRIGHT_E2E_MEASURE").is_err() {
        return eprintln!("left out: measuring needs a quiet machine and PODWRIGHT_E2E_MEASURE");
    }
    let manager = world.manager("s_first0000000").await;
    // One to warm up, and to see what the pod looks like.
    let job = world.gitlab.enqueue(JobSpec::new("first").script(["sleep 2"]));
    let name = world.pod().await;
    let pod = serde_json::to_value(real.pods().get(&name).await.unwrap()).unwrap();
    success(&job.wait_finished(PATIENCE).await.unwrap());

    let (mut bare, mut first, mut seen, mut last) = (vec![], vec![], vec![], vec![]);
    for round in 0..ROUNDS {
        bare.push(run_bare(real, &pod, round).await);
        let (started, shown, ended) = run_job(&world).await;
        first.push(started);
        seen.push(shown);
        last.push(ended);
    }
    manager.drain().await;
    let (bare, first, seen, last) = (median(bare), median(first), median(seen), median(last));
    eprintln!("median of {ROUNDS} rounds, {:?}", SystemTime::now());
    eprintln!("bare pod, created -> first line          {bare:.3} s");
    eprintln!("job, 201 -> first line, pod's clock      {first:.3} s = {:.2}x", first / bare);
    eprintln!("job, 201 -> first line in GitLab's trace {seen:.3} s = bare + {:.3} s", seen - bare);
    eprintln!("job, script's end -> final update        {last:.3} s");
    world.check().await;
}

/// Waits for a pod of this world that runs and has no job.
async fn wait_for_warm(world: &World, real: &Real) {
    let selector =
        format!("podwright.dev/warm=ready,{SOURCE_LABEL}={}", source_hash(&world.source_id()));
    let all = ListParams::default().labels(&selector);
    let ready = |pod: &Pod| {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        statuses.is_some_and(|all| all.iter().all(|container| container.ready))
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !real.pods().list(&all).await.unwrap().items.iter().any(ready) {
        assert!(tokio::time::Instant::now() < deadline, "there should be a warm pod");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The manager's watch is as quick as this look, give or take a moment; what its watch has seen is told to
    // nobody. A job that comes too early starts in a pod of its own: a worse number, and no failure.
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test]
async fn a_job_in_a_warm_pod_starts_faster_than_any_pod() {
    let (cold, mut warm) = (World::new().await, World::new().await);
    if let Place::Simulated(_) = cold.place {
        return eprintln!("left out: how fast pods start is a real cluster's business");
    }
    if std::env::var("PODWRIGHT_E2E_MEASURE").is_err() {
        return eprintln!("left out: measuring needs a quiet machine and PODWRIGHT_E2E_MEASURE");
    }
    crate::warm::want(&mut warm, 1);
    let Place::Real(real) = &warm.place else { return };
    let managers = (cold.manager("s_cold0000000").await, warm.manager("s_warm0000000").await);
    let (mut of_cold, mut of_warm) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        of_cold.push(run_job(&cold).await);
        wait_for_warm(&warm, real).await;
        of_warm.push(run_job(&warm).await);
    }
    managers.0.drain().await;
    managers.1.drain().await;
    let medians = |all: &[(f64, f64, f64)]| {
        let of = |find: fn(&(f64, f64, f64)) -> f64| median(all.iter().map(find).collect());
        (of(|round| round.0), of(|round| round.1))
    };
    let (cold_first, cold_seen) = medians(&of_cold);
    let (warm_first, warm_seen) = medians(&of_warm);
    let ratio = cold_first / warm_first;
    eprintln!("median of {ROUNDS} rounds by turns, {:?}", SystemTime::now());
    eprintln!("cold: 201 -> first line {cold_first:.3} s, in GitLab's trace {cold_seen:.3} s");
    eprintln!("warm: 201 -> first line {warm_first:.3} s, in GitLab's trace {warm_seen:.3} s");
    eprintln!("warm is {ratio:.1} times as fast");
    assert!(ratio > 1.0);
    cold.check().await;
    warm.check().await;
}
