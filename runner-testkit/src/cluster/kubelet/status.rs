//! The status of a pod as a pure function of what its containers do.

use serde_json::{Value, json};

/// What a container does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    Waiting { reason: String, message: String },
    Running { since: String },
    Terminated(End),
}

/// How a run of a container ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct End {
    pub(super) exit_code: i32,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) started: Option<String>,
    pub(super) finished: Option<String>,
}

impl State {
    pub(super) fn waiting(reason: &str, message: &str) -> Self {
        State::Waiting { reason: reason.into(), message: message.into() }
    }

    pub(super) fn end(&self) -> Option<&End> {
        if let State::Terminated(end) = self { Some(end) } else { None }
    }

    fn json(&self, id: &str) -> Value {
        match self {
            State::Waiting { reason, message } if message.is_empty() => {
                json!({"waiting": {"reason": reason}})
            }
            State::Waiting { reason, message } => {
                json!({"waiting": {"reason": reason, "message": message}})
            }
            State::Running { since } => json!({"running": {"startedAt": since}}),
            State::Terminated(end) => {
                let mut ended = json!({
                    "exitCode": end.exit_code, "reason": end.reason,
                    "startedAt": end.started, "finishedAt": end.finished,
                });
                if !end.message.is_empty() {
                    ended["message"] = end.message.as_str().into();
                }
                if end.started.is_some() {
                    ended["containerID"] = id.into();
                }
                json!({"terminated": ended})
            }
        }
    }
}

/// One container's part of the status.
#[derive(Clone, Debug)]
pub(super) struct ContainerStatus {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) id: String,
    pub(super) state: State,
    pub(super) last: Option<State>,
    pub(super) restarts: u32,
    pub(super) init: bool,
    /// No further run will come.
    pub(super) done: bool,
}

impl ContainerStatus {
    fn json(&self) -> Value {
        let running = matches!(self.state, State::Running { .. });
        let completed = self.init && self.state.end().is_some_and(|e| e.exit_code == 0);
        let began = running || self.state.end().is_some_and(|e| e.started.is_some());
        let mut status = json!({
            "name": self.name, "image": self.image,
            "imageID": if began { format!("simulated:{}", self.image) } else { String::new() },
            "state": self.state.json(&self.id),
            "lastState": self.last.as_ref().map_or(json!({}), |l| l.json(&self.id)),
            "ready": if self.init { completed } else { running },
            "restartCount": self.restarts,
            "started": running,
        });
        if began {
            status["containerID"] = self.id.as_str().into();
        }
        status
    }
}

/// What decides over a pod's status besides its containers.
#[derive(Clone, Debug, Default)]
pub(super) struct PodFacts {
    pub(super) start_time: String,
    /// Volumes and sandbox are there.
    pub(super) sandbox: bool,
    /// The phase after everything has ended; the kubelet writes it after the last container's end.
    pub(super) final_phase: Option<&'static str>,
    /// Reason and message of a pod that was ended as a whole.
    pub(super) reason: Option<(String, String)>,
    /// A `DisruptionTarget` condition: reason and message.
    pub(super) disruption: Option<(String, String)>,
}

/// Writes the kubelet's part of the status into a pod.
pub(super) fn write(pod: &mut Value, facts: &PodFacts, containers: &[ContainerStatus], now: &str) {
    let inits: Vec<&ContainerStatus> = containers.iter().filter(|c| c.init).collect();
    let mains: Vec<&ContainerStatus> = containers.iter().filter(|c| !c.init).collect();
    let initialized =
        inits.iter().all(|c| c.done && c.state.end().is_some_and(|e| e.exit_code == 0));
    let init_failed =
        inits.iter().any(|c| c.done && c.state.end().is_some_and(|e| e.exit_code != 0));
    let over = init_failed || mains.iter().all(|c| c.done);
    let failed = init_failed
        || facts.reason.is_some()
        || mains.iter().any(|c| c.done && c.state.end().is_some_and(|e| e.exit_code != 0));
    let ready =
        mains.iter().all(|c| matches!(c.state, State::Running { .. })) && facts.reason.is_none();
    let began = mains.iter().any(|c| {
        c.restarts > 0
            || matches!(&c.state, State::Running { .. })
            || c.state.end().is_some_and(|e| e.started.is_some() && e.reason != "StartError")
    });
    let phase = facts.final_phase.unwrap_or(if began { "Running" } else { "Pending" });
    let why_not = match (over || facts.reason.is_some(), failed) {
        (true, false) => "PodCompleted",
        (true, true) => "PodFailed",
        _ => "ContainersNotReady",
    };
    let complete = over && !failed;
    let names = |list: &[&ContainerStatus]| -> String {
        let names: Vec<&str> = list
            .iter()
            .filter(|c| !matches!(c.state, State::Running { .. }))
            .map(|c| c.name.as_str())
            .collect();
        format!("containers with unready status: [{}]", names.join(" "))
    };
    let message = if why_not == "ContainersNotReady" { names(&mains) } else { String::new() };
    let mut conditions: Vec<(&str, bool, &str, String)> = Vec::new();
    let running_sandbox = facts.sandbox && facts.final_phase.is_none();
    conditions.push(("PodReadyToStartContainers", running_sandbox, "", String::new()));
    if initialized {
        let reason = if complete { "PodCompleted" } else { "" };
        conditions.push(("Initialized", true, reason, String::new()));
    } else {
        let waiting: Vec<&str> = inits
            .iter()
            .filter(|c| c.state.end().is_none_or(|e| e.exit_code != 0))
            .map(|c| c.name.as_str())
            .collect();
        let message = format!("containers with incomplete status: [{}]", waiting.join(" "));
        conditions.push(("Initialized", false, "ContainersNotInitialized", message));
    }
    for kind in ["Ready", "ContainersReady"] {
        let reason = if ready { "" } else { why_not };
        conditions.push((kind, ready, reason, if ready { String::new() } else { message.clone() }));
    }
    conditions.push(("PodScheduled", true, "", String::new()));
    if let Some((reason, message)) = &facts.disruption {
        conditions.push(("DisruptionTarget", true, reason, message.clone()));
    }
    let before = pod["status"]["conditions"].clone();
    let conditions: Vec<Value> = conditions
        .into_iter()
        .map(|(kind, status, reason, message)| {
            condition(&before, kind, status, reason, &message, now)
        })
        .collect();
    let status = &mut pod["status"];
    status["phase"] = phase.into();
    status["conditions"] = conditions.into();
    status["startTime"] = facts.start_time.as_str().into();
    status["hostIP"] = "127.0.0.1".into();
    status["hostIPs"] = json!([{"ip": "127.0.0.1"}]);
    if facts.sandbox {
        // All pods share the host's network.
        status["podIP"] = "127.0.0.1".into();
        status["podIPs"] = json!([{"ip": "127.0.0.1"}]);
    }
    status["observedGeneration"] = 1.into();
    let all = |list: &[&ContainerStatus]| -> Value { list.iter().map(|c| c.json()).collect() };
    if !inits.is_empty() {
        status["initContainerStatuses"] = all(&inits);
    }
    status["containerStatuses"] = all(&mains);
    if let Some((reason, message)) = facts.reason.as_ref().filter(|_| facts.final_phase.is_some()) {
        status["reason"] = reason.as_str().into();
        status["message"] = message.as_str().into();
    }
}

/// A condition, which keeps its transition time as long as its status stays.
pub(super) fn condition(
    before: &Value,
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    now: &str,
) -> Value {
    let status = if status { "True" } else { "False" };
    let old = before.as_array().into_iter().flatten().find(|c| c["type"] == kind);
    let since = old
        .filter(|c| c["status"] == status)
        .and_then(|c| c["lastTransitionTime"].as_str())
        .unwrap_or(now);
    let mut condition = json!({
        "type": kind, "status": status, "lastProbeTime": null,
        "lastTransitionTime": since, "observedGeneration": 1,
    });
    if !reason.is_empty() {
        condition["reason"] = reason.into();
    }
    if !message.is_empty() {
        condition["message"] = message.into();
    }
    condition
}
