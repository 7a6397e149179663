//! An executor that runs plans as local processes.
//!
//! ```text
//!   manager ── Processes ── Follower ─┐   record, plan, stop   ┌─ supervisor ── sh
//!                                     └──►  JOB'S DIRECTORY  ◄─┘
//!   the next manager ─────────────────┘    trace, end, group
//! ```
//!
//! What an executor owes its manager is kept by files, so that no process has to live:
//!
//! * a job is **written down** before the source hears of it (`record`, `plan`);
//! * it **runs by itself**: a [`supervise`]d job outlives the manager that started it;
//! * it runs **once**: only one process can make the file `trace`;
//! * its log is read **from any offset**, as often as it takes;
//! * it has ended when a verdict says so (`end`); no supervisor and no verdict is
//!   [`Outcome::Unknown`](runner_core::outcome::Outcome::Unknown), never a success;
//! * whoever **lost** a job (`epoch`) is told so when it writes.
//!
//! Nothing isolates jobs from this machine or from each other, and jobs with sources, artifacts or
//! caches are refused: see `runner-agent` for the program that can do all of that.

mod executor;
mod follower;
mod record;
mod supervisor;
mod watch;

pub use executor::Processes;
pub use supervisor::supervise;
