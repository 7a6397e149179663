//! `[runners.cache]` as it is written.

use runner_core::secret::Secret;

use super::shape::settings;

settings! {
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
        "AssumeRoleMaxConcurrency" assume_role_max_concurrency: Option<i64>
            [ignored("a role is taken on once an hour for all caches of a runner")];
        /// Ask for each archive.
        "DisableAssumeRoleCredentialsCaching" disable_assume_role_credentials_caching: Option<bool>
            [ignored("no credentials leave the manager, so there is no reason to ask for new ones")];
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
