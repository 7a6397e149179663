//! `config.toml`: reading it, saying what is wrong with it, changing it, watching it.
//!
//! ```text
//!   shape + raw     what keys there are          read: text ─► walk ─► raw ─► Config + Findings
//!   schema          the same for editors         edit: text ─► text, comments and $VAR kept
//!   watch           the file has changed         diff: what has, and what needs a restart
//! ```
//!
//! All mistakes are collected and reported together, each with its key and line, so that an operator
//! mends five of them in one go.

mod diff;
mod duration;
mod edit;
mod findings;
mod kubernetes;
mod lines;
mod raw;
mod raw_ignored;
mod read;
mod resolved;
mod schema;
mod shape;
mod walk;
mod watch;

pub(crate) use diff::{Change, diff};
pub(crate) use edit::{Document, EditError, save};
pub(crate) use findings::{Findings, Severity};
pub(crate) use read::{Reading, Surroundings, read};
pub(crate) use resolved::{
    Config, LogFormat, LogLevel, OnTerminate, Renewed, RunnerConfig, TlsFiles,
};
pub(crate) use schema::{effective, schema};
pub(crate) use watch::FileWatch;

#[cfg(test)]
mod tests;
