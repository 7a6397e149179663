//! How a job ended. There is no success by default: only `Exited(0)` is one.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::Offset;

/// How a job, or one of its stages, ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The last command exited with this status, as `waitpid` told it.
    Exited(i32),
    /// A process was ended by this signal.
    Signalled(i32),
    /// A deadline passed.
    TimedOut(TimeLimit),
    /// Somebody cancelled the job.
    Cancelled,
    /// Not the job's doing, or not its commands': see the cause.
    Infra(Infra),
    /// Nobody knows. It counts as a system failure.
    Unknown,
}

impl Outcome {
    /// Whether the job did what it should. Only `Exited(0)` did.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited(0))
    }

    /// How bad this is when two observers disagree; the worst one wins.
    ///
    /// A clean exit is the mildest; "nobody knows" is worse than any known failure of the script,
    /// and a known infrastructure failure explains more than "nobody knows".
    #[must_use]
    pub fn severity(&self) -> u8 {
        match self {
            Self::Exited(0) => 0,
            Self::Exited(_) => 1,
            Self::Signalled(_) => 2,
            Self::TimedOut(_) => 3,
            Self::Cancelled => 4,
            Self::Unknown => 5,
            Self::Infra(_) => 6,
        }
    }
}

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeLimit {
    /// The whole job's.
    Job(Duration),
    /// That of one stage, or of stages that share one.
    Stage(Duration),
}

/// A failure that is not the exit status of the job's commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Infra {
    /// What kind of failure, for the source's failure reason.
    pub kind: InfraKind,
    /// What happened and what to do, in the words of the job's author. It ends up in the job's log.
    pub message: String,
    /// Exit code that the source is told, where the failure has one. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

impl Infra {
    /// A failure of this kind with a message for the job's author.
    pub fn new(kind: InfraKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), exit_code: None }
    }

    /// The same with an exit code.
    #[must_use]
    pub fn with_exit_code(self, code: i32) -> Self {
        Self { exit_code: Some(code), ..self }
    }
}

impl fmt::Display for Infra {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// Kinds of [`Infra`] failures. They decide what the source is told, and so what it retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum InfraKind {
    /// The cluster, a node or the runner: evicted, out of memory, node lost, deleted by someone.
    System,
    /// The job asks for something that cannot be: no such image, a refused setting.
    Configuration,
    /// An image could not be pulled for a reason that is not known better.
    ImagePull,
    /// A registry or another service that is not ours did not answer.
    ExternalDependency,
    /// The runner or the node was told to stop.
    Interrupted,
}

/// Length and checksum of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceSummary {
    /// Bytes.
    pub length: Offset,
    /// CRC-32 (IEEE) of all of them.
    pub crc32: u32,
}

impl TraceSummary {
    /// The summary of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { length: Offset(bytes.len() as u64), crc32: crc32fast::hash(bytes) }
    }

    /// The summary of this trace with another one appended.
    #[must_use]
    pub fn then(self, other: Self) -> Self {
        let mut hasher = crc32fast::Hasher::new_with_initial_len(self.crc32, self.length.0);
        hasher.combine(&crc32fast::Hasher::new_with_initial_len(other.crc32, other.length.0));
        Self { length: Offset(self.length.0 + other.length.0), crc32: hasher.finalize() }
    }
}

/// What one stage came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// The stage's name, e.g. `get_sources`.
    pub name: String,
    /// When it began, in milliseconds since the Unix epoch by the pod's clock.
    pub started_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// What the agent writes down when the job is over, and the only proof that it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How the job ended.
    pub outcome: Outcome,
    /// The whole trace of the pod, so that a reader knows when it has everything.
    pub trace: TraceSummary,
    /// The stages that ran, in order.
    pub stages: Vec<StageReport>,
}

#[cfg(test)]
mod tests {
    use super::{Infra, InfraKind, Outcome, TraceSummary};

    #[test]
    fn only_exit_status_zero_is_a_success() {
        assert!(Outcome::Exited(0).is_success());
        for outcome in [
            Outcome::Exited(1),
            Outcome::Signalled(9),
            Outcome::Cancelled,
            Outcome::Unknown,
            Outcome::Infra(Infra::new(InfraKind::System, "evicted")),
        ] {
            assert!(!outcome.is_success(), "{outcome:?}");
            assert!(outcome.severity() > Outcome::Exited(0).severity());
        }
    }

    #[test]
    fn summaries_add_up_like_the_bytes_they_describe() {
        let whole = TraceSummary::of(b"hello world");
        assert_eq!(TraceSummary::of(b"hello").then(TraceSummary::of(b" world")), whole);
        assert_eq!(TraceSummary::default().then(whole), whole);
        assert_eq!(whole.then(TraceSummary::default()), whole);
    }
}
