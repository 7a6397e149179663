//! One job: from its record to the last byte of its trace.
//!
//! ```text
//!   Handle (JobHandle) ── commands ──► actor (task) ── inputs ──► Machine (pure)
//!       ▲                                 ▲  │                        │
//!       └──────────── events ─────────────│──┴──── actions ◄──────────┘
//!                                         ├── pod watch
//!                                         └── stream to the agent
//! ```
//!
//! Owns how pod, stream and verdict together become events. Does not own where pods come from
//! ([`crate::pod`]) nor what their states mean ([`crate::classify`]).

mod access;
mod actor;
mod door;
mod events;
mod exchange;
mod handle;
mod hearing;
mod launch;
mod link;
mod listen;
mod machine;
#[cfg(test)]
mod machine_tests;
mod milestones;
mod shared;
mod start;
mod warnings;

pub(crate) use access::Access;
pub(crate) use door::{PodDoor, Whereabouts};
pub use handle::KubernetesJob;
pub(crate) use launch::Launched;
pub use link::{AgentLink, Connect, ExecConnector, LinkError};
pub(crate) use shared::{HeldJobs, Pause, Shared, Warm};
