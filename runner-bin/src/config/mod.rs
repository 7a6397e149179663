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

mod cache;
mod diff;
mod duration;
mod edit;
mod findings;
mod kubernetes;
mod lines;
mod monitoring;
mod raw;
mod raw_cache;
mod raw_ignored;
mod read;
mod resolved;
mod schema;
mod shape;
mod walk;
mod watch;

pub(crate) use diff::{Change, diff};
pub(crate) use duration::GoDuration;
pub(crate) use edit::{Document, EditError, save};
pub(crate) use findings::Severity;
pub(crate) use monitoring::QueueTimes;
pub(crate) use read::{Reading, Surroundings, read};
pub(crate) use resolved::{
    Config, LogFormat, LogLevel, OnTerminate, Renewed, RunnerConfig, SessionServerConfig,
};
pub(crate) use schema::{effective, schema};
pub(crate) use watch::FileWatch;

/// Reads a text with this process's environment and files around it.
pub(crate) fn read_from_environment(text: &str) -> Reading {
    let surroundings = Surroundings {
        variable: &|name| std::env::var(name).ok(),
        file: &|path| std::fs::read_to_string(path),
    };
    read(text, &surroundings)
}

/// What an empty file means.
pub(crate) fn empty() -> Reading {
    let nothing = |_: &std::path::Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    read("", &Surroundings { variable: &|_| None, file: &nothing })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_docs;
#[cfg(test)]
mod tests_kubernetes;
