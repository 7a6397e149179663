//! Tables that are read, so that mistakes in them are found, and of which little or nothing is obeyed.

use std::collections::BTreeMap;

use super::duration::GoDuration;
use super::shape::settings;

settings! {
    /// `[experimental.usage_logger]`
    struct RawUsageLogger {
        /// Whether.
        "enabled" enabled: Option<bool>;
        /// Where to.
        "writers" writers: Vec<String>;
        /// Files.
        "logrotate" logrotate: Option<toml::Table>;
        /// A vendor's collector.
        "snowplow_billing" snowplow_billing: Option<toml::Table>;
        /// Deprecated form.
        "log_dir" log_dir: Option<String>;
        /// Deprecated form.
        "max_backup_files" max_backup_files: Option<i64>;
        /// Deprecated form.
        "max_rotation_age" max_rotation_age: Option<GoDuration>;
        /// In each record.
        "labels" labels: BTreeMap<String, String>;
    }

    /// `[runners.referees]`
    struct RawReferees {
        /// Prometheus.
        "metrics" metrics: Option<toml::Table>;
    }
}
