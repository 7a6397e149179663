//! Containers beside helper and build.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Containers beside the job's own: what is waited for before the job begins, and what is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companions {
    /// The containers.
    #[serde(default)]
    pub services: Vec<ServicePlan>,
    /// How long the job waits for all ports together; then it goes on with a warning. `None`: as
    /// long as its own deadlines allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Duration>,
    /// The services' own output is part of the trace (`CI_DEBUG_SERVICES`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub logs: bool,
    /// What the executor hears about the whole pod is part of the trace, see [`POD_EVENTS`]
    /// (`FF_PRINT_POD_EVENTS`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub events: bool,
}

/// The name under which an executor hands in what it hears about the whole pod, as if a container had
/// printed it. No container can have it.
pub const POD_EVENTS: &str = "#events";

impl Companions {
    /// Whether there is nothing to do about any of them.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A container beside the job's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// The container's name, as the executor speaks of it.
    pub name: String,
    /// Its name in the trace: image without tag, and aliases.
    pub title: String,
    /// Ports of localhost that must take connections before the job begins.
    #[serde(default)]
    pub ports: Vec<u16>,
}
