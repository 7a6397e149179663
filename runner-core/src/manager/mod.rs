//! The manager: takes jobs from sources, gives them to executors, and passes trace and verdict on.
//!
//! A manager holds nothing that cannot be had again: plan, trace and verdict are with the job, the
//! ticket and what the manager itself said are in the executor's record of it. It may die at any
//! moment, and the next one goes on.
//!
//! ```text
//!   Roster ──► Manager ─┬─ Dispatch (rules: whose turn) ──► poll ──► JobTask ─┐
//!                       └─ Adopters (one an executor) ────────────► JobTask ─┼─► Follower: Rhythm (when)
//!                                                                            │   + TraceRelay (what)
//!                                                                            │   + Courier (to the source)
//!                                                                            └─► dispose
//! ```
mod adopter;
mod asks;
mod backoff;
mod courier;
mod dispatch;
#[cfg(test)]
mod dispatch_tests;
mod follow;
mod job;
#[expect(clippy::module_inception, reason = "the manager is what this module is about")]
mod manager;
mod never_started;
mod numbers;
mod observer;
mod requests;
mod roster;
mod runner;
mod secrets;
mod settings;
mod shares;
mod shutdown;
mod trace_relay;
mod turn;
mod visit;
mod voice;

pub use manager::Manager;
pub use observer::{
    JobFacts, JobLabel, JobUpdate, NoObserver, Observer, RequestCounts, RunnerLabel, RunnerUpdate,
};
pub use roster::{Control, Roster};
pub use runner::{AfterJob, RequestPace, Runner};
pub use settings::{KeepAlivePace, RelaySettings};
pub use shutdown::{StopHandle, StopLevel};
