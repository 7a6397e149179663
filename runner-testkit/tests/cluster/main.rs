//! The simulated cluster behaves as its documentation and the recordings of a real one say.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod answers;
mod exec;
mod faults;
mod kube_client;
mod lifecycle;
mod load;
mod role;
mod spdy;
mod support;
mod volumes;
mod watches;
