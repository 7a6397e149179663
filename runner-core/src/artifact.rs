//! Where archives of jobs are kept.

use async_trait::async_trait;

use crate::job::{Artifact, Dependency, Job};
use crate::plan::Transfer;
use crate::source::{SourceError, Ticket};

/// Gives the agent in the pod somewhere to put archives and to get them from.
///
/// The answers go into the job's plan, so the agent can do the transfer without a manager.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait ArtifactStore: Send + Sync + 'static {
    /// Where this archive of this job goes. `None`: the store takes none; the job does without.
    ///
    /// # Errors
    /// When the store cannot be asked; the job fails as an infrastructure failure.
    async fn upload(
        &self,
        job: &Job,
        ticket: &Ticket,
        artifact: &Artifact,
    ) -> Result<Option<Transfer>, SourceError>;

    /// Where the archive of an earlier job comes from.
    ///
    /// # Errors
    /// When the store cannot be asked; the job fails as an infrastructure failure.
    async fn download(
        &self,
        job: &Job,
        ticket: &Ticket,
        dependency: &Dependency,
    ) -> Result<Transfer, SourceError>;
}
