//! The handle by which a test has a cluster, and hurts it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::counts::{Leftovers, Requests};
use super::kinds::{
    CONFIG_MAPS, Kind, NAMESPACES, PODS, RESOURCE_QUOTAS, SECRETS, SERVICE_ACCOUNTS,
};
use super::kubelet::strays;
use super::memory;
use super::rbac::{Rule, User};
use super::selector::Selector;
use super::server::{self, ServerOrder};
use super::settings::{ClusterSettings, ImageSpec};
use super::shared::Shared;
use super::start::{Home, add_namespace, end, prepare, shared, tokens};
use super::store::{Preconditions, unique};

/// Why a cluster did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartClusterError {
    /// The machine refused something that every cluster needs.
    #[error("cannot start the simulated cluster")]
    Io(#[from] io::Error),
    /// [`Isolation::Namespaces`](super::Isolation::Namespaces) was asked for and cannot be had.
    #[error("containers cannot have namespaces on this machine: {0}")]
    Namespaces(String),
}

/// A simulated cluster, which lives as long as this value: dropping it ends every process, closes
/// every connection and removes its directory.
///
/// It runs on a thread of its own, so that it can be used from any runtime, also one whose time
/// is paused. All methods return at once.
#[derive(Debug)]
pub struct Cluster {
    shared: SharedRef,
    address: SocketAddr,
    token: String,
    admin_token: String,
    pub(super) orders: Option<mpsc::UnboundedSender<ServerOrder>>,
    thread: Option<JoinHandle<()>>,
    own_dir: Option<PathBuf>,
}

/// Keeps `Debug` of the handle short.
#[derive(Clone)]
struct SharedRef(Arc<Shared>);

impl std::fmt::Debug for SharedRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shared").field(&self.0.id).finish()
    }
}

impl Cluster {
    /// Starts a cluster on a free loopback port.
    ///
    /// # Errors
    /// When the machine has no port, thread or directory for it, or the wanted isolation cannot be had.
    pub fn start(settings: ClusterSettings) -> Result<Self, StartClusterError> {
        let id = format!("{:016x}", unique());
        // Short, because paths of sockets in pods must fit into 108 bytes.
        let parent = settings.work_dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = parent.join(format!("sim-{}", &id[..8]));
        std::fs::create_dir_all(&parent)?;
        std::fs::create_dir(&dir)?;
        let dir = dir.canonicalize()?;
        let (token, admin_token) =
            (format!("sim-{:016x}{:016x}", unique(), unique()), format!("admin-{:016x}", unique()));
        let (ready_tx, ready) = std::sync::mpsc::channel();
        // Bounded by the calls of whoever runs the simulation.
        let (orders, inbox) = mpsc::unbounded_channel();
        let own_dir = dir.clone();
        let tokens = tokens(&settings, &token, &admin_token);
        let thread =
            std::thread::Builder::new().name("simulated-cluster".into()).spawn(move || {
                let runtime =
                    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                        Ok(runtime) => runtime,
                        Err(error) => {
                            // The starter waits for exactly one message.
                            drop(ready_tx.send(Err(error.into())));
                            return;
                        }
                    };
                runtime.block_on(async move {
                    match prepare(settings, id, dir, tokens).await {
                        Ok((shared, listener, address)) => {
                            drop(ready_tx.send(Ok((shared.clone(), address))));
                            server::serve(shared.clone(), listener, address, inbox).await;
                            end(&shared).await;
                        }
                        Err(error) => drop(ready_tx.send(Err(error))),
                    }
                });
            })?;
        let started = ready.recv().unwrap_or_else(|_| Err(io::Error::other("thread died").into()));
        let (shared, address) = match started {
            Ok(started) => started,
            Err(error) => {
                drop(thread.join());
                drop(std::fs::remove_dir_all(&own_dir));
                return Err(error);
            }
        };
        Ok(Cluster {
            shared: SharedRef(shared),
            address,
            token,
            admin_token,
            orders: Some(orders),
            thread: Some(thread),
            own_dir: Some(own_dir),
        })
    }

    /// A cluster without sockets, processes and threads, in the runtime it is made in, whose time may
    /// be paused. Containers of all images must be scripted ([`ImageSpec::scripted`],
    /// [`ImageSpec::program`]), and it is reached by [`Cluster::connect`].
    ///
    /// # Errors
    /// When there is no directory for it.
    pub fn in_memory(settings: ClusterSettings) -> Result<Self, StartClusterError> {
        let id = format!("{:016x}", unique());
        let parent = settings.work_dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = parent.join(format!("sim-{}", &id[..8]));
        std::fs::create_dir_all(&dir)?;
        let (token, admin_token) =
            (format!("sim-{:016x}{:016x}", unique(), unique()), format!("admin-{:016x}", unique()));
        let tokens = tokens(&settings, &token, &admin_token);
        let shared = shared(settings, id, dir.clone(), tokens, Home::Memory);
        Ok(Cluster {
            shared: SharedRef(shared),
            address: ([127, 0, 0, 1], 0).into(),
            token,
            admin_token,
            orders: None,
            thread: None,
            own_dir: Some(dir),
        })
    }

    /// A new connection to the API server of a cluster [in memory](Cluster::in_memory).
    ///
    /// # Errors
    /// When the server is away.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        memory::connect(self.shared())
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared.0
    }

    /// The server's URL, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The namespace of the jobs.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.shared().settings.namespace
    }

    /// The bearer token of the manager's service account, which has the rules of the settings.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The bearer token of somebody who may do everything.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// A kubeconfig (YAML) for the manager's service account.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_for(&self.token)
    }

    /// A kubeconfig (YAML) with this token.
    #[must_use]
    pub fn kubeconfig_for(&self, token: &str) -> String {
        let (url, namespace) = (self.url(), self.namespace());
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: sim\nclusters:\n- name: sim\n  cluster:\n    server: {url}\ncontexts:\n- name: sim\n  context:\n    cluster: sim\n    user: sim\n    namespace: {namespace}\nusers:\n- name: sim\n  user:\n    token: {token}\n"
        )
    }

    /// The names of all namespaces.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        let (_, all) = self.shared().store.list(&NAMESPACES, "", &Selector::default());
        let name =
            |namespace: &Arc<Value>| namespace["metadata"]["name"].as_str().map(str::to_owned);
        all.iter().filter_map(name).collect()
    }

    /// Adds a service account with rules that hold in one namespace, and returns its token.
    #[must_use]
    pub fn add_service_account(&self, namespace: &str, name: &str, rules: Vec<Rule>) -> String {
        self.put(&SERVICE_ACCOUNTS, namespace, name, json!({}));
        let token = format!("sim-{:016x}{:016x}", unique(), unique());
        let user = User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            namespace: Some(namespace.into()),
            rules,
            cluster_rules: Vec::new(),
        };
        self.shared().tokens.lock().0.insert(token.clone(), user);
        token
    }

    /// Adds a namespace with its default service account.
    pub fn add_namespace(&self, name: &str) {
        add_namespace(&self.shared().store, name);
    }

    /// Limits the pods of a namespace that have not ended; `None` takes the limit away.
    pub fn set_pod_quota(&self, namespace: &str, pods: Option<u64>) {
        let none = Preconditions::default();
        // It may not be there.
        drop(self.shared().store.remove(&RESOURCE_QUOTAS, namespace, "pods", &none));
        if let Some(pods) = pods {
            let quota = json!({"spec": {"hard": {"pods": pods.to_string()}}});
            self.put(&RESOURCE_QUOTAS, namespace, "pods", quota);
        }
    }

    /// Lets an admission webhook refuse every pod with this message; `None` lets them pass again.
    pub fn refuse_pods(&self, message: Option<&str>) {
        *self.shared().admission.lock() = message.map(str::to_owned);
    }

    pub(super) fn put(&self, kind: &'static Kind, namespace: &str, name: &str, object: Value) {
        // An object that is there already stays as it is.
        drop(self.shared().store.create(kind, namespace, name, object));
    }

    /// Makes an image known, or changes what is known of it.
    pub fn register_image(&self, name: &str, spec: ImageSpec) {
        self.shared().images.lock().register(name, spec);
    }

    /// Whether containers have namespaces of their own ([`Isolation::Namespaces`](super::Isolation::Namespaces)).
    #[must_use]
    pub fn has_namespaces(&self) -> bool {
        self.shared().namespaces
    }

    /// What has been asked of the API server so far, refused requests included. Connections that are
    /// refused while it is away are not requests.
    #[must_use]
    pub fn requests(&self) -> Requests {
        Requests(self.shared().counts.lock().clone())
    }

    /// The present state of a pod.
    #[must_use]
    pub fn pod(&self, name: &str) -> Option<Value> {
        self.shared().find_pod(name).map(|p| (*p).clone())
    }

    /// The names of all pods in the jobs' namespace.
    #[must_use]
    pub fn pods(&self) -> Vec<String> {
        let list = self.shared().store.list(&PODS, self.namespace(), &Selector::default()).1;
        list.iter().filter_map(|p| p["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }

    /// What is still there, in all namespaces.
    #[must_use]
    pub fn leftovers(&self) -> Leftovers {
        let names = |kind: &Kind| -> Vec<String> {
            let list = self.shared().store.list(kind, "", &Selector::default()).1;
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            list.iter()
                .map(|o| {
                    let meta = &o["metadata"];
                    format!("{}/{}", text(&meta["namespace"]), text(&meta["name"]))
                })
                .collect()
        };
        let mut processes = match self.shared().in_memory {
            true => Vec::new(),
            false => strays::find(&self.shared().id),
        };
        processes.sort_unstable();
        Leftovers {
            pods: names(&PODS),
            secrets: names(&SECRETS),
            config_maps: names(&CONFIG_MAPS),
            processes,
        }
    }

    /// How many exec and attach streams are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.shared().lines.streams()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The server ends when nobody can give it orders, and then ends everything else.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        if self.shared().in_memory {
            memory::end(self.shared());
        } else {
            strays::kill(&self.shared().id);
        }
        if let Some(dir) = self.own_dir.take() {
            // What cannot be removed lies in a temporary directory.
            drop(std::fs::remove_dir_all(dir));
        }
    }
}
