//! Managers as they are in a pod: the real loop, the real executor and the real HTTP client, over
//! pipes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use runner_core::manager::{Manager, Runner, StopHandle, StopLevel};
use runner_core::source::JobSource as _;
use runner_k8s::client::Clients;
use runner_k8s::settings::RawSettings;
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RunnerIdentity};
use runner_testkit::chaos::{Line, Queue};
use runner_testkit::cluster::Cluster;
use tokio::io::DuplexStream;
use tokio_util::task::AbortOnDropHandle;

/// A manager that runs.
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) line: Line,
    stop: StopHandle,
    task: AbortOnDropHandle<()>,
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
        let mut runner = Runner::new("chaos", Arc::new(source), Arc::new(executor));
        runner.request_concurrency = 3;
        runner.plan.runner_name = "chaos".into();
        let (manager, stop) = Manager::new(0);
        let task = tokio::spawn(manager.runner(runner).run());
        Self { name, line, stop, task: AbortOnDropHandle::new(task) }
    }

    /// As SIGKILL: from one moment to the next nothing of it is there.
    pub(crate) fn kill(self) {
        self.line.kill();
        drop(self.task);
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
