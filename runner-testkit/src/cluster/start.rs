//! How a cluster comes to be, and how it ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::NODE;
use super::faults::Faults;
use super::handle::StartClusterError;
use super::kinds::{NAMESPACES, NODES, SERVICE_ACCOUNTS};
use super::kubelet::pod::PodOrder;
use super::kubelet::process;
use super::rbac::{Rule, Tokens, User};
use super::settings::{ClusterSettings, Isolation};
use super::shared::Shared;
use super::store::Store;

pub(super) type Prepared = (Arc<Shared>, TcpListener, SocketAddr);

pub(super) async fn prepare(
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
pub(super) enum Home {
    /// On a thread of its own, with processes.
    Thread { namespaces: bool },
    /// In its caller's runtime, without.
    Memory,
}

pub(super) fn shared(
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
pub(super) async fn end(shared: &Shared) {
    for (_, orders) in shared.pods.lock().drain() {
        // A worker that has just ended takes no orders.
        drop(orders.send(PodOrder::Forget));
    }
    shared.tasks.close();
    // The workers wait for their processes, which are killed; a process that the kernel does not
    // let go must not hold up the test.
    drop(tokio::time::timeout(Duration::from_secs(5), shared.tasks.wait()).await);
}

pub(super) fn tokens(settings: &ClusterSettings, token: &str, admin: &str) -> Tokens {
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

pub(super) fn add_namespace(store: &Store, name: &str) {
    // Either is there already, or it is created.
    drop(store.create(&NAMESPACES, "", name, json!({"status": {"phase": "Active"}})));
    drop(store.create(&SERVICE_ACCOUNTS, name, "default", json!({})));
}
