//! As much of a pod as its fate needs. A pod with ten services is some hundred kilobytes as a typed
//! object; this is some hundred bytes, and it knows fields that are newer than the typed one.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use crate::names::{JOB_LABEL, MANAGER_LABEL, WARM_LABEL};

/// A pod, stripped.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct PodView {
    /// Name, uid, labels, deletion; the rest is stripped by the watch.
    pub metadata: ObjectMeta,
    /// Where it runs, and which containers may start again.
    pub spec: PodSpecView,
    /// What the kubelet and others say.
    pub status: PodStatusView,
}

/// See [`PodView::spec`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpecView {
    /// Where it runs.
    pub node_name: Option<String>,
    /// The containers.
    pub containers: Vec<ContainerSpec>,
    /// The volumes.
    pub volumes: Vec<VolumeSpec>,
}

/// Of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerSpec {
    /// Name.
    pub name: String,
    /// Present where the server knows restart rules and kept them.
    pub restart_policy_rules: Option<serde::de::IgnoredAny>,
}

/// Of a volume.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct VolumeSpec {
    /// Name.
    pub name: String,
    /// Present where the server knows image volumes and kept it.
    pub image: Option<serde::de::IgnoredAny>,
}

/// See [`PodView::status`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatusView {
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: String,
    /// `Evicted`, `DeadlineExceeded`, …
    pub reason: Option<String>,
    /// In words.
    pub message: Option<String>,
    /// `PodScheduled`, `DisruptionTarget`, …
    pub conditions: Vec<Condition>,
    /// In the API's order, which is by name.
    pub container_statuses: Vec<Container>,
    /// In order.
    pub init_container_statuses: Vec<Container>,
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: Option<String>,
    /// Why, in words.
    pub message: Option<String>,
    /// Since when, to a second.
    #[serde(rename = "lastTransitionTime")]
    pub since: Option<Time>,
}

/// The status of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// Name.
    pub name: String,
    /// Image as the kubelet knows it; before it runs, as the pod says.
    pub image: String,
    /// What it does now.
    pub state: ContainerState,
    /// What it did before it was started again.
    pub last_state: ContainerState,
    /// How often it was started again.
    pub restart_count: u32,
}

/// One of three, or nothing yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// Not yet, or not again.
    pub waiting: Option<Waiting>,
    /// It runs.
    pub running: Option<Empty>,
    /// It has ended.
    pub terminated: Option<Terminated>,
}

/// Fields that nobody needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Empty {}

/// Why a container waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// `ContainerCreating`, `ErrImagePull`, …
    pub reason: Option<String>,
    /// In words.
    pub message: Option<String>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Terminated {
    /// Exit status, 128 + signal for a signal.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, …
    pub reason: Option<String>,
    /// The end of the termination message.
    pub message: Option<String>,
}

/// Labels that somebody looks at.
const KEPT: [&str; 3] = [JOB_LABEL, MANAGER_LABEL, WARM_LABEL];

impl PodView {
    /// Its uid; empty for an object that is none.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether no node takes it (yet).
    pub fn waits_for_node(&self) -> bool {
        let refused =
            |condition: &Condition| condition.kind == "PodScheduled" && condition.status == "False";
        self.status.phase == "Pending" && self.status.conditions.iter().any(refused)
    }

    /// Whether it has a node.
    pub fn is_placed(&self) -> bool {
        self.spec.node_name.as_deref().is_some_and(|node| !node.is_empty())
            || self.scheduled().is_some()
    }

    /// Since when, to a second.
    pub fn placed_at(&self) -> Option<jiff::Timestamp> {
        Some(self.scheduled()?.since.as_ref()?.0)
    }

    fn scheduled(&self) -> Option<&Condition> {
        let is_it =
            |condition: &&Condition| condition.kind == "PodScheduled" && condition.status == "True";
        self.status.conditions.iter().find(is_it)
    }

    /// The status of this container.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.status.container_statuses.iter().find(|container| container.name == name)
    }

    /// Whether this container may be started again by a restart rule.
    pub fn may_restart(&self, name: &str) -> bool {
        let mut all = self.spec.containers.iter();
        all.any(|spec| spec.name == name && spec.restart_policy_rules.is_some())
    }

    /// Whether it is some job's.
    pub fn has_job(&self) -> bool {
        self.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(JOB_LABEL))
    }

    /// Whether it has ended and was nobody's then: a warm pod gets the job's labels before its plan.
    pub fn ended_without_job(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed") && !self.has_job()
    }

    /// Drops what the executor never looks at, before it is kept.
    pub fn strip(&mut self) {
        let metadata = &mut self.metadata;
        metadata.managed_fields = None;
        metadata.annotations = None;
        metadata.owner_references = None;
        metadata.finalizers = None;
        if let Some(labels) = &mut metadata.labels {
            labels.retain(|key, _| KEPT.contains(&key.as_str()));
        }
        self.spec.volumes = Vec::new();
        self.spec.containers.retain(|spec| spec.restart_policy_rules.is_some());
    }
}

impl kube::Resource for PodView {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
