//! The text that a shell runs for one list of the user's commands.
//!
//! Owns: the skeleton around the commands (options, trap, exports, echo), quoting, and reading what
//! a job wrote into `$GITLAB_ENV`. Does not own: finding a shell, starting it, its streams and its
//! end; that is the agent's. Used by the agent, in the container where the commands run.
//!
//! ```text
//!   Script + variables ─┐
//!   $GITLAB_ENV ─ env_file::parse ─┴─► compose ──► text ──► bash | dash | busybox sh
//! ```

mod compose;
pub mod env_file;
mod powershell;
mod quote;

#[cfg(test)]
mod tests;

pub use compose::{Composition, ENV_FILE, JobStatus, ShellKind, compose};
pub use quote::{quote, quote_into};
