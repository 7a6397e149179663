//! Whole jobs: the GitLab stand-in, the ordinary manager, the Kubernetes executor, the agent in pods.
//!
//! On the simulated cluster; on a real one when `PODWRIGHT_E2E_KUBECONFIG` is set (see
//! `docs/real-cluster.md`). What only one of them can show says so when it is left out.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]
#![expect(clippy::print_stderr, reason = "a test that was not run must say so")]

mod bad_input;
mod bad_payload;
mod caches;
mod cancel;
mod conformance;
mod entrypoints;
mod golden;
mod helper;
mod hostile;
mod hostile_agent;
mod identity;
mod images;
mod leaks;
mod limit;
mod many;
mod namespaces;
mod orphans;
mod outages;
mod overhead;
mod pause;
mod place;
mod pod_ends;
mod process;
mod processes;
mod releases;
mod requests;
mod secrets;
mod services;
mod settings;
mod siege;
mod sources;
mod summary;
mod takeover;
mod trace;
mod verdicts;
mod warm;
mod world;
