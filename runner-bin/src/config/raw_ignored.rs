//! Tables that are read, so that mistakes in them are found, and of which little or nothing is obeyed.

use std::collections::BTreeMap;

use runner_core::secret::Secret;

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

    /// `[runners.monitoring]`
    struct RawMonitoring {
        /// How long jobs may wait in the queue, by time of day.
        "job_queuing_durations" job_queuing_durations: Vec<RawQueuingDuration>
            [ignored("`gitlab_runner_acceptable_job_queuing_duration_exceeded_total` stays 0; alert on the histogram of queue durations")];
    }

    /// `[[runners.monitoring.job_queuing_durations]]`
    struct RawQueuingDuration {
        /// Cron expressions.
        "periods" periods: Vec<String>;
        /// Their time zone.
        "timezone" timezone: Option<String>;
        /// How long.
        "threshold" threshold: Option<GoDuration>;
        /// For which jobs.
        "jobs_running_for_project" jobs_running_for_project: Option<String>;
    }

    /// `[runners.experimental]`
    struct RawRunnerExperimental {
        /// A job at start, to see whether jobs can run.
        "boot_verify" boot_verify: Option<RawBootVerify>
            [ignored("no job is run at start; the first job's failure says the same")];
    }

    /// `[runners.experimental.boot_verify]`
    struct RawBootVerify {
        /// Whether.
        "enabled" enabled: Option<bool>;
        /// Longest time.
        "timeout" timeout: Option<GoDuration>;
        /// Back-off.
        "acquire_min_backoff" acquire_min_backoff: Option<GoDuration>;
        /// Back-off.
        "acquire_max_backoff" acquire_max_backoff: Option<GoDuration>;
    }

    /// `[runners.referees]`
    struct RawReferees {
        /// Prometheus.
        "metrics" metrics: Option<toml::Table>;
    }

    /// `[runners.cache]`
    struct RawCache {
        /// `s3`, `gcs` or `azure`.
        "Type" kind: Option<String>;
        /// Prefix of all keys.
        "Path" path: Option<String>;
        /// Runners share the cache.
        "Shared" shared: Option<bool>;
        /// Largest archive, in bytes. 0: any.
        "MaxUploadedArchiveSize" max_uploaded_archive_size: Option<i64>;
        /// S3.
        "s3" s3: Option<RawS3>;
        /// Google.
        "gcs" gcs: Option<RawGcs>;
        /// Azure.
        "azure" azure: Option<RawAzure>;
    }

    /// `[runners.cache.s3]`
    struct RawS3 {
        /// Host and port.
        "ServerAddress" server_address: Option<String>;
        /// Key.
        "AccessKey" access_key: Option<Secret>;
        /// Key.
        "SecretKey" secret_key: Option<Secret>;
        /// Token.
        "SessionToken" session_token: Option<Secret>;
        /// Bucket.
        "BucketName" bucket_name: Option<String>;
        /// Region.
        "BucketLocation" bucket_location: Option<String>;
        /// Plain HTTP.
        "Insecure" insecure: Option<bool>;
        /// How to log in.
        "AuthenticationType" authentication_type: Option<String> [one_of(&["access-key", "iam"])];
        /// Encryption.
        "ServerSideEncryption" server_side_encryption: Option<String>;
        /// Encryption.
        "ServerSideEncryptionKeyID" server_side_encryption_key_id: Option<String>;
        /// IPv4 and IPv6.
        "DualStack" dual_stack: Option<bool>;
        /// Bucket in the path.
        "PathStyle" path_style: Option<bool>;
        /// Transfer acceleration.
        "Accelerate" accelerate: Option<bool>;
        /// Role to assume.
        "RoleARN" role_arn: Option<String>;
        /// Role to assume for uploads.
        "UploadRoleARN" upload_role_arn: Option<String>;
        /// Requests for a role at once.
        "AssumeRoleMaxConcurrency" assume_role_max_concurrency: Option<i64>;
        /// Ask for each archive.
        "DisableAssumeRoleCredentialsCaching" disable_assume_role_credentials_caching: Option<bool>;
    }

    /// `[runners.cache.gcs]`
    struct RawGcs {
        /// Account.
        "AccessID" access_id: Option<String>;
        /// Key.
        "PrivateKey" private_key: Option<Secret>;
        /// File with both.
        "CredentialsFile" credentials_file: Option<String>;
        /// Bucket.
        "BucketName" bucket_name: Option<String>;
        /// Domain of the API.
        "UniverseDomain" universe_domain: Option<String>;
    }

    /// `[runners.cache.azure]`
    struct RawAzure {
        /// Account.
        "AccountName" account_name: Option<String>;
        /// Key.
        "AccountKey" account_key: Option<Secret>;
        /// Container.
        "ContainerName" container_name: Option<String>;
        /// Domain.
        "StorageDomain" storage_domain: Option<String>;
    }
}
