//! The worker of one pod: scheduling, volumes, init containers, containers, deadline, deletion.
//!
//! It is the only writer of the kubelet's part of the pod's status. What a status says is decided in
//! [`super::status`], how a container runs in [`super::container`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::NODE;
use super::super::kinds::PODS;
use super::super::shared::Shared;
use super::super::store::{Preconditions, now};
use super::container::{Container, Order, Report};
use super::status::{self, ContainerStatus, End, PodFacts, State};
use super::volumes::{self, Volumes};

/// What the worker of a pod is told.
#[derive(Clone, Debug)]
pub(in super::super) enum PodOrder {
    /// The pod has been marked as deleted.
    Delete { grace: Duration },
    /// The pod is gone from the API; whatever runs is killed.
    Forget,
    /// The pod has a deadline now, counted from its start.
    Deadline(Duration),
    /// The kubelet ends the pod for want of a resource.
    Evict { message: String },
    /// Somebody takes the pod away, and says so in a condition.
    Disrupt { reason: &'static str, message: &'static str },
    /// Kills a container's PID 1; `reason` as in its status.
    Kill { container: String, reason: &'static str },
    /// The node is lost: everything dies, nothing is reported.
    Vanish,
}

/// Starts the worker of a pod that has just been created.
pub(in super::super) fn spawn(shared: &Arc<Shared>, pod: &Arc<Value>) {
    // Bounded by the calls of whoever runs the simulation.
    let (orders, inbox) = mpsc::unbounded_channel();
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    let (uid, namespace, name) = (text("uid"), text("namespace"), text("name"));
    shared.pods.lock().insert(uid.clone(), orders);
    let worker = Worker {
        // Short, because paths of sockets in it must fit into 108 bytes.
        dir: shared.dir.join("p").join(uid.get(..13).unwrap_or(&uid)),
        containers: statuses(pod),
        facts: PodFacts { start_time: now(), ..PodFacts::default() },
        shared: shared.clone(),
        pod: pod.clone(),
        uid: uid.clone(),
        namespace,
        name,
        deleting: None,
    };
    let shared = shared.clone();
    shared.clone().tasks.spawn(async move {
        let dir = worker.dir.clone();
        Box::pin(worker.run(inbox)).await;
        shared.pods.lock().remove(&uid);
        if shared.in_memory {
            // A few small files; another thread would make the order of things depend on chance.
            drop(std::fs::remove_dir_all(dir));
        } else {
            drop(tokio::fs::remove_dir_all(dir).await);
        }
    });
}

struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Value>,
    uid: String,
    namespace: String,
    name: String,
    dir: PathBuf,
    containers: Vec<ContainerStatus>,
    facts: PodFacts,
    deleting: Option<Duration>,
}

/// Why a part of a pod's life ends before its time.
enum Leave {
    Deleted,
    Gone,
}

impl Worker {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<PodOrder>) {
        let begun = self.begin(&mut inbox).await;
        match begun {
            Ok(volumes) => self.live(Arc::new(volumes), &mut inbox).await,
            Err(Leave::Deleted) => self.finish_deletion(),
            Err(Leave::Gone) => {}
        }
    }

    /// Scheduling and volumes.
    async fn begin(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<PodOrder>,
    ) -> Result<Volumes, Leave> {
        let delay = *self.shared.schedule_delay.lock();
        unless_left(inbox, sleep(delay)).await?;
        let mut schedulable = self.shared.schedulable.subscribe();
        loop {
            let why = self.why_unschedulable(*schedulable.borrow_and_update());
            let Some(why) = why else { break };
            let now = now();
            self.change(|pod| {
                let before = pod["status"]["conditions"].clone();
                let c =
                    status::condition(&before, "PodScheduled", false, "Unschedulable", &why, &now);
                pod["status"]["conditions"] = json!([c]);
            });
            self.event("Warning", "FailedScheduling", &why);
            // The sender lives in `shared`.
            unless_left(inbox, async { drop(schedulable.changed().await) }).await?;
        }
        let time = now();
        self.change(|pod| {
            pod["spec"]["nodeName"] = NODE.into();
            let before = pod["status"]["conditions"].clone();
            let c = status::condition(&before, "PodScheduled", true, "", "", &time);
            pod["status"]["conditions"] = json!([c]);
        });
        let message = format!("Successfully assigned {}/{} to {NODE}", self.namespace, self.name);
        self.event("Normal", "Scheduled", &message);
        self.facts.start_time = now();
        self.write();
        let mut latest = self.shared.store.latest();
        let mut told = String::new();
        loop {
            latest.mark_unchanged();
            match volumes::set_up(&self.shared, &self.pod, &self.dir) {
                Ok(volumes) => {
                    self.facts.sandbox = true;
                    self.write();
                    return Ok(volumes);
                }
                Err(error) => {
                    let message = error.to_string();
                    if message != told {
                        self.event("Warning", "FailedMount", &message);
                        told = message;
                        latest.mark_unchanged();
                    }
                }
            }
            unless_left(inbox, async { drop(latest.changed().await) }).await?;
        }
    }

    fn why_unschedulable(&self, switch: bool) -> Option<String> {
        if !switch {
            return Some("0/1 nodes are available: 1 node(s) were unschedulable.".into());
        }
        let labels = &self.shared.settings.node_labels;
        let wanted = self.pod["spec"]["nodeSelector"].as_object();
        let fits = wanted
            .into_iter()
            .flatten()
            .all(|(key, value)| labels.iter().any(|(k, v)| k == key && value.as_str() == Some(v)));
        let cpus: f64 = ["initContainers", "containers"]
            .iter()
            .flat_map(|list| self.pod["spec"][*list].as_array().into_iter().flatten())
            .map(|c| cpus(&c["resources"]["requests"]["cpu"]))
            .sum();
        if cpus > f64::from(self.shared.settings.node_cpus) {
            return Some("0/1 nodes are available: 1 Insufficient cpu.".into());
        }
        (!fits).then(|| {
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.".into()
        })
    }

    /// From the first container's start to the pod's end and removal.
    async fn live(mut self, volumes: Arc<Volumes>, inbox: &mut mpsc::UnboundedReceiver<PodOrder>) {
        let (reports, mut incoming) = mpsc::unbounded_channel();
        let mut orders: Vec<Option<mpsc::UnboundedSender<Order>>> =
            vec![None; self.containers.len()];
        let mut tasks: JoinSet<usize> = JoinSet::new();
        let grace = self.pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap_or(30);
        let begun = Instant::now();
        let mut deadline = self.pod["spec"]["activeDeadlineSeconds"]
            .as_u64()
            .map(|s| begun + Duration::from_secs(s));
        let mut deadline_open = deadline.is_some();
        loop {
            let ending = self.deleting.is_some() || self.facts.reason.is_some();
            if !ending {
                for index in self.due(&orders) {
                    let (tx, rx) = mpsc::unbounded_channel();
                    orders[index] = Some(tx);
                    let task = self.container(index, &volumes, &reports, rx);
                    tasks.spawn(async move {
                        Box::pin(task.run()).await;
                        index
                    });
                }
            }
            if tasks.is_empty() && incoming.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                Some(report) = incoming.recv() => self.take(report),
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    while let Ok(report) = incoming.try_recv() {
                        self.take(report);
                    }
                    if let Ok(index) = ended && !self.containers[index].done {
                        self.lost(index);
                    }
                }
                order = inbox.recv() => match order {
                    Some(PodOrder::Delete { grace }) => {
                        self.deleting = Some(grace);
                        self.tell_all(&orders, &Order::Stop(grace));
                    }
                    Some(PodOrder::Deadline(limit)) => {
                        (deadline, deadline_open) = (Some(begun + limit), true);
                    }
                    Some(PodOrder::Evict { message }) => {
                        self.facts.reason = Some(("Evicted".into(), message.clone()));
                        self.facts.disruption = Some(("TerminationByKubelet".into(), message.clone()));
                        self.event("Warning", "Evicted", &message);
                        self.write();
                        self.tell_all(&orders, &Order::Stop(Duration::ZERO));
                    }
                    Some(PodOrder::Disrupt { reason, message }) => {
                        self.facts.disruption = Some((reason.into(), message.into()));
                        self.write();
                    }
                    Some(PodOrder::Kill { container, reason }) => {
                        for (status, tx) in self.containers.iter().zip(&orders) {
                            if let (true, Some(tx)) = (status.name == container, tx) {
                                drop(tx.send(Order::Kill(reason)));
                            }
                        }
                    }
                    Some(PodOrder::Forget | PodOrder::Vanish) | None => {
                        self.tell_all(&orders, &Order::Vanish);
                        while tasks.join_next().await.is_some() {}
                        return;
                    }
                },
                () = async { sleep_until(deadline.unwrap_or_else(Instant::now)).await }, if deadline_open => {
                    deadline_open = false;
                    let message = "Pod was active on the node longer than the specified deadline";
                    self.facts.reason = Some(("DeadlineExceeded".into(), message.into()));
                    self.write();
                    self.tell_all(&orders, &Order::Stop(Duration::from_secs(grace)));
                }
            }
        }
        self.finish(inbox).await;
    }

    /// Writes the final phase and waits for the deletion.
    async fn finish(mut self, inbox: &mut mpsc::UnboundedReceiver<PodOrder>) {
        for index in 0..self.containers.len() {
            let pod_ends = self.deleting.is_some() || self.facts.reason.is_some();
            if pod_ends && !self.containers[index].done {
                self.lost(index);
            }
        }
        let bad = self.facts.reason.is_some()
            || self.containers.iter().any(|c| c.state.end().is_some_and(|e| e.exit_code != 0));
        self.facts.final_phase = Some(if bad { "Failed" } else { "Succeeded" });
        self.write();
        while self.deleting.is_none() {
            match inbox.recv().await {
                Some(PodOrder::Delete { grace }) => self.deleting = Some(grace),
                Some(PodOrder::Forget | PodOrder::Vanish) | None => return,
                Some(
                    PodOrder::Evict { .. }
                    | PodOrder::Disrupt { .. }
                    | PodOrder::Kill { .. }
                    | PodOrder::Deadline(_),
                ) => {}
            }
        }
        self.finish_deletion();
    }

    /// The kubelet's own deletion, once nothing runs any more.
    fn finish_deletion(&self) {
        self.change(|pod| pod["metadata"]["deletionGracePeriodSeconds"] = 0.into());
        let same = Preconditions { uid: Some(self.uid.clone()), version: None };
        // Somebody may have forced the deletion; then there is nothing left to remove.
        drop(self.shared.store.remove(&PODS, &self.namespace, &self.name, &same));
    }

    fn tell_all(&self, orders: &[Option<mpsc::UnboundedSender<Order>>], order: &Order) {
        for tx in orders.iter().flatten() {
            // A container that has ended takes no orders.
            drop(tx.send(order.clone()));
        }
    }

    /// The containers to be started now: the next init container, or all others after them.
    fn due(&self, started: &[Option<mpsc::UnboundedSender<Order>>]) -> Vec<usize> {
        let ok = |c: &ContainerStatus| c.done && c.state.end().is_some_and(|e| e.exit_code == 0);
        if let Some(at) = self.containers.iter().position(|c| c.init && !ok(c)) {
            return if started[at].is_none() { vec![at] } else { Vec::new() };
        }
        (0..self.containers.len())
            .filter(|&i| !self.containers[i].init && started[i].is_none())
            .collect()
    }

    fn container(
        &self,
        index: usize,
        volumes: &Arc<Volumes>,
        reports: &mpsc::UnboundedSender<Report>,
        orders: mpsc::UnboundedReceiver<Order>,
    ) -> Container {
        let status = &self.containers[index];
        let list = if status.init { "initContainers" } else { "containers" };
        let spec = self.pod["spec"][list]
            .as_array()
            .into_iter()
            .flatten()
            .find(|c| c["name"] == status.name.as_str())
            .cloned()
            .unwrap_or_default();
        Container {
            shared: self.shared.clone(),
            pod: self.pod.clone(),
            spec,
            index,
            init: status.init,
            dir: self.dir.join(format!("container-{}", status.name)),
            volumes: volumes.clone(),
            reports: reports.clone(),
            orders,
        }
    }

    fn take(&mut self, report: Report) {
        let status = &mut self.containers[report.index];
        if report.restarts > status.restarts
            || matches!(report.state, State::Waiting { .. }) && status.state.end().is_some()
        {
            if status.state.end().is_some() {
                status.last = Some(status.state.clone());
            }
            status.restarts = report.restarts;
        }
        if !report.id.is_empty() {
            status.id = report.id;
        }
        status.state = report.state;
        status.done = report.done;
        let (name, state) = (status.name.clone(), status.state.clone());
        if self.deleting.is_some() || self.facts.reason.is_some() {
            // A kubelet that ends a whole pod tells about it once, when all of it has ended.
            return;
        }
        self.note(&name, &state);
        self.write();
    }

    fn note(&self, name: &str, state: &State) {
        match state {
            State::Waiting { reason, message } if reason != "ContainerCreating" => {
                let reason = if reason == "ErrImagePull" { "Failed" } else { reason };
                self.event("Warning", reason, message);
            }
            State::Running { .. } => {
                self.event("Normal", "Started", &format!("Container started: {name}"));
            }
            _ => {}
        }
    }

    /// A container whose end nobody saw, or that never ran.
    fn lost(&mut self, index: usize) {
        let status = &mut self.containers[index];
        status.state = State::Terminated(End {
            exit_code: 137,
            reason: "ContainerStatusUnknown".into(),
            message: "The container could not be located when the pod was terminated".into(),
            started: None,
            finished: None,
        });
        status.done = true;
    }

    fn write(&self) {
        let (facts, containers, now) = (&self.facts, &self.containers, now());
        self.change(|pod| status::write(pod, facts, containers, &now));
    }

    /// Changes the stored pod, if it is still this one.
    fn change(&self, change: impl FnOnce(&mut Value)) {
        let uid = &self.uid;
        let changed = self.shared.store.change(&PODS, &self.namespace, &self.name, |pod| {
            if pod["metadata"]["uid"] == uid.as_str() {
                change(pod);
            }
            Ok(())
        });
        // Not found: the pod was removed by force, and an order about that is on its way.
        drop(changed);
    }

    fn event(&self, kind: &str, reason: &str, message: &str) {
        self.shared.event(&self.pod, kind, reason, message);
    }
}

/// A quantity of CPU time.
fn cpus(quantity: &Value) -> f64 {
    if let Some(number) = quantity.as_f64() {
        return number;
    }
    let text = quantity.as_str().unwrap_or_default();
    let (number, unit) = match text.strip_suffix('m') {
        Some(number) => (number, 0.001),
        None => (text, 1.0),
    };
    number.parse::<f64>().unwrap_or(0.0) * unit
}

/// Waits for something, unless the pod is deleted or gone first.
async fn unless_left(
    inbox: &mut mpsc::UnboundedReceiver<PodOrder>,
    wait: impl Future<Output = ()>,
) -> Result<(), Leave> {
    let mut wait = std::pin::pin!(wait);
    loop {
        tokio::select! {
            () = &mut wait => return Ok(()),
            order = inbox.recv() => match order {
                Some(PodOrder::Delete { .. }) => return Err(Leave::Deleted),
                Some(PodOrder::Forget | PodOrder::Vanish) | None => return Err(Leave::Gone),
                Some(PodOrder::Evict { .. } | PodOrder::Disrupt { .. } | PodOrder::Kill { .. } | PodOrder::Deadline(_)) => {}
            }
        }
    }
}

fn statuses(pod: &Value) -> Vec<ContainerStatus> {
    let inits = pod["spec"]["initContainers"].as_array().map_or(&[][..], |a| a);
    let mains = pod["spec"]["containers"].as_array().map_or(&[][..], |a| a);
    let waiting = if inits.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    inits
        .iter()
        .map(|c| (c, true))
        .chain(mains.iter().map(|c| (c, false)))
        .map(|(c, init)| ContainerStatus {
            name: c["name"].as_str().unwrap_or_default().into(),
            image: c["image"].as_str().unwrap_or_default().into(),
            id: String::new(),
            state: State::waiting(waiting, ""),
            last: None,
            restarts: 0,
            init,
            done: false,
        })
        .collect()
}
