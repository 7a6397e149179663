//! What the API server and the kubelet of one simulated cluster have in common.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::NODE;
use super::faults::Faults;
use super::kinds::{EVENTS, PODS};
use super::kubelet::Running;
use super::kubelet::images::Images;
use super::kubelet::log::Log;
use super::kubelet::pod::PodOrder;
use super::line::Lines;
use super::rbac::Tokens;
use super::selector::Selector;
use super::settings::ClusterSettings;
use super::store::{Store, now, unique};

/// Logs of ended containers that are kept for `pods/log`.
const KEPT_LOGS: usize = 256;

/// One simulated cluster.
pub(super) struct Shared {
    /// Differs from cluster to cluster; part of every container's marker.
    pub(super) id: String,
    pub(super) settings: ClusterSettings,
    pub(super) dir: PathBuf,
    /// Whether containers have namespaces of their own.
    pub(super) namespaces: bool,
    pub(super) store: Store,
    pub(super) tokens: Mutex<Tokens>,
    pub(super) faults: Faults,
    pub(super) lines: Arc<Lines>,
    pub(super) counts: Mutex<BTreeMap<(String, String), u64>>,
    pub(super) images: Mutex<Images>,
    /// Workers by pod UID.
    pub(super) pods: Mutex<HashMap<String, mpsc::UnboundedSender<PodOrder>>>,
    /// Running containers by pod UID and name.
    pub(super) running: Mutex<HashMap<(String, String), Running>>,
    /// Logs of ended containers, oldest first.
    pub(super) old_logs: Mutex<VecDeque<(String, String, Arc<Log>)>>,
    pub(super) schedulable: watch::Sender<bool>,
    pub(super) schedule_delay: Mutex<Duration>,
    /// The text with which an admission webhook refuses pods.
    pub(super) admission: Mutex<Option<String>>,
    pub(super) node_lost: Mutex<bool>,
    /// It lives in its caller's runtime and has no processes.
    pub(super) in_memory: bool,
    /// Until when the API server takes no connections, in memory.
    pub(super) away_until: Mutex<Option<Instant>>,
    /// Every task of the cluster that is not a connection.
    pub(super) tasks: TaskTracker,
}

impl Shared {
    /// Records an event about a pod.
    pub(super) fn event(&self, pod: &Value, kind: &str, reason: &str, message: &str) {
        self.event_at(pod, None, kind, reason, message);
    }

    /// Records an event about a part of a pod.
    pub(super) fn event_at(
        &self,
        pod: &Value,
        field: Option<&str>,
        kind: &str,
        reason: &str,
        message: &str,
    ) {
        let meta = &pod["metadata"];
        let (namespace, name) =
            (meta["namespace"].as_str().unwrap_or(""), meta["name"].as_str().unwrap_or(""));
        let event_name = format!("{name}.{:016x}", unique());
        let event = json!({
            "metadata": {},
            "involvedObject": {
                "kind": "Pod", "apiVersion": "v1", "namespace": namespace, "name": name,
                "uid": meta["uid"], "fieldPath": field,
            },
            "type": kind, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now(), "lastTimestamp": now(),
            "source": {"component": "kubelet", "host": NODE},
            "reportingComponent": "kubelet", "reportingInstance": NODE,
        });
        // Names are unique, so it cannot be there already.
        drop(self.store.create(&EVENTS, namespace, &event_name, event));
    }

    pub(super) fn keep_log(&self, pod: &Value, container: &str, log: &Arc<Log>) {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let mut logs = self.old_logs.lock();
        logs.push_back((uid, container.into(), log.clone()));
        while logs.len() > KEPT_LOGS {
            logs.pop_front();
        }
    }

    /// The log of a container's present or last run.
    pub(super) fn log(&self, uid: &str, container: &str) -> Option<Arc<Log>> {
        if let Some(running) = self.running.lock().get(&(uid.into(), container.into())) {
            return Some(running.log.clone());
        }
        let logs = self.old_logs.lock();
        logs.iter().rev().find(|(u, c, _)| u == uid && c == container).map(|(_, _, l)| l.clone())
    }

    /// Gives an order to the worker of a pod.
    pub(super) fn order(&self, uid: &str, order: PodOrder) -> bool {
        self.pods.lock().get(uid).is_some_and(|tx| tx.send(order).is_ok())
    }

    /// Finds a pod by name in any namespace.
    pub(super) fn find_pod(&self, name: &str) -> Option<Arc<Value>> {
        let (_, pods) = self.store.list(&PODS, "", &Selector::default());
        pods.into_iter().find(|p| p["metadata"]["name"] == name)
    }
}
