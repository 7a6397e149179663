//! Where the pods of a test are.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, EvictParams, ListParams};
use runner_core::ids::SourceId;
use runner_k8s::RawSettings;
use runner_k8s::names::{SOURCE_LABEL, source_hash};
use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec, Isolation};
use tokio::time::Instant;

/// The cluster of a test.
pub(crate) enum Place {
    /// One of its own.
    Simulated(Box<Cluster>),
    /// The one that the environment names, shared with other tests.
    Real(Real),
}

/// A real cluster as an administrator sees it.
pub(crate) struct Real {
    client: kube::Client,
    namespace: String,
    /// Where pods reach this machine.
    pub(crate) host: std::net::IpAddr,
}

/// An image with a shell and git.
pub(crate) const IMAGE: &str = "debian:test";

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether tests run on a real cluster.
pub(crate) fn is_real() -> bool {
    variable("PODWRIGHT_E2E_KUBECONFIG").is_some()
}

impl Place {
    /// The cluster, and the settings by which an executor uses it.
    pub(crate) async fn new(directory: &Path, settings: ClusterSettings) -> (Self, RawSettings) {
        match variable("PODWRIGHT_E2E_KUBECONFIG") {
            Some(kubeconfig) => Self::real(kubeconfig).await,
            None => Self::simulated(directory, settings),
        }
    }

    fn simulated(directory: &Path, settings: ClusterSettings) -> (Self, RawSettings) {
        // What a machine without namespaces for containers does.
        let isolation = match variable("PODWRIGHT_E2E_ISOLATION").as_deref() {
            Some("plain") => Isolation::Plain,
            _ => Isolation::Auto,
        };
        let cluster = Cluster::start(ClusterSettings {
            isolation,
            crash_backoff: Duration::from_millis(200),
            pull_backoff: Duration::from_millis(200),
            ..settings
        });
        let cluster = cluster.unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_podwright"));
        let agent = ImageSpec::agent(&directory.join("agent"), program).unwrap();
        cluster.register_image("podwright-agent:test", agent);
        cluster.register_image(IMAGE, ImageSpec::present());
        let kubeconfig = directory.join("kubeconfig");
        std::fs::write(&kubeconfig, cluster.kubeconfig()).unwrap();
        let settings = RawSettings {
            kubeconfig: kubeconfig.to_str().unwrap().into(),
            namespace: cluster.namespace().into(),
            image: IMAGE.into(),
            helper_image: IMAGE.into(),
            agent_image: "podwright-agent:test".into(),
            poll_timeout: 30,
            manager_lease_duration: 1,
            ..RawSettings::default()
        };
        (Place::Simulated(Box::new(cluster)), settings)
    }

    async fn real(kubeconfig: String) -> (Self, RawSettings) {
        let file = kube::config::Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
        let (host, port) =
            (config.cluster_url.host().unwrap().to_owned(), config.cluster_url.port_u16());
        // The address from which this machine speaks to the cluster is one that pods can reach.
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((host.as_str(), port.unwrap_or(443))).unwrap();
        let host = socket.local_addr().unwrap().ip();
        let namespace = variable("PODWRIGHT_E2E_NAMESPACE").unwrap_or_else(|| "default".into());
        let image = variable("PODWRIGHT_E2E_IMAGE")
            .unwrap_or_else(|| "docker.io/library/debian:test".to_owned());
        // The test looks at everything; the manager has no more than its role.
        let kubeconfig = variable("PODWRIGHT_E2E_MANAGER_KUBECONFIG").unwrap_or(kubeconfig);
        let settings = RawSettings {
            kubeconfig,
            namespace: namespace.clone(),
            image: image.clone(),
            helper_image: image,
            agent_image: variable("PODWRIGHT_E2E_AGENT_IMAGE")
                .expect("PODWRIGHT_E2E_AGENT_IMAGE must be set beside PODWRIGHT_E2E_KUBECONFIG"),
            poll_timeout: 60,
            manager_lease_duration: 2,
            ..RawSettings::default()
        };
        let client = kube::Client::try_from(config).unwrap();
        (Place::Real(Real { client, namespace, host }), settings)
    }

    /// The names of the pods of this source.
    pub(crate) async fn pods(&self, source: &SourceId) -> Vec<String> {
        match self {
            Place::Simulated(cluster) => cluster.pods(),
            Place::Real(real) => real.names::<Pod>(source).await,
        }
    }

    /// The namespaces that were made for jobs of this source.
    pub(crate) async fn namespaces_of_jobs(&self, source: &SourceId) -> Vec<String> {
        match self {
            Place::Simulated(cluster) => {
                let mut all = cluster.namespaces();
                all.retain(|name| name.starts_with("ci-job-"));
                all
            }
            Place::Real(real) => {
                let selector = format!("{SOURCE_LABEL}={}", source_hash(source));
                let all: Api<Namespace> = Api::all(real.client.clone());
                let all = all.list(&ListParams::default().labels(&selector)).await.unwrap();
                all.items.into_iter().filter_map(|namespace| namespace.metadata.name).collect()
            }
        }
    }

    /// The names of the job records of this source.
    pub(crate) async fn records(&self, source: &SourceId) -> Vec<String> {
        match self {
            Place::Simulated(cluster) => cluster.leftovers().secrets,
            Place::Real(real) => real.names::<Secret>(source).await,
        }
    }

    /// Whether the processes of containers can be killed: on a real cluster, when the node is this
    /// machine and `PODWRIGHT_E2E_LOCAL_NODE` says so.
    pub(crate) fn can_kill(&self) -> bool {
        let can =
            matches!(self, Place::Simulated(_)) || variable("PODWRIGHT_E2E_LOCAL_NODE").is_some();
        if !can {
            eprintln!(
                "left out: PODWRIGHT_E2E_LOCAL_NODE does not say that the node is this machine"
            );
        }
        can
    }

    /// `kill -9` of PID 1 of a container.
    pub(crate) async fn kill_pid1(&self, pod: &str, container: &str) {
        match self {
            Place::Simulated(cluster) => cluster.kill_pid1(pod, container).unwrap(),
            Place::Real(real) => real.kill_pid1(pod, container).await,
        }
    }

    /// Deletes a pod as somebody with `kubectl` does.
    pub(crate) async fn delete_pod(&self, pod: &str) {
        match self {
            Place::Simulated(cluster) => cluster.delete_pod(pod, None).unwrap(),
            Place::Real(real) => {
                real.api::<Pod>().delete(pod, &DeleteParams::default()).await.unwrap();
            }
        }
    }

    /// Evicts a pod as whoever drains its node does.
    pub(crate) async fn drain_pod(&self, pod: &str) {
        match self {
            Place::Simulated(cluster) => cluster.drain(pod, None).unwrap(),
            Place::Real(real) => {
                real.api::<Pod>().evict(pod, &EvictParams::default()).await.unwrap();
            }
        }
    }

    /// The node that a pod runs on.
    pub(crate) async fn node_of(&self, pod: &str) -> String {
        match self {
            Place::Simulated(cluster) => {
                cluster.pod(pod).unwrap()["spec"]["nodeName"].as_str().unwrap().to_owned()
            }
            Place::Real(real) => {
                real.api::<Pod>().get(pod).await.unwrap().spec.unwrap().node_name.unwrap()
            }
        }
    }

    /// How many managers show that they live.
    pub(crate) async fn signs(&self, source: &SourceId) -> usize {
        match self {
            Place::Simulated(cluster) => cluster.leftovers().config_maps.len(),
            Place::Real(real) => {
                real.names::<ConfigMap>(source).await.len()
                    + real.names::<Lease>(source).await.len()
            }
        }
    }

    /// Looks into another namespace of the cluster.
    pub(crate) fn use_namespace(&mut self, namespace: &str) {
        match self {
            Place::Simulated(_) => panic!("a simulated cluster has one namespace for jobs"),
            Place::Real(real) => real.namespace = namespace.to_owned(),
        }
    }

    /// Nothing of this source is left, once the kubelet has had the time to end what was deleted.
    pub(crate) async fn nothing_is_left(&self, source: &SourceId) {
        self.wait_for_nothing(source, true).await;
    }

    /// The same while a manager shows that it lives.
    pub(crate) async fn nothing_but_signs_is_left(&self, source: &SourceId) {
        self.wait_for_nothing(source, false).await;
    }

    async fn wait_for_nothing(&self, source: &SourceId, signs: bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let left = match self {
                Place::Simulated(cluster) => {
                    let mut left = cluster.leftovers();
                    if !signs {
                        left.config_maps.clear();
                    }
                    (!left.is_empty()).then(|| format!("{left:?}"))
                }
                Place::Real(real) => {
                    let mut left = real.names::<Pod>(source).await;
                    left.extend(real.names::<Secret>(source).await);
                    left.extend(real.names::<PodDisruptionBudget>(source).await);
                    if signs {
                        left.extend(real.names::<ConfigMap>(source).await);
                        left.extend(real.names::<Lease>(source).await);
                    }
                    (!left.is_empty()).then(|| format!("{left:?}"))
                }
            };
            let Some(left) = left else { return };
            assert!(Instant::now() < deadline, "left behind: {left}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Real {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Its pods.
    pub(crate) fn pods(&self) -> Api<Pod> {
        self.api()
    }

    /// Deletes the Secrets of this source, as somebody with `kubectl` does.
    pub(crate) async fn delete_records(&self, source: &SourceId) {
        for name in self.names::<Secret>(source).await {
            self.api::<Secret>().delete(&name, &DeleteParams::default()).await.unwrap();
        }
    }

    /// The pod of a job.
    pub(crate) async fn pod_of(&self, job: u64) -> String {
        let selector = format!("podwright.dev/job={job}");
        let list = self.pods().list(&ListParams::default().labels(&selector)).await.unwrap();
        list.items.into_iter().find_map(|pod| pod.metadata.name).unwrap()
    }

    /// Opens a file of a container; the node is this machine.
    pub(crate) async fn open(&self, pod: &str, container: &str, path: &str) -> std::fs::File {
        let pid = self.pid1(pod, container).await.as_raw_nonzero();
        std::fs::File::open(format!("/proc/{pid}/root{path}")).unwrap()
    }

    async fn kill_pid1(&self, pod: &str, container: &str) {
        let pid = self.pid1(pod, container).await;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    async fn pid1(&self, pod: &str, container: &str) -> rustix::process::Pid {
        let status = self.api::<Pod>().get(pod).await.unwrap().status.unwrap();
        let statuses = status.container_statuses.unwrap();
        let status = statuses.into_iter().find(|status| status.name == container).unwrap();
        let id = status.container_id.unwrap();
        let id = id.rsplit('/').next().unwrap();
        let init = std::fs::read_dir("/proc").unwrap().flatten().find(|entry| {
            let file =
                |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let first = file("status")
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))
                .is_some_and(|pids| pids.split_whitespace().last() == Some("1"));
            first && file("cgroup").contains(id)
        });
        let pid = init.expect("the container's PID 1 runs on this machine").file_name();
        let pid = pid.to_str().unwrap().parse().unwrap();
        rustix::process::Pid::from_raw(pid).unwrap()
    }

    pub(crate) async fn names<K>(&self, source: &SourceId) -> Vec<String>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let selector = format!("{SOURCE_LABEL}={}", source_hash(source));
        let list = self.api::<K>().list(&ListParams::default().labels(&selector)).await.unwrap();
        list.items.into_iter().filter_map(|item| item.meta().name.clone()).collect()
    }
}
