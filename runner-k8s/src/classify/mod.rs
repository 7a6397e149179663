//! What the state of a pod, or a refusal of the API server, means for the job. Pure.
//!
//! Two audiences: [`Infra`](runner_core::outcome::Infra) speaks to the job's author, `detail` to the
//! operator. Nothing here is ever a success: only the agent's verdict can say that.

mod end;
mod pod;
mod pull;
mod refusal;

pub use end::{End, Whole, worst};
pub use pod::{Sighting, sight};
pub use pull::{FailedPull, PullPhase, is_pull_failure, pull_kind};
pub use refusal::{ApiErrorKind, api_error, executor_error};
