//! Servers to test a job source or an executor against, and ways to hurt them.
//!
//! * [`gitlab`]: a stand-in for GitLab's side of the runner API.
//! * [`fault`]: a TCP proxy that breaks connections on purpose, for any server.
//!
//! Nothing here is needed at run time by the other crates.

pub mod fault;
pub mod gitlab;
pub mod local;
