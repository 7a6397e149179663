//! Where archives of jobs are kept.

use async_trait::async_trait;

use crate::job::{Artifact, Dependency, Job};
use crate::plan::Transfer;
use crate::source::{SourceError, Ticket};

/// Gives the agent in the pod somewhere to put archives and to get them from.
///
/// The answers go into the job's plan, so the agent can do the transfer without a manager: maybe hours
/// later, and after the manager is gone. They have to be good for as long as the job may take.
///
/// ```
/// use async_trait::async_trait;
/// use runner_core::artifact::ArtifactStore;
/// use runner_core::job::{Artifact, Dependency, Job};
/// use runner_core::plan::{HttpTransfer, Transfer};
/// use runner_core::source::{SourceError, Ticket};
///
/// struct Shelf {
///     url: String,
/// }
///
/// #[async_trait]
/// impl ArtifactStore for Shelf {
///     async fn upload(
///         &self,
///         job: &Job,
///         _ticket: &Ticket,
///         artifact: &Artifact,
///     ) -> Result<Option<Transfer>, SourceError> {
///         let url = format!("{}/{}/{}", self.url, job.id, artifact.kind);
///         Ok(Some(Transfer::Http(HttpTransfer::new("PUT", url, job.timeout))))
///     }
///
///     async fn download(
///         &self,
///         job: &Job,
///         _ticket: &Ticket,
///         dependency: &Dependency,
///     ) -> Result<Transfer, SourceError> {
///         let url = format!("{}/{}/archive", self.url, dependency.id);
///         Ok(Transfer::Http(HttpTransfer::new("GET", url, job.timeout)))
///     }
/// }
/// ```
///
/// `examples/artifact-store` has two that sign their requests.
///
/// # Cancel safety
/// The futures are dropped when the manager stops; the job is planned again by the next one.
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
