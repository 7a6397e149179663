//! Settings of the executor: [`RawSettings`] is what is written, [`KubernetesSettings`] what it
//! means. Owns the rules of GitLab Runner's `[runners.kubernetes]`; knows nothing about jobs.
//!
//! ```text
//!   TOML ⇄ RawSettings ── resolve ──► KubernetesSettings      mistakes: all of them, with their keys
//!                          one file for each theme            warnings: odd, or without effect
//! ```

mod autoscaler;
mod camel;
mod connection;
mod contradictions;
mod gates;
mod images;
mod metadata;
mod mistakes;
mod network;
mod patches;
mod quantity;
pub mod raw;
mod resolved;
mod resources;
mod scheduling;
mod security;
mod services;
pub mod shape;
mod volumes;
mod warm;
mod without_effect;

pub use autoscaler::{Autoscaler, DEFAULT_PAUSE_CLASS, Policy};
pub use connection::Connection;
pub use gates::{Gate, Gates};
pub use images::{HelperImage, PullPolicy};
pub use mistakes::{SettingsError, SettingsErrors, SettingsWarning};
pub use patches::{PatchKind, PatchSource, PodPatch};
pub(crate) use quantity::is_zero as is_quantity_of_nothing;
pub use quantity::{Quantity, is_quantity};
pub use raw::{OneOrMany, RawSettings};
pub use resolved::{DEFAULT_POLL_TIMEOUT, KubernetesSettings};
pub use resources::{Ceiling, Consumer, Resources};
pub(crate) use resources::{Misfit, misfit};
pub(crate) use scheduling::EFFECTS;
pub use scheduling::Toleration;
pub use services::ServicesWait;
pub use volumes::{Volume, VolumeSource};
pub use warm::WarmPods;
pub use without_effect::without_effect;

pub use crate::schedule::Schedule;
