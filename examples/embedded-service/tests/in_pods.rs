//! The service, whole: HTTP in front, pods of a simulated cluster behind.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use embedded_service::{Jobs, NewJob, State, routes, runner};
use futures_util::StreamExt as _;
use runner_core::ids::JobId;
use runner_core::manager::{Manager, StopHandle, StopLevel};
use runner_core::source::JobSource;
use runner_k8s::settings::raw::{RawHostPath, RawVolumes};
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RawSettings, RunnerIdentity};
use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec};
use runner_testkit::conformance::{self, Counter, Shown, SourcePromise};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What there is beside the service, and outlives it.
struct World {
    cluster: Cluster,
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        let cluster = Cluster::start(ClusterSettings::default()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_embedded-service-agent"));
        let agent = ImageSpec::agent(&directory.path().join("agent"), program).unwrap();
        cluster.register_image("agent:test", agent);
        cluster.register_image("debian:test", ImageSpec::present());
        std::fs::create_dir(directory.path().join("shared")).unwrap();
        Self { cluster, directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }
}

/// A process of the service.
struct Service {
    url: String,
    stop: StopHandle,
    manager: JoinHandle<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Service {
    async fn start(world: &World, process: &str) -> Self {
        std::fs::write(world.path("kubeconfig"), world.cluster.kubeconfig()).unwrap();
        // A directory of the node, by which this test talks to its jobs.
        let shared = RawHostPath {
            name: "shared".into(),
            mount_path: world.path("shared"),
            ..RawHostPath::default()
        };
        let settings = RawSettings {
            kubeconfig: world.path("kubeconfig"),
            namespace: world.cluster.namespace().into(),
            helper_image: "debian:test".into(),
            agent_image: "agent:test".into(),
            volumes: RawVolumes { host_path: vec![shared], ..RawVolumes::default() },
            ..RawSettings::default()
        };
        let jobs = Jobs::open(world.path("jobs")).unwrap();
        let identity = RunnerIdentity {
            source: jobs.id(),
            name: "service".into(),
            short_token: "service".into(),
            manager: process.into(),
        };
        let settings = KubernetesSettings::resolve(&settings).unwrap();
        let executor = KubernetesExecutor::connect(settings, identity).await.unwrap();
        let (manager, stop) = Manager::new(4);
        let manager = tokio::spawn(manager.runner(runner(&jobs, Arc::new(executor))).run());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jobs", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, routes(jobs)).await });
        Self { url, stop, manager, server }
    }

    /// As SIGTERM would: connections are cut, jobs are left in their pods.
    async fn end(self) {
        self.server.abort();
        self.stop.stop(StopLevel::Leave);
        self.manager.await.unwrap();
    }

    async fn create(&self, script: &[&str]) -> u64 {
        let job = json!({ "name": "a job", "image": "debian:test", "script": script });
        let request = http().post(&self.url).header("content-type", "application/json");
        let answer = request.body(job.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let created: Value = answer.json().await.unwrap();
        created["id"].as_u64().unwrap()
    }

    async fn follow(&self, id: u64, last: &str) -> Events {
        let request = http().get(format!("{}/{id}/log", self.url)).header("last-event-id", last);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let stream = answer.bytes_stream().map(|piece| piece.unwrap().to_vec());
        Events {
            stream: Box::pin(stream),
            buffer: String::new(),
            log: String::new(),
            last: String::new(),
        }
    }
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// What a browser makes of a stream of events.
struct Events {
    stream: std::pin::Pin<Box<dyn futures_util::Stream<Item = Vec<u8>> + Send>>,
    buffer: String,
    log: String,
    last: String,
}

impl Events {
    /// The data of the last event, or `None` once the log says this.
    async fn until(&mut self, said: Option<&str>) -> Option<Value> {
        let patience = Duration::from_secs(60);
        timeout(patience, self.read(said)).await.unwrap_or_else(|_| panic!("so far: {}", self.log))
    }

    async fn read(&mut self, said: Option<&str>) -> Option<Value> {
        loop {
            while let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.buffer = rest;
                let field = |name: &str| {
                    let mut lines = event.lines();
                    lines
                        .find_map(|line| line.strip_prefix(name))
                        .map(str::trim)
                        .unwrap_or_default()
                };
                match field("event:") {
                    "log" => {
                        self.last = field("id:").to_owned();
                        let data: Value = serde_json::from_str(field("data:")).unwrap();
                        self.log.push_str(data.as_str().unwrap());
                    }
                    "end" => return Some(serde_json::from_str(field("data:")).unwrap()),
                    "" => {}
                    other => panic!("{other}: {}", field("data:")),
                }
                if said.is_some_and(|said| self.log.contains(said)) {
                    return None;
                }
            }
            let piece =
                self.stream.next().await.expect("the stream ends with an event that says so");
            self.buffer.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }
}

#[tokio::test]
async fn a_job_is_posted_and_its_log_followed_to_the_verdict() {
    let world = World::new();
    let service = Service::start(&world, "one").await;
    let good = service.create(&["echo grüße from a pod", "echo $((6 * 7))"]).await;
    let bad = service.create(&["echo going to fail", "exit 3"]).await;
    let mut events = service.follow(good, "").await;
    let end = events.until(None).await;
    assert_eq!(end, Some(json!({ "state": "ended", "success": true, "why": "Exited(0)" })));
    assert!(events.log.contains("grüße from a pod\n"), "{}", events.log);
    assert!(events.log.contains("42\n"), "{}", events.log);
    let mut events = service.follow(bad, "").await;
    let end = events.until(None).await;
    assert_eq!(end, Some(json!({ "state": "ended", "success": false, "why": "Exited(3)" })));
    let answer = http().get(format!("{}/{bad}", service.url)).send().await.unwrap();
    let shown: Value = answer.json().await.unwrap();
    assert_eq!((&shown["name"], &shown["state"]), (&json!("a job"), &json!("ended")));
    assert_eq!(http().get(format!("{}/9", service.url)).send().await.unwrap().status(), 404);
    service.end().await;
}

#[tokio::test]
async fn a_job_is_cancelled() {
    let world = World::new();
    let service = Service::start(&world, "one").await;
    let id = service.create(&["echo it ''runs", "sleep 600"]).await;
    let mut events = service.follow(id, "").await;
    events.until(Some("it runs")).await;
    let answer = http().delete(format!("{}/{id}", service.url)).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let end = events.until(None).await.unwrap();
    assert_eq!((&end["success"], &end["why"]), (&json!(false), &json!("Cancelled")));
    service.end().await;
}

#[tokio::test]
async fn a_job_and_whoever_follows_it_survive_a_restart_of_the_service() {
    let world = World::new();
    let go = world.path("shared/go");
    let service = Service::start(&world, "one").await;
    let wait = format!("until [ -e '{go}' ]; do sleep 0.05; done");
    let id = service.create(&["echo before ''it", &wait, "echo after ''it"]).await;
    let mut first = service.follow(id, "").await;
    first.until(Some("before it")).await;
    service.end().await;

    let service = Service::start(&world, "two").await;
    let mut second = service.follow(id, &first.last).await;
    std::fs::write(go, "").unwrap();
    let end = second.until(None).await.unwrap();
    assert_eq!(end["success"], true, "{}", second.log);
    // What both have seen is the log, and nothing came twice.
    let mut whole = service.follow(id, "").await;
    whole.until(None).await;
    assert_eq!(whole.log, first.log + &second.log);
    assert_eq!(whole.log.matches("before it").count(), 1);
    assert_eq!(whole.log.matches("after it\n").count(), 1);
    service.end().await;
}

struct Desk(Jobs);

#[async_trait]
impl Counter for Desk {
    async fn source(&self) -> Arc<dyn JobSource> {
        Arc::new(self.0.clone())
    }

    async fn enqueue(&self) -> JobId {
        let script = vec!["true".to_owned()];
        JobId(
            self.0
                .add(NewJob { name: "a job".into(), image: "debian:test".into(), script })
                .unwrap(),
        )
    }

    async fn trace(&self, JobId(id): JobId) -> Vec<u8> {
        self.0.read(id, 0).unwrap()
    }

    async fn shown(&self, JobId(id): JobId) -> Shown {
        match self.0.get(id).unwrap().state {
            State::Waiting | State::Running => Shown::Unfinished,
            State::Ended { success: true, .. } => Shown::Success,
            State::Ended { success: false, .. } => Shown::NoSuccess,
        }
    }

    async fn cancel(&self, JobId(id): JobId) -> bool {
        self.0.cancel(id).unwrap()
    }
}

#[tokio::test]
async fn its_jobs_keep_what_a_source_promises() {
    let directory = tempfile::tempdir().unwrap();
    let jobs = Jobs::open(directory.path()).unwrap().accepted_within(Duration::from_secs(1));
    let report = conformance::source(&Desk(jobs)).await;
    report.assert_kept();
    for promise in SourcePromise::ALL {
        assert!(report.keeps(promise), "{report}");
    }
}
