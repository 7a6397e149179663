//! `embedded-service ADDRESS DIRECTORY NAMESPACE AGENT_IMAGE`: serves jobs that run in pods of the
//! current kubeconfig's cluster.

use std::sync::Arc;

use anyhow::Context as _;
use embedded_service::{Jobs, routes, runner};
use runner_core::manager::{Manager, StopLevel};
use runner_core::source::JobSource as _;
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RawSettings, RunnerIdentity};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, directory, namespace, agent_image] = words.try_into().map_err(|_| {
        anyhow::anyhow!("usage: embedded-service ADDRESS DIRECTORY NAMESPACE AGENT_IMAGE")
    })?;
    // One crypto provider for the whole process. It can only fail when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let jobs = Jobs::open(directory).context("cannot read the directory of jobs")?;
    // The jobs of this service get by without git, so any image does for the helper: the agent's own.
    let settings = RawSettings {
        namespace,
        helper_image: agent_image.clone(),
        agent_image,
        ..RawSettings::default()
    };
    let settings = KubernetesSettings::resolve(&settings).context("these settings do not do")?;
    let identity = RunnerIdentity::new(jobs.id(), "service");
    let executor = KubernetesExecutor::connect(settings, identity).await?;
    let (manager, stop) = Manager::new(20);
    let mut manager = tokio::spawn(manager.runner(runner(&jobs, Arc::new(executor))).run());
    let listener = tokio::net::TcpListener::bind(address).await?;
    tokio::select! {
        served = axum::serve(listener, routes(jobs)) => served?,
        ended = &mut manager => return ended.context("the manager ended by itself"),
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    // The jobs go on in their pods; the next process takes them over.
    stop.stop(StopLevel::Leave);
    manager.await?;
    Ok(())
}
