//! GitLab Runner's commands beside `run`: same flags, same exit codes, and its words where scripts
//! read them.

mod file;
mod flag_table;
mod flags;
mod pod;
mod register;
mod reset_token;
mod run_single;
mod small;
mod unregister;
mod verify;

pub(crate) use file::ConfigFile;
pub(crate) use pod::PodPreview;
pub(crate) use register::Register;
pub(crate) use reset_token::ResetToken;
pub(crate) use run_single::{Limits, RunSingle};
pub(crate) use small::{HealthCheck, Lint, List, Status};
pub(crate) use unregister::Unregister;
pub(crate) use verify::Verify;
