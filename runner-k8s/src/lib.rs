//! Runs each job in a Kubernetes pod of its own.
//!
//! ```text
//!   KubernetesExecutor ── reserve ──► record (Secret)          what survives every manager
//!          │                └─ start ─► pod                    built by a pure function
//!          ├─ one watch for all pods ──► classify ──┐
//!          └─ JobHandle ◄── machine (pure) ◄────────┴── stream to the agent
//! ```
//!
//! # With a source of your own
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use runner_core::manager::{Manager, Runner};
//! use runner_core::source::JobSource;
//! use runner_k8s::{KubernetesExecutor, KubernetesSettings, RawSettings, RunnerIdentity};
//!
//! # async fn example(source: Arc<dyn JobSource>) -> Result<(), Box<dyn std::error::Error>> {
//! // Once for each process, before anything speaks TLS.
//! let _ = rustls::crypto::ring::default_provider().install_default();
//! let settings = KubernetesSettings::resolve(&RawSettings {
//!     namespace: "ci".into(),
//!     image: "debian:13".into(),                                 // of jobs that name none
//!     helper_image: "debian:13".into(),                          // with git, for jobs with sources
//!     agent_image: "registry.example/podwright-agent:0.1.0".into(), // `podwright agent image` makes it
//!     ..RawSettings::default()
//! })?;
//! let identity = RunnerIdentity::new(source.id(), "mine");
//! // The kubeconfig's cluster, or in a pod its own.
//! let executor = KubernetesExecutor::connect(settings, identity).await?;
//! let (manager, stop) = Manager::new(10);
//! manager.runner(Runner::new("mine", source, Arc::new(executor))).run().await;
//! # drop(stop);
//! # Ok(())
//! # }
//! ```
//!
//! The settings are GitLab Runner's `[runners.kubernetes]` under the same names, all optional. The role that the
//! account needs is in the repository's README. [`preview`] shows a job's pod without a cluster, and
//! `runner_testkit::cluster` is a cluster for tests.
//!
//! There are no features.

// `#[doc(hidden)]`: open to the tests, benches and fuzz targets of this workspace, which look inside; no version promises
// anything about those modules.
mod announce;
mod availability;
mod capacity;
#[doc(hidden)]
pub mod classify;
pub mod client;
mod credentials;
mod executor;
#[doc(hidden)]
pub mod job;
pub mod names;
mod orphans;
#[doc(hidden)]
pub mod overwrites;
pub mod pause;
#[doc(hidden)]
pub mod pod;
mod prepare;
mod presence;
mod preview;
#[doc(hidden)]
pub mod record;
pub mod schedule;
pub mod settings;
mod shared_secret;
#[doc(hidden)]
pub mod stream;
mod sweep;
mod warm;
#[doc(hidden)]
pub mod watch;

pub use capacity::{NoRoom, RoomCounts};
pub use executor::KubernetesExecutor;
pub use names::RunnerIdentity;
pub use pod::Fallbacks;
pub use preview::{Preview, preview};
pub use settings::{KubernetesSettings, RawSettings};
pub use shared_secret::{SecretContents, SharedSecretError, shared_secret};
