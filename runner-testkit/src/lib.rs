//! Servers to test a job source or an executor against, and ways to hurt them.
//!
//! * [`gitlab`]: a stand-in for GitLab's side of the runner API.
//! * [`cluster`]: a simulated Kubernetes cluster whose containers are local processes.
//! * [`fault`]: a TCP proxy that breaks connections on purpose, for any server.
//! * [`local`]: an executor that runs jobs as child processes.
//! * [`conformance`]: what sources, executors and artifact stores promise, as checks for your own.
//! * [`objects`]: a store of objects for caches, with faults.
//! * [`secrets`]: stand-ins for Vault and its like.
//!
//! ```
//! use runner_testkit::cluster::{Cluster, ClusterSettings};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::start(ClusterSettings::default())?;
//! // Your executor under test connects by this; `examples/queue-source` runs whole jobs so.
//! let kubeconfig = cluster.kubeconfig();
//! assert!(kubeconfig.contains("server: http://127.0.0.1:"));
//! # Ok(())
//! # }
//! ```
//!
//! Linux only. Features: `tls` (on), with which the GitLab stand-in can have a certificate.
//!
//! Nothing here is needed at run time by the other crates.

// For the chaos runs of this workspace; changes with them.
#[doc(hidden)]
pub mod chaos;
pub mod cluster;
pub mod conformance;
pub mod fault;
pub mod gitlab;
pub mod local;
pub mod objects;
pub mod secrets;
