//! What the agent does with caches.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::HeaderLine;
use crate::cache::{CacheKey, CacheScope};

/// The caches of a job that a stage works on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStage<T> {
    /// What the job may reach in the store; `None`: there is only the cache directory.
    pub scope: Option<CacheScope>,
    /// Longest time for each, waiting for a manager included (`CACHE_REQUEST_TIMEOUT`).
    pub limit: Duration,
    /// In this order.
    pub caches: Vec<T>,
}

/// A cache to restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreCache {
    /// What the author should know first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<HeaderLine>,
    /// The key and its fallbacks; the first that can be had counts. Empty: only the notices.
    pub keys: Vec<CacheKey>,
    /// Globs of what is in it.
    pub paths: Vec<String>,
    /// Also everything git does not track.
    pub untracked: bool,
    /// Remove what the globs match when the archive turns out broken
    /// (`FF_CLEAN_UP_FAILED_CACHE_EXTRACT`).
    #[serde(default)]
    pub clean_up: bool,
}

/// A cache to archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveCache {
    /// What the author should know first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<HeaderLine>,
    /// Its key. `None`: only the notices.
    pub key: Option<CacheKey>,
    /// Globs of what goes in.
    pub paths: Vec<String>,
    /// Also everything git does not track.
    pub untracked: bool,
    /// Largest archive that is sent to the store, in bytes; 0: no limit.
    #[serde(default)]
    pub limit: u64,
}
