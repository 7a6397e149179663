//! Pause pods: pods that do nothing, at a lower priority than any job, so that there is room when a job
//! comes. Owns a Deployment for each manager; which nodes there are is the cluster autoscaler's
//! business.
//!
//! ```text
//!   policies, time, jobs ──► Scaler (pure) ──► keeper ──► Deployment ──► pause pods
//!                                                              ▲ preempted by a job's pod, made again
//! ```

mod deployment;
mod keeper;
mod numbers;
mod scale;

pub(crate) use keeper::PausePods;
pub use numbers::{Numbers, PauseNumbers};
