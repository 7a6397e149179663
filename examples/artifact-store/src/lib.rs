//! Archives of jobs, in a [`directory`] and in a [`bucket`].
//!
//! A store is asked when a job is planned and answers with a request that the agent in the pod sends
//! by itself. The manager that asked may be gone by then, so nothing about the request is remembered:
//! it proves by its signature that a manager has made it.

pub mod bucket;
pub mod directory;

use runner_core::ids::JobId;
use runner_core::job::Artifact;

/// Name of an archive. A job may have several, of different kinds, and each has a place of its own.
fn name(job: JobId, kind: &str) -> String {
    // The kind comes from the job's author: nothing but letters leads out of the directory.
    let kind: String = kind.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{job}-{kind}")
}

/// The kind of an archive that a later job fetches: those that people asked for by `artifacts:`.
const ARCHIVE: &str = "archive";

/// What is stored under which kind.
fn kind(artifact: &Artifact) -> &str {
    if artifact.kind.is_empty() { ARCHIVE } else { &artifact.kind }
}
