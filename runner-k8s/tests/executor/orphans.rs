//! What belongs to nobody any more is removed after ten minutes.

use std::time::Duration;

use runner_core::executor::Executor as _;
use runner_core::ids::SourceId;
use runner_core::outcome::Outcome;
use runner_k8s::RawSettings;
use runner_k8s::names::{manager_hash, source_hash};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::world::{Agent, executor_with};

/// Signs of life are rare, so that an hour is soon over.
fn settings() -> RawSettings {
    RawSettings { manager_lease_duration: 400, ..crate::world::settings() }
}

fn labels(more: &[(&str, &str)]) -> Value {
    let source = source_hash(&SourceId("https://gitlab.example#hash".into()));
    let mut labels = json!({ "podwright.dev/source": source });
    for (key, value) in more {
        labels[format!("podwright.dev/{key}")] = json!(value);
    }
    labels
}

/// Looks at once and after so many seconds.
async fn looks_twice(cluster: &Cluster, settings: &RawSettings, seconds: u64) {
    let agent = Agent::new(b"", Outcome::Exited(0));
    let executor = executor_with(cluster, &agent, "m1", settings);
    executor.recover().await.unwrap();
    sleep(Duration::from_secs(seconds)).await;
    executor.recover().await.unwrap();
    executor.retire().await;
}

#[tokio::test(start_paused = true)]
async fn pods_and_warm_pods_without_an_owner_go_and_those_of_others_stay() {
    for (seconds, left) in [(599, 4), (601, 2)] {
        let cluster = Cluster::new();
        cluster.has("pods", "ci", "lost", labels(&[("job", "8")]));
        let dead = manager_hash("somebody who died");
        cluster.has("pods", "ci", "warm", labels(&[("warm", "ready"), ("manager", &dead)]));
        let own = manager_hash("m1");
        cluster.has("pods", "ci", "own", labels(&[("warm", "ready"), ("manager", &own)]));
        let other = json!({ "podwright.dev/source": "another", "podwright.dev/job": "8" });
        cluster.has("pods", "ci", "another", other);
        looks_twice(&cluster, &settings(), seconds).await;
        let pods = cluster.names("pods");
        assert_eq!(pods.len(), left, "after {seconds} s: {pods:?}");
        assert!(pods.contains(&"own".to_owned()) && pods.contains(&"another".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_jobs_own_namespace_without_a_record_goes() {
    let cluster = Cluster::new();
    cluster.has("namespaces", "", "ci-job-8", labels(&[("job", "8")]));
    cluster.has("namespaces", "", "somebody-elses", json!({}));
    looks_twice(&cluster, &settings(), 601).await;
    assert_eq!(cluster.names("namespaces").len(), 2, "where jobs have none, nobody looks");
    let per_job = RawSettings { namespace_per_job: true, ..settings() };
    looks_twice(&cluster, &per_job, 599).await;
    assert_eq!(cluster.names("namespaces").len(), 2);
    looks_twice(&cluster, &per_job, 601).await;
    assert_eq!(cluster.names("namespaces"), ["somebody-elses"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_job_without_a_record_has_in_another_namespace_goes() {
    let cluster = Cluster::new();
    let job = |role| labels(&[("job", "8"), ("role", role)]);
    cluster.has("pods", "team", "lost", labels(&[("job", "8")]));
    cluster.has("secrets", "team", "lost-plan", job("plan"));
    let settings = RawSettings { namespace_overwrite_allowed: "^team$".into(), ..settings() };
    looks_twice(&cluster, &settings, 601).await;
    assert_eq!(cluster.names("pods"), [""; 0]);
    assert_eq!(cluster.names("secrets"), [""; 0]);
}
