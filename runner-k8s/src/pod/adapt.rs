//! A pod for clusters that cannot do everything.

use serde_json::{Value, json};

use super::containers::{HELPER, init};
use super::volumes::AGENT;
use super::{Abilities, AgentDelivery};

/// First minor version of Kubernetes 1 in which image volumes are on by default.
const IMAGE_VOLUMES: u32 = 35;
/// The same for restart rules of containers.
const RESTART_RULES: u32 = 35;

impl Abilities {
    /// What a server of this version (`1`, `36`) should be able to do.
    pub fn of_version(major: &str, minor: &str) -> Self {
        // Providers append to it: `34+`, `35-gke.1`.
        let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
        let minor = minor[..digits].parse().unwrap_or(0);
        let minor: u32 = if major == "1" { minor } else { u32::MAX };
        let agent = match minor >= IMAGE_VOLUMES {
            true => AgentDelivery::ImageVolume,
            false => AgentDelivery::InitContainer,
        };
        Self { agent, restart_rules: minor >= RESTART_RULES }
    }
}

/// Takes out what the cluster cannot do. Works on a finished pod, because a pod that was written
/// down by one manager may be created by another one that knows more about the cluster.
pub fn adapt(pod: &mut Value, abilities: Abilities, init_security: &Value) {
    let spec = &mut pod["spec"];
    if !abilities.restart_rules {
        for container in spec["containers"].as_array_mut().into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container.remove("restartPolicyRules");
                container.remove("restartPolicy");
            }
        }
    }
    if abilities.agent == AgentDelivery::ImageVolume {
        return;
    }
    let mut image = Value::Null;
    for volume in spec["volumes"].as_array_mut().into_iter().flatten() {
        if volume["name"] == json!(AGENT) && volume.get("image").is_some() {
            image = volume["image"].take();
            *volume = json!({ "name": AGENT, "emptyDir": {} });
        }
    }
    if image.is_null() {
        return;
    }
    let resources = spec["containers"]
        .as_array()
        .and_then(|all| all.iter().find(|container| container["name"] == json!(HELPER)))
        .map_or(Value::Null, |helper| helper["resources"].clone());
    let container = init(&image["reference"], &image["pullPolicy"], init_security, &resources);
    // First: what patches of the settings added may need it, and never the other way round.
    match spec["initContainers"].as_array_mut() {
        Some(others) => others.insert(0, container),
        None => spec["initContainers"] = json!([container]),
    }
}
