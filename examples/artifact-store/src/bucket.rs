//! Archives in a bucket of S3 or of anything that speaks its protocol.

use async_trait::async_trait;
use http::Request;
use reqsign_aws_v4::{Credential, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use runner_core::artifact::ArtifactStore;
use runner_core::job::{Artifact, Dependency, Job};
use runner_core::plan::{HttpTransfer, Transfer};
use runner_core::secret::Secret;
use runner_core::source::{SourceError, SourceErrorKind, Ticket};

use crate::{ARCHIVE, kind, name};

/// Where the bucket is, and who may write to it.
#[derive(Clone, Debug)]
pub struct BucketSettings {
    /// The bucket's own address, e.g. `https://s3.eu-central-1.amazonaws.com/my-bucket`.
    pub url: String,
    /// Its region; `us-east-1` for servers without regions.
    pub region: String,
    /// Access key.
    pub access_key: String,
    /// The key's secret. It signs here and never enters a pod.
    pub secret_key: Secret,
}

/// Signs addresses of single objects.
pub struct BucketStore {
    url: String,
    signer: Signer<Credential>,
}

impl BucketStore {
    /// A store in this bucket.
    pub fn new(settings: &BucketSettings) -> Self {
        let BucketSettings { url, region, access_key, secret_key } = settings;
        let key = StaticCredentialProvider::new(access_key, secret_key.expose());
        // The context would send requests and read files for other kinds of credentials.
        let signer = Signer::new(Context::new(), key, RequestSigner::new("s3", region));
        Self { url: url.trim_end_matches('/').to_owned(), signer }
    }

    async fn signed(
        &self,
        method: &str,
        object: &str,
        job: &Job,
    ) -> Result<Transfer, Box<dyn std::error::Error + Send + Sync>> {
        let request = Request::builder().method(method).uri(format!("{}/{object}", self.url));
        let mut parts = request.body(())?.into_parts().0;
        // The archive goes at the job's end, which its timeout bounds. Amazon's limit is a week.
        self.signer.sign(&mut parts, Some(job.timeout)).await?;
        Ok(Transfer::Http(HttpTransfer::new(method, parts.uri.to_string(), job.timeout)))
    }
}

fn unsigned(error: Box<dyn std::error::Error + Send + Sync>) -> SourceError {
    let message = "cannot sign a request to the bucket; look at its URL and the key";
    SourceError::new(SourceErrorKind::Unavailable, message).caused_by(error)
}

#[async_trait]
impl ArtifactStore for BucketStore {
    async fn upload(
        &self,
        job: &Job,
        _ticket: &Ticket,
        artifact: &Artifact,
    ) -> Result<Option<Transfer>, SourceError> {
        let object = name(job.id, kind(artifact));
        self.signed("PUT", &object, job).await.map(Some).map_err(unsigned)
    }

    async fn download(
        &self,
        job: &Job,
        _ticket: &Ticket,
        dependency: &Dependency,
    ) -> Result<Transfer, SourceError> {
        let object = name(dependency.id, ARCHIVE);
        self.signed("GET", &object, job).await.map_err(unsigned)
    }
}
