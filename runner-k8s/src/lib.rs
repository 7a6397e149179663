//! Runs each job in a Kubernetes pod of its own.
//!
//! ```text
//!   KubernetesExecutor ── reserve ──► record (Secret)          what survives every manager
//!          │                └─ start ─► pod                    built by a pure function
//!          ├─ one watch for all pods ──► classify ──┐
//!          └─ JobHandle ◄── machine (pure) ◄────────┴── stream to the agent
//! ```

mod announce;
mod availability;
mod capacity;
pub mod classify;
pub mod client;
mod credentials;
mod executor;
pub mod job;
pub mod names;
mod orphans;
pub mod overwrites;
pub mod pause;
pub mod pod;
mod prepare;
mod presence;
mod preview;
pub mod record;
pub mod schedule;
pub mod settings;
mod shared_secret;
pub mod stream;
mod sweep;
mod warm;
pub mod watch;

pub use capacity::{NoRoom, RoomCounts};
pub use executor::KubernetesExecutor;
pub use names::RunnerIdentity;
pub use preview::{Preview, preview};
pub use settings::{KubernetesSettings, RawSettings};
pub use shared_secret::{SecretContents, SharedSecretError, shared_secret};
