//! `config.toml` as it is written: every key optional, nothing checked but its type.

use std::collections::BTreeMap;

use runner_core::secret::Secret;
use serde::Deserialize;

/// The whole file. Keys and defaults are GitLab Runner's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawConfig {
    pub(crate) concurrent: Option<i64>,
    pub(crate) check_interval: Option<i64>,
    pub(crate) log_level: Option<String>,
    pub(crate) log_format: Option<String>,
    pub(crate) runners: Vec<RawRunner>,
}

/// One `[[runners]]` entry.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawRunner {
    pub(crate) name: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) clone_url: Option<String>,
    pub(crate) token: Option<Secret>,
    #[serde(rename = "tls-ca-file")]
    pub(crate) tls_ca_file: Option<String>,
    pub(crate) limit: Option<i64>,
    pub(crate) executor: Option<String>,
    pub(crate) output_limit: Option<i64>,
    pub(crate) environment: Vec<String>,
    pub(crate) builds_dir: Option<String>,
    pub(crate) cache_dir: Option<String>,
    pub(crate) pre_build_script: Option<String>,
    pub(crate) post_build_script: Option<String>,
    pub(crate) debug_trace_disabled: Option<bool>,
    pub(crate) feature_flags: BTreeMap<String, bool>,
    /// Left as it is: `runner-k8s` knows these keys.
    pub(crate) kubernetes: Option<toml::Table>,
}
