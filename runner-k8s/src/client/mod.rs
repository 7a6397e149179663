//! Connections to the API server.
//!
//! Two clients from one configuration: requests have a deadline, streams do not. kube's own stack is
//! not used, because it sets neither `TCP_NODELAY` nor keepalive nor a user timeout, and repeats
//! requests that must not be repeated.

mod build;
mod count;
mod health;
mod streams;

pub use build::{ClientError, Clients};
pub use count::{RequestCounts, RequestKind};
pub(crate) use health::ApiHealth;
pub use streams::StreamCounts;
