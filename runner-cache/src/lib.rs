//! Caches in S3, Google Cloud Storage and Azure: requests that the agent in a pod may send, signed by
//! the manager.
//!
//! ```text
//!   ObjectCache (CacheStore) ── scope, names ──► Bucket { S3 | Gcs | Azure } ── reqsign ──► HttpTransfer
//! ```
//!
//! ```
//! use runner_cache::{Bucket, CacheSettings, ObjectCache, S3Login, S3Settings};
//!
//! # fn main() -> Result<(), runner_core::cache::CacheError> {
//! # let _ = rustls::crypto::ring::default_provider().install_default();
//! let cache = ObjectCache::new(CacheSettings {
//!     path: "ci".into(),
//!     shared: false,
//!     short_token: "mine".into(),     // this runner's caches are apart from others'
//!     grant_key: "a secret of all managers of the runner".into(),
//!     max_archive: 5 << 30,           // bytes
//!     bucket: Bucket::S3(S3Settings {
//!         server: "s3.example:9000".into(),
//!         insecure: false,
//!         bucket: "caches".into(),
//!         region: Some("us-east-1".into()),
//!         login: S3Login::Iam,        // what the process finds: environment, web identity, instance
//!         encryption: None,
//!         dual_stack: false,
//!         path_style: Some(true),
//!         accelerate: false,
//!         role: None,
//!         upload_role: None,
//!     }),
//! })?;
//! // runner.cache = Some(Arc::new(cache));
//! # drop(cache);
//! # Ok(())
//! # }
//! ```
//!
//! There are no features.
//!
//! Owns names of objects (equal to GitLab Runner's, so that both share one bucket during a migration),
//! endpoints, headers and credentials. Does not transfer anything: that is the agent's, with the
//! addresses made here.

mod azure;
mod gcs;
mod metadata;
mod names;
mod net;
mod s3;
mod settings;
mod store;

pub use settings::{
    AzureSettings, Bucket, CacheSettings, Encryption, GcsLogin, GcsSettings, S3Login, S3Settings,
};
pub use store::ObjectCache;
