//! Artifacts: what is packed, what is fetched, and over which requests.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::JobId;
use crate::job::ArtifactFormat;
use crate::secret::Secret;

/// An archive to fetch and unpack into the project directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// The job that made it, for messages.
    pub job: JobId,
    /// That job's name.
    pub name: String,
    /// Bytes, as the source says.
    pub size: u64,
    /// Where from.
    pub from: Transfer,
}

/// An archive to pack and hand over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Name without extension.
    pub name: String,
    /// What it is to the source: `archive`, `junit`, …, for messages.
    pub kind: String,
    /// Globs relative to the project directory.
    pub paths: Vec<String>,
    /// Globs of what stays out.
    pub exclude: Vec<String>,
    /// Also everything git does not track.
    pub untracked: bool,
    /// How it is packed.
    pub format: ArtifactFormat,
    /// Where to.
    pub to: Transfer,
    /// A statement of where it comes from goes into it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// What a provenance statement says beside names and digests of files
/// (`RUNNER_GENERATE_ARTIFACTS_METADATA`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The runner's number at the source.
    pub runner_id: String,
    /// Its name.
    pub runner_name: String,
    /// `kubernetes`.
    pub executor: String,
    /// The repository, without credentials and `.git`.
    pub repository: String,
    /// The commit.
    pub sha: String,
    /// The job's name.
    pub job_name: String,
    /// Names of the job's variables; never their values.
    pub variables: Vec<String>,
    /// URL of the page that says what such a statement means.
    pub build_type: String,
    /// Version of the runner.
    pub builder_version: String,
}

/// Where an archive comes from or goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Transfer {
    /// The agent talks to this address itself.
    Http(HttpTransfer),
}

/// A request that the agent makes on the source's behalf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpTransfer {
    /// `GET`, `PUT` or `POST`.
    pub method: String,
    /// Address with query; it may be presigned, hence secret.
    pub url: Secret,
    /// Headers, e.g. `JOB-TOKEN`. Never sent to another origin when a redirect leads there.
    pub headers: Vec<(String, Secret)>,
    /// How an upload's body looks.
    pub body: HttpBody,
    /// PEM of a CA to trust in addition to the system's.
    #[serde(default)]
    pub tls_ca: Option<String>,
    /// Longest time for one try.
    pub timeout: Duration,
}

impl HttpTransfer {
    /// A request without headers whose body, where it has one, is the archive itself.
    pub fn new(method: impl Into<String>, url: impl Into<Secret>, timeout: Duration) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: HttpBody::Raw,
            tls_ca: None,
            timeout,
        }
    }

    /// The same with one more header.
    ///
    /// ```
    /// use std::time::Duration;
    /// use runner_core::plan::{HttpTransfer, Transfer};
    ///
    /// let put = HttpTransfer::new("PUT", "https://store.example/7", Duration::from_secs(600));
    /// let put = Transfer::Http(put.header("authorization", "Bearer t0k3n"));
    /// ```
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// The shape of an upload's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpBody {
    /// The archive itself.
    Raw,
    /// `multipart/form-data` with one part of this name that holds the archive.
    Multipart {
        /// Name of the part.
        field: String,
    },
}
