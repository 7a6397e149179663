//! Caches: names of objects, and who may ask for which.
//!
//! ```text
//!   planner ── CacheScope ──► Plan ──► agent ── CacheRequest ──► manager ──► CacheStore
//!                                        ▲                                       │
//!                                        └──────────── HttpTransfer ◄────────────┘
//! ```
//!
//! No cloud key enters a pod: the agent asks for one request at a time, when it needs it, and the
//! manager answers with an address that is good for this request only. Signing at the start of the
//! job, as GitLab Runner does, wastes requests on fallbacks that are never used, and such addresses
//! die with the manager's temporary credentials.
//!
//! Owns keys and the trait. Does not own stores (`runner-cache`) or archives (the agent).

mod key;

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use key::{CacheKey, KeyError, KeyForm, sanitize};

use crate::job::Job;
use crate::plan::HttpTransfer;
use crate::secret::Secret;

/// Bytes of every part of an object that is handed over in parts, except the last one, which is shorter (or as
/// long). S3 wants at least 5 MiB and takes 10,000 parts: 78 GiB, more than any archive may unpack to.
pub const PART: u64 = 8 << 20;
/// Most parts of an object.
pub const MOST_PARTS: u32 = 10_000;

/// How a store takes objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uploads {
    /// In one request, which says at its beginning how long the object is.
    #[default]
    Whole,
    /// In parts as well ([`CacheAction::Begin`] and what follows it), so that nobody has to keep the whole object.
    Parts,
}

impl Uploads {
    fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

/// What a job may reach in a store: the objects of its own project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheScope {
    /// What the names of all its objects begin with, without a `/` at the end.
    pub prefix: String,
    /// Proves to any manager of the same runner that one of them has set this scope. An agent that
    /// was taken over cannot make a scope of its own.
    pub grant: Secret,
    /// How the store takes objects.
    #[serde(default, skip_serializing_if = "Uploads::is_whole")]
    pub uploads: Uploads,
}

/// A request of the agent's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRequest {
    /// As in the plan.
    pub scope: CacheScope,
    /// The object's name below the scope.
    pub object: String,
    /// What for.
    pub action: CacheAction,
    /// How long the address has to be good.
    pub lasts: Duration,
}

/// What the agent wants to do with an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CacheAction {
    /// Fetch it.
    Get,
    /// See whether it is there.
    Head,
    /// Replace it.
    Put {
        /// Bytes.
        length: u64,
        /// The key as people know it, kept with the object.
        key: String,
    },
    /// Begin to replace it in parts. The store's answer (XML, as S3 has it) names the upload.
    Begin {
        /// The key as people know it, kept with the object.
        key: String,
    },
    /// Hand over a part. The answer's `ETag` is wanted at the end.
    Part {
        /// Which upload.
        upload: String,
        /// From 1 to [`MOST_PARTS`].
        number: u32,
        /// Bytes: [`PART`], or fewer for the last one.
        length: u64,
    },
    /// Put the parts together; the body lists them.
    Finish {
        /// Which upload.
        upload: String,
    },
    /// Throw the parts away.
    Abandon {
        /// Which upload.
        upload: String,
    },
}

/// Why a store does not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CacheError {
    /// Whether asking again may help.
    pub kind: CacheErrorKind,
    /// What happened, for the operator.
    pub message: String,
    /// The cause, where there is one.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Kinds of [`CacheError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheErrorKind {
    /// No answer, or "not now".
    Unavailable,
    /// Never.
    Refused,
}

impl CacheError {
    /// An error of this kind.
    pub fn new(kind: CacheErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same with its cause.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// A place for caches that all managers of a runner share.
///
/// ```
/// use async_trait::async_trait;
/// use runner_core::cache::{
///     CacheAction, CacheError, CacheErrorKind, CacheRequest, CacheScope, CacheStore, Uploads,
/// };
/// use runner_core::job::Job;
/// use runner_core::plan::HttpTransfer;
///
/// struct Bucket {
///     url: String,
/// }
///
/// impl Bucket {
///     /// Only managers can make it. (A real one is a keyed hash of the prefix.)
///     fn grant(&self, prefix: &str) -> String {
///         format!("granted: {prefix}")
///     }
/// }
///
/// #[async_trait]
/// impl CacheStore for Bucket {
///     fn scope(&self, job: &Job) -> CacheScope {
///         let prefix = format!("project/{}", job.project.id);
///         CacheScope { grant: self.grant(&prefix).into(), prefix, uploads: Uploads::Whole }
///     }
///
///     async fn sign(&self, request: &CacheRequest) -> Result<HttpTransfer, CacheError> {
///         let CacheScope { prefix, grant, .. } = &request.scope;
///         if grant.expose() != self.grant(prefix) || request.object.contains("..") {
///             return Err(CacheError::new(CacheErrorKind::Refused, "this scope is not ours"));
///         }
///         let method = match &request.action {
///             CacheAction::Get => "GET",
///             CacheAction::Head => "HEAD",
///             CacheAction::Put { .. } => "PUT",
///             _ => return Err(CacheError::new(CacheErrorKind::Refused, "objects come whole")),
///         };
///         let url = format!("{}/{prefix}/{}", self.url, request.object);
///         Ok(HttpTransfer::new(method, url, request.lasts))
///     }
/// }
/// ```
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait CacheStore: Send + Sync + 'static {
    /// What this job may reach.
    fn scope(&self, job: &Job) -> CacheScope;

    /// Makes the request that the agent may send. It is called for any request that comes out of a
    /// pod, so the scope's grant has to be checked.
    ///
    /// # Errors
    /// `Refused` when the scope is not one of [`scope`](CacheStore::scope)'s or the name leads out of
    /// it; `Unavailable` when there are no credentials to sign with now.
    async fn sign(&self, request: &CacheRequest) -> Result<HttpTransfer, CacheError>;
}
