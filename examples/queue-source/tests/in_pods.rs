//! The example, whole: a queue over HTTP, the ordinary manager, pods of a simulated cluster.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::extract::{Path as PathOf, Query, State};
use axum::http::StatusCode;
use axum::routing::{post, put};
use axum::{Json, Router};
use parking_lot::Mutex;
use queue_source::QueueSource;
use runner_core::ids::JobId;
use runner_core::manager::{Manager, Runner, StopLevel};
use runner_core::source::JobSource;
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RawSettings, RunnerIdentity};
use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec};
use runner_testkit::conformance::{self, Counter, Shown, SourcePromise};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// How long a job that was handed out waits for `accept`.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
struct Queue {
    jobs: Arc<Mutex<Jobs>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<u64>,
    /// Handed out, and until when.
    offered: BTreeMap<u64, Instant>,
    all: BTreeMap<u64, Entry>,
}

#[derive(Default)]
struct Entry {
    script: Vec<String>,
    log: Vec<u8>,
    verdict: Option<Value>,
    cancelled: bool,
}

#[derive(Deserialize)]
struct From {
    from: usize,
}

impl Queue {
    fn push(&self, script: &[&str]) -> u64 {
        let mut jobs = self.jobs.lock();
        let id = jobs.all.len() as u64 + 1;
        let script = script.iter().map(ToString::to_string).collect();
        jobs.all.insert(id, Entry { script, ..Entry::default() });
        jobs.waiting.push_back(id);
        id
    }

    async fn verdict(&self, id: u64) -> (Value, String) {
        loop {
            let changed = self.changed.notified();
            if let Entry { log, verdict: Some(verdict), .. } = &self.jobs.lock().all[&id] {
                return (verdict.clone(), String::from_utf8_lossy(log).into_owned());
            }
            changed.await;
        }
    }

    /// Serves the queue until the test's runtime ends.
    async fn serve(&self) -> String {
        let routes = Router::new()
            .route("/take", post(take))
            .route("/jobs/{id}/accept", post(accept))
            .route("/jobs/{id}/log", put(append))
            .route("/jobs/{id}/verdict", put(verdict))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        format!("http://{address}")
    }
}

async fn take(State(queue): State<Queue>) -> (StatusCode, Json<Value>) {
    let mut jobs = queue.jobs.lock();
    let late = jobs.offered.iter().find(|(_, until)| Instant::now() > **until).map(|(id, _)| *id);
    let Some(id) = late.or_else(|| jobs.waiting.pop_front()) else {
        return (StatusCode::NO_CONTENT, Json(Value::Null));
    };
    jobs.offered.insert(id, Instant::now() + ACCEPTED_WITHIN);
    let script = &jobs.all[&id].script;
    let task = json!({ "id": id, "name": "a job", "image": "debian:test", "script": script });
    (StatusCode::OK, Json(task))
}

async fn accept(State(queue): State<Queue>, PathOf(id): PathOf<u64>) -> StatusCode {
    queue.jobs.lock().offered.remove(&id);
    StatusCode::NO_CONTENT
}

async fn append(
    State(queue): State<Queue>,
    PathOf(id): PathOf<u64>,
    Query(From { from }): Query<From>,
    body: Bytes,
) -> Json<Value> {
    let mut jobs = queue.jobs.lock();
    let entry = jobs.all.get_mut(&id).unwrap();
    if from == entry.log.len() {
        entry.log.extend_from_slice(&body);
    }
    Json(json!({ "has": entry.log.len(), "cancel": entry.cancelled }))
}

async fn verdict(
    State(queue): State<Queue>,
    PathOf(id): PathOf<u64>,
    Json(verdict): Json<Value>,
) -> StatusCode {
    queue.jobs.lock().all.get_mut(&id).unwrap().verdict = Some(verdict);
    queue.changed.notify_waiters();
    StatusCode::NO_CONTENT
}

fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[tokio::test]
async fn jobs_of_a_queue_run_in_pods_and_their_logs_and_verdicts_come_back() {
    let queue = Queue::default();
    let good = queue.push(&["echo hello from a pod", "echo $((6 * 7))"]);
    let bad = queue.push(&["echo going to fail", "exit 3"]);

    let cluster = Cluster::start(ClusterSettings::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_queue-source-agent"));
    let agent = ImageSpec::agent(&directory.path().join("agent"), program).unwrap();
    cluster.register_image("agent:test", agent);
    cluster.register_image("debian:test", ImageSpec::present());
    let kubeconfig = directory.path().join("kubeconfig");
    std::fs::write(&kubeconfig, cluster.kubeconfig()).unwrap();
    let settings = RawSettings {
        kubeconfig: kubeconfig.to_str().unwrap().into(),
        namespace: cluster.namespace().into(),
        image: "debian:test".into(),
        helper_image: "debian:test".into(),
        agent_image: "agent:test".into(),
        ..RawSettings::default()
    };

    let source = Arc::new(QueueSource::new(queue.serve().await, http()));
    let identity = RunnerIdentity::new(source.id(), "queue");
    let settings = KubernetesSettings::resolve(&settings).unwrap();
    let executor = KubernetesExecutor::connect(settings, identity).await.unwrap();
    let (manager, stop) = Manager::new(2);
    let mut runner = Runner::new("queue", source, Arc::new(executor));
    runner.check_interval = Duration::from_millis(50);
    let running = tokio::spawn(manager.runner(runner).run());

    let ends = async { (queue.verdict(good).await, queue.verdict(bad).await) };
    let ((good, said), (bad, complained)) =
        timeout(Duration::from_secs(60), ends).await.expect("two short jobs end in a minute");
    assert_eq!(good["success"], true, "{good} {said}");
    assert!(said.contains("O hello from a pod\n") && said.contains("O 42\n"), "{said}");
    assert_eq!(bad, json!({ "success": false, "why": "Exited(3)" }), "{complained}");
    assert!(complained.contains("going to fail"), "{complained}");
    stop.stop(StopLevel::Drain);
    running.await.unwrap();
}

struct Desk {
    queue: Queue,
    url: String,
}

#[async_trait]
impl Counter for Desk {
    async fn source(&self) -> Arc<dyn JobSource> {
        Arc::new(QueueSource::new(self.url.clone(), http()))
    }

    async fn enqueue(&self) -> JobId {
        JobId(self.queue.push(&["true"]))
    }

    async fn trace(&self, JobId(id): JobId) -> Vec<u8> {
        self.queue.jobs.lock().all[&id].log.clone()
    }

    async fn shown(&self, JobId(id): JobId) -> Shown {
        match &self.queue.jobs.lock().all[&id].verdict {
            None => Shown::Unfinished,
            Some(verdict) if verdict["success"] == true => Shown::Success,
            Some(_) => Shown::NoSuccess,
        }
    }

    async fn cancel(&self, JobId(id): JobId) -> bool {
        self.queue.jobs.lock().all.get_mut(&id).unwrap().cancelled = true;
        true
    }
}

#[tokio::test]
async fn the_source_keeps_what_a_source_promises() {
    let queue = Queue::default();
    let url = queue.serve().await;
    let report = conformance::source(&Desk { queue, url }).await;
    report.assert_kept();
    for promise in SourcePromise::ALL {
        assert!(report.keeps(promise), "{report}");
    }
}

#[test]
fn the_page_about_embedding_shows_the_program_as_it_is() {
    let page = include_str!("../../../docs/embedding.md");
    let program = include_str!("../src/main.rs");
    let code = &program[program.find("use std").unwrap()..];
    assert!(
        page.contains(code),
        "docs/embedding.md shows another main.rs than examples/queue-source"
    );
    let from = page.find("    let cluster").expect("the page shows how a test begins");
    let beginning = &page[from..from + page[from..].find("```").unwrap()];
    assert!(
        include_str!("in_pods.rs").contains(beginning),
        "this test begins in another way:\n{beginning}"
    );
}

#[test]
fn the_source_has_a_hundred_lines_at_most() {
    let lines = include_str!("../src/lib.rs").lines().count();
    assert!(lines <= 100, "{lines} lines");
}
