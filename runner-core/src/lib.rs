//! The domain of Podwright: what a job is, how it becomes a plan, how its log is made, and the loop
//! that takes jobs from a source and brings them to an end.
//!
//! Data flows one way:
//!
//! ```text
//!   JobSource ──Offer──► planner ──Plan──► Executor ──JobEvent──► manager ──trace, verdict──► JobSource
//! ```
//!
//! Nothing here knows GitLab, Kubernetes or HTTP.

pub mod artifact;
pub mod cache;
pub mod executor;
pub mod glob;
pub mod ids;
pub mod job;
pub mod layout;
pub mod log;
pub mod manager;
#[cfg(any(test, feature = "mocks"))]
pub mod mocks;
pub mod outcome;
pub mod plan;
pub mod planner;
pub mod secret;
pub mod secrets;
pub mod session;
pub mod shell;
pub mod source;
pub mod wire;
