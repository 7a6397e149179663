//! A real cluster as somebody sees it who installs things there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A namespace of its own on the cluster that `PODWRIGHT_E2E_KUBECONFIG` names.
pub(crate) struct Cluster {
    pub(crate) client: kube::Client,
    pub(crate) namespace: String,
    /// Where pods reach this machine.
    pub(crate) host: IpAddr,
}

impl Cluster {
    pub(crate) async fn new(what: &str) -> Option<Self> {
        let kubeconfig = crate::variable("PODWRIGHT_E2E_KUBECONFIG")?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = kube::config::Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
        let server = config.cluster_url.host().unwrap().to_owned();
        let port = config.cluster_url.port_u16().unwrap_or(443);
        let client = kube::Client::try_from(config).unwrap();
        // The address from which this machine speaks to the cluster is one that pods can reach.
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((server.as_str(), port)).unwrap();
        let host = socket.local_addr().unwrap().ip();
        let namespace = format!("pw-chart-{what}-{}", std::process::id());
        let labels = [("pod-security.kubernetes.io/enforce", "restricted")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let object = Namespace {
            metadata: kube::api::ObjectMeta {
                name: Some(namespace.clone()),
                labels: Some(BTreeMap::from(labels)),
                ..Default::default()
            },
            ..Default::default()
        };
        Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        Some(Self { client, namespace, host })
    }

    pub(crate) async fn secret(&self, name: &str, key: &str, text: &str) {
        let secret: Secret = serde_json::from_value(json!({
            "metadata": { "name": name }, "stringData": { key: text },
        }))
        .unwrap();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        api.create(&PostParams::default(), &secret).await.unwrap();
    }

    /// `kubectl apply`, strict about fields. `None`: the cluster does not know the kind.
    pub(crate) async fn apply(&self, object: &Value, dry: Dry) -> Option<Value> {
        let (group, plural) = place(object)?;
        let namespace = match object["metadata"]["namespace"].as_str() {
            Some(name) => format!("/namespaces/{name}"),
            None if object["kind"].as_str().unwrap().starts_with("Cluster") => String::new(),
            None => format!("/namespaces/{}", self.namespace),
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        let dry = match dry {
            Dry::Run => "&dryRun=All",
            Dry::No => "",
        };
        let url = format!(
            "{group}{namespace}/{plural}/{name}?fieldManager=chart&force=true&fieldValidation=Strict{dry}"
        );
        let request = http::Request::patch(url)
            .header("Content-Type", "application/apply-patch+yaml")
            .body(serde_json::to_vec(object).unwrap())
            .unwrap();
        match self.client.request::<Value>(request).await {
            Ok(answer) => Some(answer),
            Err(error) => panic!("{} {name}: {error}", object["kind"]),
        }
    }

    /// Waits until a rollout is complete and no pod of the old version is left.
    pub(crate) async fn rolled_out(&self, name: &str) -> Vec<Pod> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let deployment = deployments.get(name).await.unwrap();
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let status = deployment.status.clone().unwrap_or_default();
            let seen = status.observed_generation == deployment.metadata.generation;
            let pods = self.pods(&format!("app={name}")).await;
            let done = seen
                && status.updated_replicas == Some(wanted)
                && status.ready_replicas == Some(wanted)
                && pods.len() == usize::try_from(wanted).unwrap();
            if done {
                return pods;
            }
            assert!(Instant::now() < deadline, "no rollout of {name}: {status:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn pods(&self, selector: &str) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        pods.list(&ListParams::default().labels(selector)).await.unwrap().items
    }

    pub(crate) async fn log(&self, pod: &Pod) -> String {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let name = pod.metadata.name.as_deref().unwrap();
        pods.logs(name, &kube::api::LogParams::default()).await.unwrap_or_default()
    }

    /// Removes the namespace and all in it; what a test that failed leaves is there to be looked at.
    pub(crate) async fn remove(self) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.delete(&self.namespace, &DeleteParams::background()).await.unwrap();
    }
}

/// Whether something is really done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dry {
    Run,
    No,
}

/// Where objects of the kind are.
fn place(object: &Value) -> Option<(String, &'static str)> {
    let plural = match object["kind"].as_str().unwrap() {
        "ClusterRole" => "clusterroles",
        "ClusterRoleBinding" => "clusterrolebindings",
        "ConfigMap" => "configmaps",
        "Deployment" => "deployments",
        "HorizontalPodAutoscaler" => "horizontalpodautoscalers",
        "Ingress" => "ingresses",
        "NetworkPolicy" => "networkpolicies",
        "Pod" => "pods",
        "PodDisruptionBudget" => "poddisruptionbudgets",
        "Role" => "roles",
        "RoleBinding" => "rolebindings",
        "Secret" => "secrets",
        "Service" => "services",
        "ServiceAccount" => "serviceaccounts",
        _ => return None,
    };
    let version = object["apiVersion"].as_str().unwrap();
    let root = if version.contains('/') { "/apis" } else { "/api" };
    Some((format!("{root}/{version}"), plural))
}
