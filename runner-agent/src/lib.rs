//! The program that runs a job inside its pod, as a library.
//!
//! ```text
//!   helper container                           build container
//!   ┌──────────────────────────────┐           ┌──────────────────────┐
//!   │ supervise (PID 1)            │  unix     │ serve (PID 1)        │
//!   │   stages: git, archives      │◄─────────►│   the user's scripts │
//!   │   Recorder: pipeline, spool, │  socket   └──────────────────────┘
//!   │             journal          │
//!   │   sessions ◄── relay ◄───────┼── a manager
//!   └──────────────────────────────┘
//! ```
//!
//! Nothing here knows Kubernetes.

pub mod archive;
pub mod asks;
pub mod beneath;
pub mod builder;
pub mod cli;
pub mod clock;
pub mod companions;
pub mod control;
pub mod disruption;
#[cfg(feature = "image")]
pub mod image;
pub mod journal;
mod launch;
pub mod link;
pub mod plan_file;
pub mod process;
pub mod recorder;
pub mod relay;
pub mod serve;
pub mod session;
pub mod spool;
pub mod stages;
pub mod standing;
pub mod summary;
pub mod supervise;
pub mod terminal;
pub mod usage;
pub mod waiting;
mod words;
