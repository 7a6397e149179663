//! Child processes: starting them, reaping them (and, as init, everybody's orphans), ending them.
//!
//! tokio's own `process` is not used: it waits for its children one by one, and a program that is
//! PID 1 has to reap what it never started.

mod descendants;
mod kin;
mod output;
mod reaper;

pub use descendants::{
    become_reaper_of_descendants, group_is_empty, has_visitors, kill_everything, signal_group,
};
pub(crate) use kin::is_own_child;
pub use output::{Ended, Piped, Spawned, spawn_piped, spawn_quiet};
pub use reaper::{ExitStatus, Reaper};

/// Makes other processes of the same user unable to trace this one or to read its memory through
/// `/proc`. A program started later with `exec` is dumpable again.
///
/// # Errors
/// Never on Linux, in practice: the call has no way to fail with these arguments.
pub fn protect_memory() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
