//! What a pod's state means for its job.

use std::time::Duration;

use runner_core::outcome::{InfraKind, Verdict};
use runner_core::wire::{ContainerFrame, ContainerState};

use super::end::End;
use super::pull::{FailedPull, is_pull_failure, passing, pull_kind};
use crate::pod::{BUILD, HELPER};
use crate::watch::{Condition, Container, PodView, Terminated, Waiting};

/// What can be seen of a pod at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sighting {
    /// `helper` runs: the agent can be reached.
    pub reachable: bool,
    /// `helper` has run, now or before: the job may have done something.
    pub has_run: bool,
    /// `helper` has ended for good: what was not relayed cannot be had any more.
    pub helper_over: bool,
    /// All containers have started at least once.
    pub all_started: bool,
    /// What it waits for, in words for the job's author.
    pub waits_for: Option<String>,
    /// Images that could not be pulled so far, and that the kubelet tries to pull again.
    pub failed_pulls: Vec<FailedPull>,
    /// What the agent cannot see: how all containers but its own are, once they have started.
    pub others: Vec<ContainerFrame>,
    /// Why the job cannot go on.
    pub end: Option<End>,
    /// The agent's own verdict, where it ended and left one.
    pub verdict: Option<Verdict>,
    /// The node that it runs on.
    pub node: Option<String>,
    /// How long it has from its order to end, where it is being deleted.
    pub grace: Option<Duration>,
}

/// How often a killed helper may come back before it is no accident: after the third start the
/// kubelet waits 40 s, then 80 s, …
const MOST_RESTARTS: u32 = 4;

/// What this pod's state means.
pub fn sight(pod: &PodView) -> Sighting {
    let helper = pod.container(HELPER);
    let mut out = Sighting {
        reachable: helper.is_some_and(|container| container.state.running.is_some()),
        has_run: helper.is_some_and(has_started),
        all_started: !pod.status.container_statuses.is_empty()
            && pod.status.container_statuses.iter().all(has_started),
        node: pod.spec.node_name.clone(),
        grace: grace(pod),
        ..Sighting::default()
    };
    if let Some(terminated) = helper.and_then(|container| container.state.terminated.as_ref()) {
        out.helper_over = !is_restarting(pod, terminated, helper.map_or(0, |h| h.restart_count));
        // Commands of the author's in `helper` can write this file too, and get the container killed for
        // its memory. A supervisor that comes back says by itself what it knows.
        out.verdict = verdict(terminated).filter(|_| out.helper_over);
    }
    out.failed_pulls = failed_pulls(pod);
    out.waits_for = waits_for(pod, &out);
    out.others = others(pod);
    out.end = end(pod, &out);
    out
}

fn grace(pod: &PodView) -> Option<Duration> {
    pod.metadata.deletion_timestamp.as_ref()?;
    let seconds = pod.metadata.deletion_grace_period_seconds?;
    Some(Duration::from_secs(u64::try_from(seconds).ok()?))
}

fn has_started(container: &Container) -> bool {
    let state = &container.state;
    state.running.is_some() || state.terminated.is_some() || container.restart_count > 0
}

fn others(pod: &PodView) -> Vec<ContainerFrame> {
    let state = |container: &Container| {
        let ended = container.state.terminated.as_ref();
        let state = match ended {
            Some(ended) => ContainerState::Ended(ended.exit_code),
            None => container.state.running.map(|_| ContainerState::Running)?,
        };
        Some(ContainerFrame { name: container.name.clone(), state })
    };
    let others = pod.status.container_statuses.iter().filter(|c| c.name != HELPER);
    others.filter_map(state).collect()
}

/// Between two starts the kubelet shows the container as ended, and then as in back-off.
fn is_restarting(pod: &PodView, ended: &Terminated, restarts: u32) -> bool {
    pod.may_restart(HELPER)
        && matches!(ended.exit_code, 137 | 139)
        && restarts < MOST_RESTARTS
        && pod.metadata.deletion_timestamp.is_none()
        && !matches!(pod.status.phase.as_str(), "Failed" | "Succeeded")
}

/// The compact verdict that the agent leaves as its termination message.
fn verdict(terminated: &Terminated) -> Option<Verdict> {
    serde_json::from_str(terminated.message.as_deref()?).ok()
}

fn condition<'p>(pod: &'p PodView, kind: &str) -> Option<&'p Condition> {
    pod.status.conditions.iter().find(|condition| condition.kind == kind)
}

fn text(value: Option<&String>) -> &str {
    value.map_or("", String::as_str)
}

/// How a container is called in front of the job's author.
fn called(container: &str) -> String {
    match container {
        BUILD => "the job's container".to_owned(),
        HELPER => "the runner's helper container".to_owned(),
        service => format!("the service container {service:?}"),
    }
}

fn waits_for(pod: &PodView, sighting: &Sighting) -> Option<String> {
    if sighting.all_started {
        return None;
    }
    if let Some(condition) = condition(pod, "PodScheduled")
        && condition.status == "False"
    {
        let message = text(condition.message.as_ref());
        // The first sentence says what is missing, the rest what preemption could do about it.
        let message = message.split(". ").next().unwrap_or(message);
        return Some(format!("no node has room for the job: {message}"));
    }
    if let Some(failed) = sighting.failed_pulls.first() {
        return Some(format!(
            "an image that could not be pulled yet: {}",
            failed.end.infra.message
        ));
    }
    let mut names: Vec<_> = containers(pod)
        .filter(|container| container.state.waiting.is_some())
        .map(|container| container.name.as_str())
        .collect();
    if names.is_empty() {
        return Some("a node to run on".to_owned());
    }
    names.sort_unstable_by_key(|name| (*name != HELPER, *name != BUILD, *name));
    Some(format!("the start of containers: {}", names.join(", ")))
}

fn end(pod: &PodView, sighting: &Sighting) -> Option<End> {
    // In the order of what explains most. The reason of the whole pod comes first, because its
    // containers only show that they were killed.
    of_pod(pod)
        .or_else(|| out_of_memory(pod))
        .or_else(|| of_waiting(pod))
        .or_else(|| of_start(pod))
        .or_else(|| of_helper(pod, sighting))
}

fn of_pod(pod: &PodView) -> Option<End> {
    let status = &pod.status;
    let node = pod.spec.node_name.as_ref().map_or(String::new(), |name| format!(" {name}"));
    let (reason, message) = (text(status.reason.as_ref()), text(status.message.as_ref()));
    let detail = format!("pod {} ({}): {reason} {message}", pod.name(), status.phase);
    let system = |text: String| Some(End::new(InfraKind::System, text, detail.clone()));
    if status.phase == "Failed" {
        match reason {
            "Evicted" => {
                let text = format!("the job was evicted from its node{node}: {}", message.trim());
                return system(text).map(End::by_disruption);
            }
            "DeadlineExceeded" => {
                return system(
                    "Kubernetes ended the job because its pod ran longer than it may".into(),
                );
            }
            "NodeLost" => {
                return system(format!("the node{node} that the job ran on was lost"));
            }
            "Preempting" | "Preempted" => {
                let text =
                    format!("the job had to make room on its node{node} for a more important pod");
                return system(text).map(End::by_disruption);
            }
            // The kubelet's words for a node that shuts down.
            "Terminated" | "NodeShutdown" | "Shutdown" => {
                let text = format!("the node{node} that the job ran on was shut down");
                return system(text).map(End::by_disruption);
            }
            "" => {}
            // OutOfcpu, NodeAffinity, UnexpectedAdmissionError, …: the node refused it.
            other => {
                return system(format!("the job's pod failed: {other} {message}"));
            }
        }
    }
    if let Some(disruption) = condition(pod, "DisruptionTarget")
        && disruption.status == "True"
    {
        let reason = text(disruption.reason.as_ref());
        let detail =
            format!("{detail}; DisruptionTarget {reason}: {}", text(disruption.message.as_ref()));
        let text = match reason {
            "EvictionByEvictionAPI" => {
                format!("the job was evicted from its node{node}, e.g. to drain it")
            }
            "PreemptionByScheduler" => {
                format!("the job had to make room on its node{node} for a more important pod")
            }
            "DeletionByTaintManager" => {
                format!("the node{node} that the job ran on was tainted or lost")
            }
            "DeletionByPodGC" => {
                format!("the node{node} that the job ran on does not exist any more")
            }
            "TerminationByKubelet" => {
                format!("the node{node} ended the job, for lack of resources or to shut down")
            }
            _ => format!("the cluster ended the job on its node{node}"),
        };
        return Some(End::new(InfraKind::System, text, detail).by_disruption());
    }
    if status.phase == "Unknown" {
        return system(format!("the node{node} that the job ran on cannot be reached"));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let on = if node.is_empty() { String::new() } else { format!(" on node{node}") };
        let text = format!("the job's pod was deleted by someone while the job ran{on}");
        return system(text).map(End::by_disruption);
    }
    None
}

/// A container whose first process was killed. With cgroup v1 a container whose *child* was killed
/// is also called `OOMKilled`, with exit status 0: its first process got over it, and how the
/// commands ended is the agent's to say.
fn out_of_memory(pod: &PodView) -> Option<End> {
    let killed = |container: &Container| {
        container.state.terminated.as_ref().is_some_and(|terminated| {
            terminated.reason.as_deref() == Some("OOMKilled") && terminated.exit_code != 0
        })
    };
    let container = pod.status.container_statuses.iter().find(|container| killed(container))?;
    if container.name == HELPER && is_coming_back(pod, container) {
        return None;
    }
    let limit = match container.name.as_str() {
        BUILD => "memory_limit",
        HELPER => "helper_memory_limit",
        _ => "service_memory_limit",
    };
    Some(End::new(
        InfraKind::System,
        format!(
            "{} used more memory than it may and was killed; use less, or have the runner's \
             `{limit}` raised",
            called(&container.name)
        ),
        format!("pod {}: container {} OOMKilled", pod.name(), container.name),
    ))
}

fn is_coming_back(pod: &PodView, helper: &Container) -> bool {
    let ended = helper.state.terminated.as_ref();
    ended.is_some_and(|ended| is_restarting(pod, ended, helper.restart_count))
}

fn containers(pod: &PodView) -> impl Iterator<Item = &Container> {
    pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses)
}

fn failed_pulls(pod: &PodView) -> Vec<FailedPull> {
    let failed = |container: &Container| {
        let waiting = container.state.waiting.as_ref()?;
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let phase = passing(reason, text(waiting.message.as_ref()))?;
        let end = no_image(pod, container, waiting);
        Some(FailedPull { container: container.name.clone(), phase, end })
    };
    containers(pod).filter_map(failed).collect()
}

fn no_image(pod: &PodView, container: &Container, waiting: &Waiting) -> End {
    let message = text(waiting.message.as_ref());
    let reason = waiting.reason.as_deref().unwrap_or_default();
    End {
        pull_failure: Some(container.name.clone()),
        ..End::new(
            pull_kind(message),
            format!(
                "an image for {} could not be pulled: {}",
                called(&container.name),
                pull_message(message)
            ),
            format!("pod {}: container {} {reason}: {message}", pod.name(), container.name),
        )
    }
}

fn of_waiting(pod: &PodView) -> Option<End> {
    containers(pod)
        .filter_map(|container| {
            let waiting = container.state.waiting.as_ref()?;
            let reason = waiting.reason.as_deref().unwrap_or_default();
            let message = text(waiting.message.as_ref());
            let detail =
                format!("pod {}: container {} {reason}: {message}", pod.name(), container.name);
            let who = called(&container.name);
            let configuration =
                |text: String| End::new(InfraKind::Configuration, text, detail.clone());
            match reason {
                reason if passing(reason, message).is_some() => None,
                reason if is_pull_failure(reason) => Some(no_image(pod, container, waiting)),
                "InvalidImageName" => Some(configuration(format!(
                    "the image name {:?} of {who} is not valid",
                    container.image
                ))),
                "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                    Some(configuration(format!("{who} could not be made: {message}")))
                }
                "CrashLoopBackOff" => {
                    let last = container.last_state.terminated.as_ref();
                    let cause = last.map_or(String::new(), |last| {
                        let words = text(last.message.as_ref());
                        format!(": exit status {} {words}", last.exit_code)
                    });
                    let killed = last.is_some_and(|last| matches!(last.exit_code, 137 | 139));
                    if container.name == HELPER && killed {
                        // It starts again after the back-off, as it should, but not for ever.
                        (container.restart_count >= MOST_RESTARTS).then(|| {
                            End::new(
                                InfraKind::System,
                                format!("{who} was killed again and again"),
                                detail.clone(),
                            )
                        })
                    } else {
                        Some(configuration(format!("{who} ends as soon as it starts{cause}")))
                    }
                }
                _ => None,
            }
        })
        .next()
}

/// Without the layers that every runtime puts around the registry's own words.
fn pull_message(message: &str) -> &str {
    message.rsplit_once("desc = ").map_or(message, |(_, words)| words)
}

/// A container that could not be started at all: no such program, no permission to run it.
fn of_start(pod: &PodView) -> Option<End> {
    let failed = |container: &&Container| {
        let ended = container.state.terminated.as_ref();
        let reason = ended.and_then(|ended| ended.reason.as_deref());
        matches!(reason, Some("StartError" | "ContainerCannotRun"))
    };
    let container = pod.status.container_statuses.iter().find(failed)?;
    let message = container.state.terminated.as_ref().and_then(|ended| ended.message.as_ref());
    let message = text(message);
    Some(End::new(
        InfraKind::Configuration,
        format!("{} could not be started: {message}", called(&container.name)),
        format!("pod {}: container {} did not start: {message}", pod.name(), container.name),
    ))
}

/// The helper, and with it the agent, is gone, and nothing above says why.
fn of_helper(pod: &PodView, sighting: &Sighting) -> Option<End> {
    if !sighting.helper_over || sighting.verdict.is_some() {
        return None;
    }
    let ended = pod.container(HELPER)?.state.terminated.as_ref()?;
    let reason = text(ended.reason.as_ref());
    Some(End::new(
        InfraKind::System,
        format!(
            "{} ended with status {} before it could say how the job ended",
            called(HELPER),
            ended.exit_code
        ),
        format!(
            "pod {}: container helper {reason}, exit status {}, no verdict: {}",
            pod.name(),
            ended.exit_code,
            text(ended.message.as_ref())
        ),
    ))
}
