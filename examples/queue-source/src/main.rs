//! `queue-source URL NAMESPACE IMAGE AGENT_IMAGE`: runs the jobs of a queue in pods of the cluster of
//! the current kubeconfig.

use std::sync::Arc;

use anyhow::Context as _;
use queue_source::QueueSource;
use runner_core::manager::{Manager, Runner, StopLevel};
use runner_core::source::JobSource as _;
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RawSettings, RunnerIdentity};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, namespace, image, agent_image] = words
        .try_into()
        .map_err(|_| anyhow::anyhow!("usage: queue-source URL NAMESPACE IMAGE AGENT_IMAGE"))?;
    // One crypto provider for the whole process. It can only fail when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let source = Arc::new(QueueSource::new(url, reqwest::Client::new()));
    let settings = RawSettings {
        namespace,
        helper_image: image.clone(),
        image,
        agent_image,
        ..RawSettings::default()
    };
    let settings = KubernetesSettings::resolve(&settings).context("these settings do not do")?;
    let identity = RunnerIdentity::new(source.id(), "queue");
    let executor = KubernetesExecutor::connect(settings, identity).await?;
    let (manager, stop) = Manager::new(10);
    let runner = Runner::new("queue", source, Arc::new(executor));
    let running = tokio::spawn(manager.runner(runner).run());
    tokio::signal::ctrl_c().await?;
    // The jobs go on in their pods; the next process takes them over.
    stop.stop(StopLevel::Leave);
    running.await?;
    Ok(())
}
