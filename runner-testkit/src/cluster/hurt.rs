//! What can be done to a cluster: to its pods, its node, its API server and its streams.

use std::time::Duration;

use serde_json::{Value, json};

use super::NODE;
use super::api;
use super::faults::{Fault, RandomDrops, RequestFilter};
use super::handle::Cluster;
use super::kinds::{NODES, PODS};
use super::kubelet::pod::PodOrder;
use super::memory;
use super::selector::Selector;
use super::server::ServerOrder;
use super::store::{Preconditions, now};

/// There is no such pod, or nothing of it that this could be done to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such pod, or it has ended: {0}")]
pub struct NoSuchPod(pub String);

impl Cluster {
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
