//! The objects of pause pods, as pure functions of the settings.

use serde_json::{Value, json};

use crate::names::{
    MANAGED_LABEL, MANAGER_LABEL, RunnerIdentity, SOURCE_LABEL, label_value, manager_hash,
    source_hash,
};
use crate::pod::scheduling;
use crate::settings::{Autoscaler, KubernetesSettings, Resources};

/// GitLab Runner's label of pause pods and their Deployment.
pub(crate) const PAUSE_LABEL: &str = "runner.gitlab.com/pause-pod";
/// GitLab Runner's sign that somebody looks after a Deployment.
pub(crate) const HEARTBEAT: &str = "runner.gitlab.com/pause-heartbeat";

/// The name of a manager's Deployment.
pub(crate) fn name(runner: &RunnerIdentity) -> String {
    format!("podwright-{}-pause-{}", source_hash(&runner.source), manager_hash(&runner.manager))
}

/// The Deployment. A pause pod asks for as much as a job's pod does: GitLab Runner's asks for the build
/// container's share only, so that the room is too small for the job (better).
pub(crate) fn deployment(
    settings: &KubernetesSettings,
    autoscaler: &Autoscaler,
    runner: &RunnerIdentity,
    replicas: u32,
    heartbeat: &str,
) -> Value {
    let selector = json!({
        PAUSE_LABEL: "true",
        "manager.runner.gitlab.com/id-short": label_value(&runner.short_token),
        "manager.runner.gitlab.com/system-id": label_value(&runner.manager),
    });
    let mut labels = selector.clone();
    for (key, value) in [
        (MANAGED_LABEL, "podwright".to_owned()),
        (SOURCE_LABEL, source_hash(&runner.source)),
        (MANAGER_LABEL, manager_hash(&runner.manager)),
    ] {
        labels[key] = value.into();
    }
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name(runner),
            "namespace": settings.namespace,
            "labels": labels,
            "annotations": { HEARTBEAT: heartbeat },
        },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": selector },
            "template": {
                "metadata": { "labels": selector },
                "spec": pod(settings, autoscaler),
            },
        },
    })
}

fn pod(settings: &KubernetesSettings, autoscaler: &Autoscaler) -> Value {
    let mut spec = scheduling(settings);
    if let Some(affinity) = &settings.affinity {
        spec.insert("affinity".into(), affinity.clone());
    }
    let whole = &settings.pod.requests;
    let mut containers = vec![container(autoscaler, "pause", &settings.build)];
    if !settings.helper.requests.is_empty() {
        containers.push(container(autoscaler, "pause-helper", &settings.helper));
    }
    if !settings.service.requests.is_empty() {
        containers.extend(
            (0..settings.services.len()).map(|index| {
                container(autoscaler, &format!("pause-svc-{index}"), &settings.service)
            }),
        );
    }
    if !whole.is_empty() {
        spec.insert("resources".into(), json!({ "requests": whole }));
    }
    let secrets = autoscaler.pull_secrets.iter().map(|name| json!({ "name": name }));
    spec.insert("imagePullSecrets".into(), secrets.collect());
    spec.insert("priorityClassName".into(), json!(autoscaler.priority_class));
    spec.insert("containers".into(), Value::Array(containers));
    // A job is waiting for the room.
    spec.insert("terminationGracePeriodSeconds".into(), json!(0));
    spec.insert("automountServiceAccountToken".into(), json!(false));
    Value::Object(spec)
}

fn container(autoscaler: &Autoscaler, name: &str, resources: &Resources) -> Value {
    let mut out = json!({
        "name": name,
        "image": autoscaler.image,
        // As little as namespaces with the restricted standard allow.
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "runAsNonRoot": true,
            "runAsUser": 65535,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
    });
    if !resources.requests.is_empty() {
        out["resources"] = json!({ "requests": resources.requests });
    }
    out
}

/// The class of pods that any other pod may push aside.
pub(crate) fn priority_class(name: &str) -> Value {
    json!({
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": { "name": name, "labels": { MANAGED_LABEL: "podwright" } },
        "value": -1,
        "globalDefault": false,
        "description": "Pods that keep room for jobs and go as soon as one needs it.",
    })
}
