//! A GitLab, a cluster, and managers between them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runner_core::ids::SourceId;
use runner_core::manager::{Manager, Runner, StopHandle, StopLevel};
use runner_core::source::JobSource as _;
use runner_gitlab::{GitLabSettings, GitLabSource};
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RawSettings, RunnerIdentity};
use runner_secrets::{Secrets, SecretsSettings};
use runner_testkit::cluster::{Cluster, ClusterSettings};
use runner_testkit::gitlab::{Finished, GitLab, GitLabBuilder, JobRef, JobSpec};
use runner_testkit::objects::ObjectServer;
use tokio::task::JoinHandle;

use crate::place::{Place, is_real};

/// Longer than any job here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What a test has.
pub(crate) struct World {
    pub(crate) gitlab: GitLab,
    pub(crate) place: Place,
    /// `[runners.kubernetes]` of the managers that are started from now on.
    pub(crate) settings: RawSettings,
    /// Of the managers that are started from now on.
    pub(crate) concurrent: usize,
    /// `limit` of the runner of the managers that are started from now on; 0: none.
    pub(crate) limit: usize,
    /// Bytes of log.
    pub(crate) output_limit: Option<u64>,
    /// After how long a waiting job says so, where it is not the default.
    pub(crate) slow_start: Option<Duration>,
    /// Of the managers that are started from now on.
    pub(crate) cache: Option<ObjectServer>,
    directory: tempfile::TempDir,
}

/// A manager in this process.
pub(crate) struct Running {
    task: JoinHandle<()>,
    stop: StopHandle,
}

impl Running {
    /// Lets it finish its jobs, and take no more.
    pub(crate) fn drain_later(&self) {
        self.stop.stop(StopLevel::Drain);
    }

    /// It is gone from one moment to the next.
    pub(crate) fn vanish(self) {
        self.task.abort();
    }

    /// Lets it finish its jobs.
    pub(crate) async fn drain(self) {
        self.stop.stop(StopLevel::Drain);
        self.task.await.unwrap();
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(GitLab::builder(), ClusterSettings::default()).await
    }

    /// `None`, and a word about it, on a real cluster: for what only a simulation can do.
    pub(crate) async fn simulated(what: &str) -> Option<Self> {
        Self::simulated_with(what, GitLab::builder(), ClusterSettings::default()).await
    }

    pub(crate) async fn simulated_with(
        what: &str,
        gitlab: GitLabBuilder,
        cluster: ClusterSettings,
    ) -> Option<Self> {
        if is_real() {
            eprintln!("left out on a real cluster, which cannot be told to: {what}");
            return None;
        }
        Some(Self::with(gitlab, cluster).await)
    }

    pub(crate) async fn with(gitlab: GitLabBuilder, cluster: ClusterSettings) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let (place, settings) = Place::new(directory.path(), cluster).await;
        let gitlab = match &place {
            Place::Simulated(_) => gitlab,
            Place::Real(real) => {
                // Tests share the cluster: each is a runner of its own.
                let token = directory.path().file_name().unwrap().to_str().unwrap().to_owned();
                gitlab.bind((real.host, 0).into()).runner_token(format!("glrt-{token}-e2e"))
            }
        };
        let gitlab = gitlab.start().await.unwrap();
        let (concurrent, output_limit) = (4, None);
        World {
            gitlab,
            place,
            settings,
            concurrent,
            limit: 0,
            output_limit,
            slow_start: None,
            cache: None,
            directory,
        }
    }

    /// A directory of the test's own.
    pub(crate) fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// The simulated cluster.
    pub(crate) fn cluster(&self) -> &Cluster {
        match &self.place {
            Place::Simulated(cluster) => cluster,
            Place::Real(_) => panic!("the test says that it needs a simulated cluster"),
        }
    }

    fn source(&self, system_id: &str) -> GitLabSource {
        let settings =
            GitLabSettings::new(self.gitlab.url(), self.gitlab.runner_token(), system_id);
        GitLabSource::new(settings).unwrap()
    }

    /// Whose jobs these are.
    pub(crate) fn source_id(&self) -> SourceId {
        self.source("s_anyone000000").id()
    }

    /// A manager of its own: another system id, nothing shared but GitLab and the cluster.
    pub(crate) async fn manager(&self, system_id: &str) -> Running {
        let source = Arc::new(self.source(system_id));
        let identity = RunnerIdentity {
            source: source.id(),
            name: "e2e".into(),
            short_token: runner_gitlab::short_token(self.gitlab.runner_token()),
            manager: system_id.into(),
        };
        let settings = KubernetesSettings::resolve(&self.settings).unwrap();
        let executor = KubernetesExecutor::connect(settings, identity).await.unwrap();
        let mut runner = Runner::new("e2e", Arc::clone(&source) as _, Arc::new(executor));
        runner.artifacts = Some(source);
        runner.cache = self.cache.clone().map(|cache| Arc::new(cache) as _);
        runner.secrets = Some(Arc::new(Secrets::new(SecretsSettings::default()).unwrap()));
        runner.check_interval = Duration::from_millis(50);
        runner.limit = self.limit;
        runner.plan.grace = Duration::from_secs(2);
        runner.plan.executor = "kubernetes".to_owned();
        runner.plan.default_image.clone_from(&self.settings.image);
        runner.plan.executor_lines = vec![
            format!("Using Kubernetes namespace: {}", self.settings.namespace),
            "Using Kubernetes executor with image {image} ...".to_owned(),
        ];
        if let Some(limit) = self.output_limit {
            runner.plan.output_limit = limit;
        }
        if let Some(slow_start) = self.slow_start {
            runner.relay.slow_start = slow_start;
        }
        // A silent job hears of a cancel with the next sign of life.
        runner.relay.keep_alive = Duration::from_secs(1);
        let (manager, stop) = Manager::new(self.concurrent);
        Running { task: tokio::spawn(manager.runner(runner).run()), stop }
    }

    /// Runs these jobs to their end and makes sure that nothing is left and no rule was broken.
    pub(crate) async fn run(&self, jobs: &[JobRef]) -> Vec<Finished> {
        let running = self.manager("s_first0000000").await;
        let mut ends = Vec::new();
        for job in jobs {
            ends.push(job.wait_finished(PATIENCE).await.unwrap());
        }
        running.drain().await;
        self.check().await;
        ends
    }

    /// Runs a job to its end and makes sure that nothing is left and no rule was broken.
    pub(crate) async fn run_one(&self, spec: JobSpec) -> Finished {
        let job = self.gitlab.enqueue(spec);
        self.run(&[job]).await.remove(0)
    }

    /// Waits for the only pod to be there.
    pub(crate) async fn pod(&self) -> String {
        let source = self.source_id();
        let look = async {
            loop {
                if let Some(pod) = self.place.pods(&source).await.pop() {
                    return pod;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("a pod should have been created")
    }

    /// Waits for a job record to be there.
    pub(crate) async fn record(&self) {
        let source = self.source_id();
        let look = async {
            while self.place.records(&source).await.is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.expect("a record should have been written");
    }

    /// Nothing is left, and no rule of GitLab's was broken.
    pub(crate) async fn check(&self) {
        assert!(self.gitlab.violations().is_empty(), "{:?}", self.gitlab.violations());
        self.place.nothing_is_left(&self.source_id()).await;
    }
}

/// A trace as text.
pub(crate) fn text(end: &Finished) -> String {
    String::from_utf8_lossy(&end.trace).into_owned()
}

/// The job succeeded, with a complete log.
#[track_caller]
pub(crate) fn success(end: &Finished) {
    assert_eq!(end.state.as_str(), "success", "{}", text(end));
    assert_eq!(end.checksum_ok, Some(true), "{}", text(end));
}

/// The job failed for this reason, with a complete log.
#[track_caller]
pub(crate) fn failure(end: &Finished, reason: &str) {
    assert_eq!(end.state.as_str(), "failed", "{}", text(end));
    assert_eq!(end.failure_reason.as_deref(), Some(reason), "{}", text(end));
}
