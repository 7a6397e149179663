//! GitLab as a store of artifacts: the requests that the agent makes on a job's behalf.

use async_trait::async_trait;
use runner_core::artifact::ArtifactStore;
use runner_core::job::{Artifact, ArtifactFormat, Dependency, Job};
use runner_core::plan::{HttpBody, HttpTransfer, Transfer};
use runner_core::secret::Secret;
use runner_core::source::{SourceError, Ticket};

use crate::source::GitLabSource;
use crate::ticket::JobTicket;

/// The header of a job's token, as GitLab writes it.
const JOB_TOKEN: &str = "JOB-TOKEN";

#[async_trait]
impl ArtifactStore for GitLabSource {
    async fn upload(
        &self,
        job: &Job,
        ticket: &Ticket,
        artifact: &Artifact,
    ) -> Result<Option<Transfer>, SourceError> {
        let token = JobTicket::open(ticket, self.base())?.token;
        let format = match artifact.format {
            ArtifactFormat::Zip => "zip",
            ArtifactFormat::Gzip => "gzip",
            ArtifactFormat::Raw => "raw",
            ArtifactFormat::ZipZstd => "zipzstd",
            ArtifactFormat::TarZstd => "tarzstd",
        };
        let query = [
            ("expire_in", artifact.expire_in.as_deref().unwrap_or_default()),
            ("artifact_format", format),
            ("artifact_type", artifact.kind.as_str()),
        ];
        Ok(Some(Transfer::Http(HttpTransfer {
            method: "POST".to_owned(),
            url: Secret::new(self.base().artifacts(job.id, &query)),
            headers: vec![(JOB_TOKEN.to_owned(), token)],
            body: HttpBody::Multipart { field: "file".to_owned() },
            tls_ca: self.tls_ca(),
            timeout: self.timeouts().upload,
        })))
    }

    async fn download(
        &self,
        _job: &Job,
        _ticket: &Ticket,
        dependency: &Dependency,
    ) -> Result<Transfer, SourceError> {
        let query = [("direct_download", "true")];
        Ok(Transfer::Http(HttpTransfer {
            method: "GET".to_owned(),
            url: Secret::new(self.base().artifacts(dependency.id, &query)),
            headers: vec![(JOB_TOKEN.to_owned(), dependency.token.clone())],
            body: HttpBody::Raw,
            tls_ca: self.tls_ca(),
            timeout: self.timeouts().download,
        }))
    }
}
