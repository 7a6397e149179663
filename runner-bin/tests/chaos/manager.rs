//! Managers as they are in a pod: the real loop, the real executor and the real HTTP client, over
//! pipes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use hyper::rt;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use runner_core::manager::{Manager, Runner, StopHandle, StopLevel};
use runner_core::source::JobSource as _;
use runner_k8s::client::Clients;
use runner_k8s::settings::RawSettings;
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RunnerIdentity};
use runner_testkit::chaos::{Line, MemorySource, Queue};
use runner_testkit::cluster::Cluster;
use tokio::io::DuplexStream;
use tokio::task::yield_now;
use tokio_util::task::AbortOnDropHandle;

/// Turns of the scheduler in which a manager that is dropped must be gone. Each turn runs up to 61
/// tasks, a manager has some ten for each of its jobs, and what belongs to a task ends in the turn
/// after it.
const TURNS: usize = 1000;

/// A manager that runs.
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) line: Line,
    stop: StopHandle,
    task: AbortOnDropHandle<()>,
    /// Whatever of it can speak to the source holds this one,
    source: Weak<MemorySource>,
    /// and whatever can do something to a pod this one.
    executor: Weak<KubernetesExecutor>,
}

impl Running {
    pub(crate) fn start(
        number: usize,
        disruption: &str,
        cluster: &Arc<Cluster>,
        queue: &Queue,
    ) -> Self {
        let line = Line::default();
        let source = queue.source(line.clone());
        let name = format!("manager-{number}");
        let settings = RawSettings {
            namespace: cluster.namespace().into(),
            helper_image: "helper:1".into(),
            agent_image: "agent:1".into(),
            pod_disruption_policy: disruption.into(),
            ..RawSettings::default()
        };
        let settings = KubernetesSettings::resolve(&settings).expect("the settings are right");
        let identity = RunnerIdentity {
            source: source.id(),
            name: "chaos".into(),
            short_token: "t0k3n".into(),
            manager: name.clone(),
        };
        let mut config = kube::Config::new("http://cluster".parse().expect("it is a URL"));
        config.auth_info.token = Some(cluster.token().to_owned().into());
        let pipes = Pipes { cluster: Arc::clone(cluster), line: line.clone() };
        let clients = Clients::from_connector(config, pipes).expect("the configuration is right");
        let executor = KubernetesExecutor::with_clients(clients, settings, identity);
        let (source, executor) = (Arc::new(source), Arc::new(executor));
        let (of_source, of_executor) = (Arc::downgrade(&source), Arc::downgrade(&executor));
        let mut runner = Runner::new("chaos", source, executor);
        runner.request_concurrency = 3;
        runner.plan.runner_name = "chaos".into();
        let (manager, stop) = Manager::new(0);
        let task = tokio::spawn(manager.runner(runner).run());
        Self {
            name,
            line,
            stop,
            task: AbortOnDropHandle::new(task),
            source: of_source,
            executor: of_executor,
        }
    }

    /// As SIGKILL: from one moment to the next nothing of it is there.
    ///
    /// A task that is aborted ends when its turn comes, and only then what it owns. Meanwhile its
    /// other tasks would run on, see that their line is broken or that somebody is gone, and go on
    /// to speak, which no process does after it was killed. So nothing moves on its line from now
    /// on, and the line breaks when nobody is left to notice.
    ///
    /// # Panics
    /// If a task of it has no owner and so outlives it.
    pub(crate) async fn kill(self) {
        self.line.freeze();
        self.task.abort();
        drop(self.task.await);
        for _ in 0..TURNS {
            if self.source.strong_count() + self.executor.strong_count() == 0 {
                break;
            }
            yield_now().await;
        }
        let left = (self.source.strong_count(), self.executor.strong_count());
        assert_eq!(left, (0, 0), "{} outlives its end: source, executor", self.name);
        self.line.kill();
    }

    /// Leaves its jobs to others, and ends.
    pub(crate) async fn retire(self) {
        self.stop.stop(StopLevel::Leave);
        drop(self.task.await);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

/// Makes connections to a cluster in memory.
#[derive(Clone)]
struct Pipes {
    cluster: Arc<Cluster>,
    line: Line,
}

impl tower::Service<http::Uri> for Pipes {
    type Response = Wire;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            while this.line.is_frozen() {
                this.line.changed().await;
            }
            if this.line.is_cut() {
                return Err(io::ErrorKind::NetworkUnreachable.into());
            }
            let far = this.cluster.connect()?;
            let (near, middle) = tokio::io::duplex(64 << 10);
            tokio::spawn(carry(this.line, middle, far));
            Ok(Wire(TokioIo::new(near)))
        })
    }
}

/// Carries bytes both ways for as long as the line is good.
async fn carry(line: Line, mut near: DuplexStream, mut far: DuplexStream) {
    let copied = tokio::io::copy_bidirectional(&mut near, &mut far);
    let mut copied = std::pin::pin!(copied);
    loop {
        if line.is_cut() {
            return;
        }
        if line.is_frozen() {
            line.changed().await;
            continue;
        }
        tokio::select! {
            biased;
            () = line.changed() => {}
            _ = &mut copied => return,
        }
    }
}

/// A connection.
struct Wire(TokioIo<DuplexStream>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl rt::Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl rt::Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
