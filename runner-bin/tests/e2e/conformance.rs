//! Pods keep what every executor promises.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use runner_core::executor::Executor;
use runner_core::ids::JobId;
use runner_k8s::names::{JOB_LABEL, SOURCE_LABEL, source_hash};
use runner_k8s::{KubernetesExecutor, KubernetesSettings, RunnerIdentity};
use runner_testkit::conformance::{self, ExecutorPromise, Site};

use crate::place::is_real;
use crate::world::World;

#[async_trait]
impl Site for World {
    async fn executor(&self) -> Arc<dyn Executor> {
        let identity = RunnerIdentity {
            source: self.source_id(),
            name: "e2e".into(),
            short_token: "short".into(),
            manager: "s_conformance0".into(),
        };
        let settings = KubernetesSettings::resolve(&self.settings).unwrap();
        Arc::new(KubernetesExecutor::connect(settings, identity).await.unwrap())
    }

    async fn leftovers(&self) -> Vec<String> {
        let source = self.source_id();
        [self.place.pods(&source).await, self.place.records(&source).await].concat()
    }

    async fn destroy(&self, job: JobId) -> bool {
        // The pod with its volumes is all that there is of a job's verdict.
        let file = kube::config::Kubeconfig::read_from(&self.settings.kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let pods: Api<Pod> = Api::namespaced(client, &self.settings.namespace);
        let source = source_hash(&self.source_id());
        let ours = format!("{SOURCE_LABEL}={source},{JOB_LABEL}={job}");
        let found = pods.list(&ListParams::default().labels(&ours)).await.unwrap().items;
        for pod in &found {
            pods.delete(pod.metadata.name.as_ref().unwrap(), &Default::default()).await.unwrap();
        }
        !found.is_empty()
    }

    fn shared_directory(&self) -> Option<PathBuf> {
        (!is_real() && !self.cluster().has_namespaces()).then(|| self.directory())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }
}

#[tokio::test]
async fn pods_keep_what_an_executor_promises() {
    let world = World::new().await;
    let report = conformance::executor(&world).await;
    report.assert_kept();
    let left_out = [ExecutorPromise::RunsOnce];
    for promise in ExecutorPromise::ALL {
        assert!(left_out.contains(&promise) || report.keeps(promise), "{report}");
    }
}
