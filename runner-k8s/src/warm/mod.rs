//! Warm pods: pods that run before there is a job for them, with an agent that waits for a plan. Each
//! does one job and goes with it.
//!
//! Owns how many there are and what they look like. That a pod has one job only is kept twice: the job's
//! record names the pod, conflict-checked, before the plan is handed over, and the agent takes one plan.
//!
//! ```text
//!   settings, jobs seen ──► Shape ──► Pool (pure) ──► keeper ──► pods (label podwright.dev/warm)
//!                             ▲ equal?   │ take
//!   a job's own pod ──────────┘          └──► the job: record, labels, plan over the stream
//! ```

mod keeper;
mod orphans;
mod pool;
mod shape;
mod template;

pub(crate) use keeper::{WarmPool, delete};
pub(crate) use orphans::Orphans;
pub(crate) use pool::{Idle, Pool};
pub(crate) use shape::Shape;
pub(crate) use template::first_shape;
