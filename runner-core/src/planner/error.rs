//! Why there is no plan for a job.

use super::inputs::InputError;
use super::variables::{MAX_EXPANDED, TooLong};
use crate::outcome::{Infra, InfraKind};

/// Why a job cannot be planned. The messages are for the job's author.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The source handed out a job that must not run.
    #[error("{}", .0.message)]
    Refused(Infra),
    /// A text of the job cannot be made.
    #[error("the job's inputs cannot be used: {0}")]
    Inputs(#[from] InputError),
    /// `GIT_CLONE_PATH` where the runner does not allow it.
    #[error("setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature")]
    ClonePathForbidden,
    /// `GIT_CLONE_PATH` that leads elsewhere.
    #[error("the GIT_CLONE_PATH={path:?} is not within {builds:?}")]
    ClonePathOutside {
        /// What it says, expanded and cut to a readable length.
        path: String,
        /// The builds root.
        builds: String,
    },
    /// References that blow up: a few hundred bytes of `$A$A$A` can ask for gigabytes.
    #[error(
        "the job's variables are longer than {MAX_EXPANDED} bytes once references are replaced; \
         shorten them or refer to large ones only once"
    )]
    TooLong(#[from] TooLong),
    /// A cache's `policy` that is none.
    #[error("unknown cache policy {policy} for {key}")]
    CachePolicy {
        /// What it says, expanded and cut to a readable length.
        policy: String,
        /// The cache's key.
        key: String,
    },
    /// The caller did not bring a transfer for each archive.
    #[error("the runner planned {found} transfers for {expected} archives; this is its mistake")]
    Transfers {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

impl PlanError {
    /// How the job ends because of it.
    #[must_use]
    pub fn infra(&self) -> Infra {
        let kind = match self {
            Self::Refused(infra) => return infra.clone(),
            Self::Inputs(_)
            | Self::ClonePathForbidden
            | Self::ClonePathOutside { .. }
            | Self::TooLong(_) => InfraKind::Configuration,
            Self::CachePolicy { .. } | Self::Transfers { .. } => InfraKind::System,
        };
        Infra::new(kind, self.to_string())
    }
}
