//! Caches in S3, Google Cloud Storage and Azure: requests that the agent in a pod may send, signed by
//! the manager.
//!
//! ```text
//!   ObjectCache (CacheStore) ── scope, names ──► Bucket { S3 | Gcs | Azure } ── reqsign ──► HttpTransfer
//! ```
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
