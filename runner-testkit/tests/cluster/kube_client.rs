//! The kube client, which knows nothing of the simulation, is content with it.

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Client, Config};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{PATIENCE, Sim, pod, sim};

async fn client(sim: &Sim) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&sim.cluster.kubeconfig()).unwrap();
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    assert_eq!(config.default_namespace, "ci");
    Client::try_from(config).unwrap()
}

fn parsed(value: serde_json::Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn a_job_like_life_of_a_pod_with_the_least_role() {
    let sim = sim();
    let client = client(&sim).await;
    assert_eq!(client.apiserver_version().await.unwrap().minor, "36");
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "record"}, "stringData": {"plan": "x"},
    }))
    .unwrap();
    let made = secrets.create(&PostParams::default(), &secret).await.unwrap();
    let fresh = secrets.replace("record", &PostParams::default(), &made).await.unwrap();
    assert_eq!(fresh.metadata.resource_version, made.metadata.resource_version, "nothing changed");
    let mut changed = fresh.clone();
    changed.type_ = Some("Opaque".into());
    changed
        .data
        .get_or_insert_default()
        .insert("more".into(), k8s_openapi::ByteString(b"y".to_vec()));
    secrets.replace("record", &PostParams::default(), &changed).await.unwrap();
    let stale = secrets.replace("record", &PostParams::default(), &fresh).await.unwrap_err();
    assert!(matches!(stale, kube::Error::Api(s) if s.code == 409 && s.reason == "Conflict"));

    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let events = watcher(pods.clone(), watcher::Config::default().labels("app=p"));
    let mut events = events.boxed();
    assert!(matches!(events.next().await, Some(Ok(watcher::Event::Init))));
    assert!(matches!(events.next().await, Some(Ok(watcher::Event::InitDone))));
    let made = pods.create(&PostParams::default(), &parsed(pod("p", "echo hello"))).await.unwrap();
    let again = pods.create(&PostParams::default(), &parsed(pod("p", "true"))).await.unwrap_err();
    assert!(matches!(again, kube::Error::Api(s) if s.reason == "AlreadyExists"));
    let phase = |p: &Pod| p.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
    let ended = timeout(PATIENCE, async {
        loop {
            if let watcher::Event::Apply(pod) = events.next().await.unwrap().unwrap()
                && phase(&pod) == "Succeeded"
            {
                return pod;
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(ended.metadata.uid, made.metadata.uid);
    assert_eq!(pods.logs("p", &LogParams::default()).await.unwrap(), "hello\n");
    let list = pods.list(&ListParams::default().labels("app=p")).await.unwrap();
    assert_eq!(list.items.len(), 1);
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    let deleted = timeout(PATIENCE, events.try_next()).await.unwrap().unwrap();
    assert!(matches!(deleted, Some(watcher::Event::Apply(_) | watcher::Event::Delete(_))));
    secrets.delete("record", &DeleteParams::default()).await.unwrap();
    assert!(sim.cluster.leftovers().is_empty());
}

#[tokio::test]
async fn a_watcher_recovers_from_an_expired_watch() {
    let sim = sim();
    let pods: Api<Pod> = Api::default_namespaced(client(&sim).await);
    let mut events = watcher(pods.clone(), watcher::Config::default()).boxed();
    assert!(matches!(events.next().await, Some(Ok(watcher::Event::Init))));
    assert!(matches!(events.next().await, Some(Ok(watcher::Event::InitDone))));
    // Ends the watch once it has begun, or lets it begin too late.
    sim.cluster.expire_watches();
    sim.create(&pod("p", "sleep 100")).await;
    let seen = timeout(PATIENCE, async {
        loop {
            if let Ok(watcher::Event::InitApply(p) | watcher::Event::Apply(p)) =
                events.next().await.unwrap()
            {
                return p;
            }
        }
    })
    .await
    .unwrap();
    assert_eq!(seen.metadata.name.as_deref(), Some("p"));
}

#[tokio::test]
async fn log_lines_are_followed() {
    let sim = sim();
    let mut many = pod("p", "i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done");
    many["spec"]["containers"][0]["command"][0] = "sh".into();
    let pods: Api<Pod> = Api::default_namespaced(client(&sim).await);
    sim.create(&many).await;
    sim.until("p", |p| p["status"]["phase"] != "Pending").await;
    let follow = LogParams { follow: true, ..LogParams::default() };
    let mut log = pods.log_stream("p", &follow).await.unwrap();
    let mut text = String::new();
    futures_util::AsyncReadExt::read_to_string(&mut log, &mut text).await.unwrap();
    assert_eq!(text.lines().count(), 50);
    let tail = LogParams { tail_lines: Some(2), ..LogParams::default() };
    assert_eq!(pods.logs("p", &tail).await.unwrap(), "line 48\nline 49\n");
}
