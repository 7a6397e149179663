//! A simulated Kubernetes cluster: the API over real HTTP, with containers that are local processes.
//!
//! It is a stand-in, made to satisfy recordings of a real cluster's answers (`recordings/`). It serves
//! what a client needs that runs a pod for each job: pods, secrets, config maps, watches, exec and
//! attach over websockets and SPDY, logs, access reviews, and one service account's rules; and it can
//! be hurt in the ways in which real clusters hurt.
//!
//! ```text
//!   client ──► server ──► api ──► store ──► watch ──► client
//!                          │        ▲ status
//!                          ▼        │
//!                      kubelet::pod ┴──► container ──► process (namespaces, or plain)
//! ```
//!
//! What it **cannot** prove, and what therefore needs a real cluster: users and groups of containers,
//! security contexts and pod security standards, cgroups (limits, real OOM kills, real evictions), the
//! contents of images (every container sees the host's programs), separate networks (all pods share
//! the host's, so two pods cannot listen on one port), TLS, schedulers and webhooks of their own.
//! An evicted, OOM-killed or lost pod here is one that was told to be.

mod api;
mod controllers;
mod counts;
mod faults;
mod handle;
mod hurt;
mod kinds;
mod kubelet;
mod line;
mod logs;
mod memory;
mod rbac;
mod refusal;
mod route;
mod scripted;
mod scripted_agent;
mod selector;
mod server;
mod settings;
mod shared;
mod start;
mod store;
mod stream;
mod validate;
mod watch;

pub use self::counts::{Leftovers, Requests};
pub use self::faults::{Fault, RandomDrops, RequestFilter};
pub use self::handle::{Cluster, StartClusterError};
pub use self::hurt::NoSuchPod;
pub use self::rbac::Rule;
pub use self::scripted::{ScriptedExec, ScriptedIo, ScriptedProgram, ScriptedStart};
pub use self::scripted_agent::scripted_agent;
pub use self::settings::{ClusterSettings, ImageSpec, Isolation, Pull};

/// The name of the one node.
const NODE: &str = "simulated-node";
