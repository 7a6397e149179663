//! The manager: takes jobs from sources, gives them to executors, and passes trace and verdict on.
//!
//! A manager holds nothing that cannot be had again: plan, trace and verdict are with the job, the
//! ticket and what the manager itself said are in the executor's record of it. It may die at any
//! moment, and the next one goes on.
//!
//! ```text
//!   Manager ─┬─ RunnerLoop ─┬─ adopt ──► JobTask ─┐
//!            │  (one a      └─ poll ───► JobTask ─┼─► Follower: Rhythm (when) + TraceRelay (what)
//!            │   runner)                          │             + Courier (to the source)
//!            └─ …                                 └─► dispose
//! ```

mod backoff;
mod courier;
mod follow;
mod job;
#[expect(clippy::module_inception, reason = "the manager is what this module is about")]
mod manager;
mod never_started;
mod numbers;
mod observer;
mod runner;
mod settings;
mod shutdown;
mod slots;
mod trace_relay;
mod turn;
mod voice;

pub use manager::Manager;
pub use observer::{JobLabel, JobUpdate, NoObserver, Observer};
pub use runner::Runner;
pub use settings::RelaySettings;
pub use shutdown::{StopHandle, StopLevel};
