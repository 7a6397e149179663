//! The handle by which a test has a cluster, and hurts it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::NODE;
use super::api;
use super::faults::{Fault, Faults, RandomDrops, RequestFilter};
use super::kinds::{
    CONFIG_MAPS, Kind, NAMESPACES, NODES, PODS, RESOURCE_QUOTAS, SECRETS, SERVICE_ACCOUNTS,
};
use super::kubelet::pod::PodOrder;
use super::kubelet::{process, strays};
use super::memory;
use super::rbac::{Rule, Tokens, User};
use super::selector::Selector;
use super::server::{self, ServerOrder};
use super::settings::{ClusterSettings, ImageSpec, Isolation};
use super::shared::Shared;
use super::store::{Preconditions, Store, now, unique};

/// Why a cluster did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartClusterError {
    /// The machine refused something that every cluster needs.
    #[error("cannot start the simulated cluster")]
    Io(#[from] io::Error),
    /// [`Isolation::Namespaces`] was asked for and cannot be had.
    #[error("containers cannot have namespaces on this machine: {0}")]
    Namespaces(String),
}

/// There is no such pod, or nothing of it that this could be done to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such pod, or it has ended: {0}")]
pub struct NoSuchPod(pub String);

/// How often each request was made, by verb and resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests(BTreeMap<(String, String), u64>);

impl Requests {
    /// How often this verb (`create`, `watch`, …) was asked for on this resource (`pods/exec`, …).
    #[must_use]
    pub fn of(&self, verb: &str, resource: &str) -> u64 {
        self.0.get(&(verb.into(), resource.into())).copied().unwrap_or(0)
    }

    /// All requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Verb, resource and number of each kind of request.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.0.iter().map(|((verb, resource), n)| (verb.as_str(), resource.as_str(), *n))
    }

    /// What was asked for since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Requests) -> Requests {
        let left = |(key, n): (&(String, String), &u64)| {
            let before = earlier.0.get(key).copied().unwrap_or(0);
            (*n > before).then(|| (key.clone(), n - before))
        };
        Requests(self.0.iter().filter_map(left).collect())
    }
}

/// What is still there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// `namespace/name` of each pod.
    pub pods: Vec<String>,
    /// `namespace/name` of each Secret.
    pub secrets: Vec<String>,
    /// `namespace/name` of each ConfigMap.
    pub config_maps: Vec<String>,
    /// Processes of containers, of pods that are still there and of pods that are not.
    pub processes: Vec<u32>,
}

impl Leftovers {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Leftovers::default()
    }
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
    orders: Option<mpsc::UnboundedSender<ServerOrder>>,
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

    fn shared(&self) -> &Arc<Shared> {
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

    fn put(&self, kind: &'static Kind, namespace: &str, name: &str, object: Value) {
        // An object that is there already stays as it is.
        drop(self.shared().store.create(kind, namespace, name, object));
    }

    /// Makes an image known, or changes what is known of it.
    pub fn register_image(&self, name: &str, spec: ImageSpec) {
        self.shared().images.lock().register(name, spec);
    }

    /// Whether containers have namespaces of their own ([`Isolation::Namespaces`]).
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

    // Faults of pods.

    fn order(&self, pod: &str, order: PodOrder) -> Result<(), NoSuchPod> {
        let found = self.shared().find_pod(pod);
        let uid = found.as_ref().and_then(|p| p["metadata"]["uid"].as_str());
        match uid.is_some_and(|uid| self.shared().order(uid, order)) {
            true => Ok(()),
            false => Err(NoSuchPod(pod.into())),
        }
    }

    /// Evicts a pod as a kubelet does whose node runs short of memory.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn evict(&self, pod: &str) -> Result<(), NoSuchPod> {
        let message =
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. ";
        self.order(pod, PodOrder::Evict { message: message.into() })
    }

    /// Kills a container as the kernel does when it has too much memory.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn oom_kill(&self, pod: &str, container: &str) -> Result<(), NoSuchPod> {
        self.order(pod, PodOrder::Kill { container: container.into(), reason: "OOMKilled" })
    }

    /// Kills a container's PID 1 and so the container.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn kill_pid1(&self, pod: &str, container: &str) -> Result<(), NoSuchPod> {
        self.order(pod, PodOrder::Kill { container: container.into(), reason: "Error" })
    }

    /// Evicts a pod by the API, as whoever drains its node does; no grace period means the pod's own.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn drain(&self, pod: &str, grace: Option<Duration>) -> Result<(), NoSuchPod> {
        let reason = "EvictionByEvictionAPI";
        self.order(pod, PodOrder::Disrupt { reason, message: "Eviction API: evicting" })?;
        self.delete_pod(pod, grace)
    }

    /// Deletes a pod as somebody with `kubectl` does; no grace period means the pod's own.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn delete_pod(&self, pod: &str, grace: Option<Duration>) -> Result<(), NoSuchPod> {
        let missing = || NoSuchPod(pod.into());
        let found = self.shared().find_pod(pod).ok_or_else(missing)?;
        let namespace = found["metadata"]["namespace"].as_str().unwrap_or_default();
        let seconds = grace.map(|g| g.as_secs());
        let none = Preconditions::default();
        api::delete_pod(self.shared(), namespace, pod, seconds, &none).map_err(|_| missing())?;
        Ok(())
    }

    /// Loses the node: its processes die, its streams hang, its kubelet says nothing more. The pods stay
    /// as they were, but not ready, and marked for deletion by the taint manager.
    /// New pods are not scheduled.
    pub fn lose_node(&self) {
        let shared = self.shared();
        *shared.node_lost.lock() = true;
        shared.schedulable.send_replace(false);
        // Nothing comes over a stream to a lost node, not even its end.
        shared.lines.stall_streams(true);
        let (_, pods) = shared.store.list(&PODS, "", &Selector::default());
        for pod in pods.iter().filter(|p| p["spec"]["nodeName"] == NODE) {
            let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
            shared.order(text("uid"), PodOrder::Vanish);
            let time = now();
            // Someone may delete it at this very moment.
            drop(shared.store.change(&PODS, text("namespace"), text("name"), |pod| {
                lost(pod, &time);
                Ok(())
            }));
        }
    }

    /// Ends what [`Cluster::lose_node`] began: the node's object is removed, and with it the pods.
    pub fn remove_node(&self) {
        let shared = self.shared();
        // It may have been removed before.
        drop(shared.store.remove(&NODES, "", NODE, &Preconditions::default()));
        shared.lines.cut_streams();
        let (_, pods) = shared.store.list(&PODS, "", &Selector::default());
        for pod in pods.iter().filter(|p| p["spec"]["nodeName"] == NODE) {
            let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
            let (namespace, name) = (text("namespace"), text("name"));
            drop(shared.store.change(&PODS, namespace, name, |pod| {
                pod["status"]["phase"] = "Failed".into();
                Ok(())
            }));
            drop(shared.store.remove(&PODS, namespace, name, &Preconditions::default()));
        }
    }

    /// Brings the node back, empty.
    pub fn restore_node(&self) {
        self.remove_node();
        *self.shared().node_lost.lock() = false;
        self.put(&NODES, "", NODE, json!({}));
        self.shared().schedulable.send_replace(true);
    }

    /// Whether new pods find a node.
    pub fn set_schedulable(&self, schedulable: bool) {
        self.shared().schedulable.send_replace(schedulable);
    }

    /// Time that pods created from now on wait for their node.
    pub fn set_schedule_delay(&self, delay: Duration) {
        *self.shared().schedule_delay.lock() = delay;
    }

    // Faults of the API server.

    fn server(&self, order: ServerOrder) {
        if let Some(orders) = &self.orders {
            // The server runs as long as this handle.
            let _ = orders.send(order);
        } else {
            memory::obey(self.shared(), order);
        }
    }

    /// Cuts every connection and at once accepts new ones. Nothing is forgotten.
    pub fn restart_api(&self) {
        self.server(ServerOrder::Away(Duration::ZERO));
    }

    /// Cuts every connection and refuses new ones for this long. Pods run on.
    pub fn api_away(&self, time: Duration) {
        self.server(ServerOrder::Away(time));
    }

    /// Ends [`Cluster::api_away`] early.
    pub fn api_back(&self) {
        self.server(ServerOrder::Back);
    }

    /// Does this to the next requests that the filter matches.
    pub fn fail_next(&self, times: u32, filter: RequestFilter, fault: Fault) {
        self.shared().faults.add(filter, fault, times);
    }

    /// Makes all resource versions so far too old: running watches end with 410, and so does a
    /// watch from an old version.
    pub fn expire_watches(&self) {
        self.shared().store.compact();
    }

    /// Breaks the next stream after the server has sent this many bytes on it, the answer to the
    /// upgrade included. Called several times: one stream after another.
    pub fn drop_stream_after(&self, bytes: u64) {
        self.shared().faults.drop_stream_after(bytes);
    }

    /// Breaks streams at random.
    pub fn drop_streams_randomly(&self, drops: RandomDrops) {
        self.shared().faults.drop_randomly(drops);
    }

    /// Breaks all open streams.
    pub fn drop_streams(&self) {
        self.shared().lines.cut_streams();
    }

    /// Stops all open streams, or lets them go on: nothing is read, written or closed meanwhile.
    pub fn stall_streams(&self, stalled: bool) {
        self.shared().lines.stall_streams(stalled);
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

type Prepared = (Arc<Shared>, TcpListener, SocketAddr);

async fn prepare(
    settings: ClusterSettings,
    id: String,
    dir: PathBuf,
    tokens: Tokens,
) -> Result<Prepared, StartClusterError> {
    let namespaces = match settings.isolation {
        Isolation::Plain => false,
        wanted => {
            let scratch = dir.join("probe");
            std::fs::create_dir_all(&scratch)?;
            match process::namespaces_work(&scratch).await {
                Ok(()) => true,
                Err(error) if wanted == Isolation::Namespaces => {
                    return Err(StartClusterError::Namespaces(error.to_string()));
                }
                Err(error) => {
                    tracing::info!(%error, "containers of the simulated cluster run in plain mode");
                    false
                }
            }
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let shared = shared(settings, id, dir, tokens, Home::Thread { namespaces });
    Ok((shared, listener, address))
}

/// Where a cluster lives.
enum Home {
    /// On a thread of its own, with processes.
    Thread { namespaces: bool },
    /// In its caller's runtime, without.
    Memory,
}

fn shared(
    settings: ClusterSettings,
    id: String,
    dir: PathBuf,
    tokens: Tokens,
    home: Home,
) -> Arc<Shared> {
    let store = Store::new(settings.history);
    for namespace in ["default", settings.namespace.as_str()] {
        add_namespace(&store, namespace);
    }
    // Nothing is there yet that it could collide with.
    drop(store.create(&NODES, "", NODE, json!({})));
    Arc::new(Shared {
        id,
        dir,
        namespaces: matches!(home, Home::Thread { namespaces: true }),
        in_memory: matches!(home, Home::Memory),
        away_until: Mutex::new(None),
        store,
        tokens: Mutex::new(tokens),
        faults: Faults::default(),
        lines: Arc::default(),
        counts: Mutex::default(),
        images: Mutex::default(),
        pods: Mutex::new(HashMap::new()),
        running: Mutex::new(HashMap::new()),
        old_logs: Mutex::default(),
        schedulable: watch::Sender::new(true),
        schedule_delay: Mutex::new(settings.schedule_delay),
        admission: Mutex::new(None),
        node_lost: Mutex::new(false),
        tasks: TaskTracker::new(),
        settings,
    })
}

/// Ends every worker and, with them, every container.
async fn end(shared: &Shared) {
    for (_, orders) in shared.pods.lock().drain() {
        // A worker that has just ended takes no orders.
        drop(orders.send(PodOrder::Forget));
    }
    shared.tasks.close();
    // The workers wait for their processes, which are killed; a process that the kernel does not
    // let go must not hold up the test.
    drop(tokio::time::timeout(Duration::from_secs(5), shared.tasks.wait()).await);
}

fn tokens(settings: &ClusterSettings, token: &str, admin: &str) -> Tokens {
    let manager = User {
        name: format!("system:serviceaccount:{}:manager", settings.namespace),
        namespace: Some(settings.namespace.clone()),
        rules: settings.rules.clone(),
        cluster_rules: settings.cluster_rules.clone(),
    };
    let root = User {
        name: "admin".into(),
        namespace: None,
        rules: Rule::everything(),
        cluster_rules: Vec::new(),
    };
    Tokens([(token.to_owned(), manager), (admin.to_owned(), root)].into())
}

fn add_namespace(store: &Store, name: &str) {
    // Either is there already, or it is created.
    drop(store.create(&NAMESPACES, "", name, json!({"status": {"phase": "Active"}})));
    drop(store.create(&SERVICE_ACCOUNTS, name, "default", json!({})));
}

/// What the node controller and the taint manager write into the pod of a lost node.
fn lost(pod: &mut Value, time: &str) {
    for condition in pod["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if condition["type"] == "Ready" {
            condition["status"] = "False".into();
            condition["lastTransitionTime"] = time.into();
        }
    }
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        conditions.push(json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": time,
        }));
    }
    if pod["metadata"]["deletionTimestamp"].is_null() {
        pod["metadata"]["deletionTimestamp"] = time.into();
        let grace = pod["spec"]["terminationGracePeriodSeconds"].clone();
        pod["metadata"]["deletionGracePeriodSeconds"] = grace;
    }
}

impl Shared {
    pub(super) fn count(&self, verb: &str, resource: &str) {
        *self.counts.lock().entry((verb.into(), resource.into())).or_default() += 1;
    }
}
