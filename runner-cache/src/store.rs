//! The cache store of a runner.

use std::time::Duration;

use async_trait::async_trait;
use http::header::HOST;
use http::request::Parts;
use http::{Method, Request};
use reqsign_core::{Context, Error, ErrorKind, Result as SignResult};
use runner_core::cache::{
    CacheAction, CacheError, CacheErrorKind, CacheRequest, CacheScope, CacheStore, MOST_PARTS,
    PART, Uploads,
};
use runner_core::job::Job;
use runner_core::plan::{HttpBody, HttpTransfer};
use runner_core::secret::Secret;

use crate::azure::Azure;
use crate::gcs::Gcs;
use crate::names::{is_granted, object, scope};
use crate::s3::S3;
use crate::settings::{Bucket, CacheSettings};
use crate::{net, settings};

/// Shortest and longest life of an address: a clock that is a little off must not kill it, and Amazon
/// and Google sign for a week at most.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Largest object that one PUT may bring: Amazon's and Google's 5 GiB; Azure's is a little less.
const LARGEST_PUT: u64 = 5 << 30;
const LARGEST_AZURE_PUT: u64 = 5000 << 20;

/// What is done with an object.
#[derive(Debug)]
pub(crate) enum Ask<'a> {
    Get,
    Head,
    Put {
        key: &'a str,
    },
    /// A step of an upload in parts.
    Step(Step<'a>),
}

/// What S3 calls a multipart upload.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Begin { key: &'a str },
    Part { upload: &'a str, number: u32 },
    Finish { upload: &'a str },
    Abandon { upload: &'a str },
}

/// What a store says that takes whole objects only.
pub(crate) fn whole_only() -> Error {
    Error::request_invalid("this cache server takes archives as a whole only")
}

/// Caches in a bucket.
pub struct ObjectCache {
    settings: CacheSettings,
    backend: Backend,
}

enum Backend {
    S3(Box<S3>),
    Gcs(Box<Gcs>),
    Azure(Box<Azure>),
}

impl std::fmt::Debug for ObjectCache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ObjectCache")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl ObjectCache {
    /// A store with these settings and the credentials of this process. Nothing is asked of anybody
    /// yet.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(settings: CacheSettings) -> Result<Self, CacheError> {
        let client = net::client().map_err(|error| {
            CacheError::new(CacheErrorKind::Refused, "the HTTP client cannot be set up")
                .caused_by(error)
        })?;
        let context = net::context(client.clone());
        Ok(Self::with_context(settings, context, client))
    }

    fn with_context(settings: CacheSettings, context: Context, client: reqwest::Client) -> Self {
        let backend = match settings.bucket.clone() {
            Bucket::S3(s3) => Backend::S3(Box::new(S3::new(s3, context, client))),
            Bucket::Gcs(gcs) => {
                Backend::Gcs(Box::new(Gcs::new(gcs, settings.max_archive, context)))
            }
            Bucket::Azure(azure) => Backend::Azure(Box::new(Azure::new(azure, context))),
        };
        Self { settings, backend }
    }

    /// Whether an archive that reaches to the end of this part is not too large.
    fn takes_part(&self, number: u32, length: u64) -> bool {
        let before = u64::from(number.saturating_sub(1)) * PART;
        (1..=MOST_PARTS).contains(&number)
            && length <= PART
            && (self.settings.max_archive == 0 || before + length <= self.settings.max_archive)
    }

    /// Largest archive that can be handed over in one request.
    fn largest(&self) -> u64 {
        let largest = match self.settings.bucket {
            settings::Bucket::Azure(_) => LARGEST_AZURE_PUT,
            _ => LARGEST_PUT,
        };
        match self.settings.max_archive {
            0 => largest,
            limit => largest.min(limit),
        }
    }
}

#[async_trait]
impl CacheStore for ObjectCache {
    fn scope(&self, job: &Job) -> CacheScope {
        let uploads = match self.settings.bucket {
            Bucket::S3(_) => Uploads::Parts,
            // Google's and Azure's ways are others, and there is no real server to try them with: an archive
            // waits in the pod's file system there until it is whole.
            Bucket::Gcs(_) | Bucket::Azure(_) => Uploads::Whole,
        };
        CacheScope { uploads, ..scope(&self.settings, job) }
    }

    async fn sign(&self, request: &CacheRequest) -> Result<HttpTransfer, CacheError> {
        let refused = |message: &str| CacheError::new(CacheErrorKind::Refused, message);
        if !is_granted(&self.settings, &request.scope) {
            return Err(refused("the scope was not granted by a manager of this runner"));
        }
        let object = object(&request.scope, &request.object)
            .ok_or_else(|| refused("the object's name leads out of its scope"))?;
        let ask = match &request.action {
            CacheAction::Get => Ask::Get,
            CacheAction::Head => Ask::Head,
            CacheAction::Put { length, .. } if *length > self.largest() => {
                return Err(refused("the archive is larger than one request can bring"));
            }
            CacheAction::Put { key, .. } => Ask::Put { key },
            CacheAction::Begin { key } => Ask::Step(Step::Begin { key }),
            CacheAction::Part { upload, number, length } => {
                if !self.takes_part(*number, *length) {
                    return Err(refused("the archive is larger than this store takes"));
                }
                Ask::Step(Step::Part { upload, number: *number })
            }
            CacheAction::Finish { upload } => Ask::Step(Step::Finish { upload }),
            CacheAction::Abandon { upload } => Ask::Step(Step::Abandon { upload }),
            _ => return Err(refused("this store does not know what to do with that request")),
        };
        let lasts = request.lasts.clamp(SHORTEST, LONGEST);
        let signed = match &self.backend {
            Backend::S3(s3) => s3.sign(&object, &ask, lasts).await,
            Backend::Gcs(gcs) => gcs.sign(&object, &ask, lasts).await,
            Backend::Azure(azure) => azure.sign(&object, &ask, lasts).await,
        };
        let parts = signed.map_err(not_signed)?;
        // The host follows from the address. All headers are ours and visible ASCII.
        let headers = parts.headers.iter().filter(|(name, _)| **name != HOST);
        let headers = headers.filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), Secret::new(value.to_str().ok()?)))
        });
        Ok(HttpTransfer {
            method: parts.method.to_string(),
            url: Secret::new(parts.uri.to_string()),
            headers: headers.collect(),
            body: HttpBody::Raw,
            tls_ca: None,
            timeout: lasts,
        })
    }
}

/// A request to be signed.
pub(crate) fn parts(
    method: Method,
    address: &str,
    headers: Vec<(&'static str, String)>,
) -> SignResult<Parts> {
    let mut request = Request::builder().method(method).uri(address);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(()).map_err(|error| {
        Error::config_invalid("the cache server's address cannot be used").with_source(error)
    })?;
    Ok(request.into_parts().0)
}

fn not_signed(error: Error) -> CacheError {
    let kind = match error.kind() {
        ErrorKind::ConfigInvalid | ErrorKind::RequestInvalid => CacheErrorKind::Refused,
        // Credentials may come: a role that is being set up, a metadata server that starts.
        _ => CacheErrorKind::Unavailable,
    };
    CacheError::new(kind, "a request to the cache server cannot be signed").caused_by(error)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
