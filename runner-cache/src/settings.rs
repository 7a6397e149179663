//! What there is to say about a cache server, checked.

use runner_core::secret::Secret;

/// `[runners.cache]`
#[derive(Clone, Debug, PartialEq)]
pub struct CacheSettings {
    /// Prefix of all objects. Default: none.
    pub path: String,
    /// All runners that use the bucket share their caches. Default: each has its own.
    pub shared: bool,
    /// First characters of the runner's token: what tells its caches from others' unless they are
    /// shared. GitLab Runner uses 9.
    pub short_token: String,
    /// What grants are made with: known to all managers of the runner and to nobody else. The runner's
    /// token will do; while it is being replaced, jobs that go from an old manager to a new one lose
    /// their caches.
    pub grant_key: Secret,
    /// Largest archive, in bytes; 0: any. The agent keeps to it; a Google bucket enforces it.
    pub max_archive: u64,
    /// Where.
    pub bucket: Bucket,
}

/// Where caches are kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Bucket {
    /// Amazon S3 or a server that speaks its protocol.
    S3(S3Settings),
    /// Google Cloud Storage.
    Gcs(GcsSettings),
    /// Azure Blob Storage.
    Azure(AzureSettings),
}

/// `[runners.cache.s3]`
#[derive(Clone, Debug, PartialEq)]
pub struct S3Settings {
    /// Host and port of the server; empty or `s3.amazonaws.com`: Amazon's.
    pub server: String,
    /// Plain HTTP. Default: false.
    pub insecure: bool,
    /// Name of the bucket.
    pub bucket: String,
    /// Region. `None`: the bucket is asked, once; `us-east-1` where it does not say.
    pub region: Option<String>,
    /// Who asks.
    pub login: S3Login,
    /// Encryption of new objects. Default: the bucket's.
    pub encryption: Option<Encryption>,
    /// Names with IPv6 addresses, Amazon only. Default: true.
    pub dual_stack: bool,
    /// The bucket's name in the path and not in the host. `None`: for all servers but Amazon's and
    /// Google's.
    pub path_style: Option<bool>,
    /// Amazon's transfer acceleration. Default: false.
    pub accelerate: bool,
    /// Role to take on for all requests.
    pub role: Option<String>,
    /// Role to take on for uploads; `role` wins.
    pub upload_role: Option<String>,
}

/// Who asks S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Login {
    /// Whoever the environment says: variables, files, web identity, container and instance roles.
    Iam,
    /// A key.
    Key {
        /// Its name.
        access: Secret,
        /// The key itself.
        secret: Secret,
        /// Token of a temporary key.
        session: Option<Secret>,
    },
}

/// `ServerSideEncryption`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// `S3`: with keys of the bucket's.
    S3,
    /// `KMS`: with this key, or the account's.
    Kms(Option<String>),
    /// `DSSE-KMS`: twice, with this key, or the account's.
    DsseKms(Option<String>),
}

/// `[runners.cache.gcs]`
#[derive(Clone, Debug, PartialEq)]
pub struct GcsSettings {
    /// Name of the bucket.
    pub bucket: String,
    /// Who asks.
    pub login: GcsLogin,
    /// Domain of the API. Default: `googleapis.com`.
    pub universe: String,
}

/// Who asks Google.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GcsLogin {
    /// Whoever the environment says; addresses are signed by the IAM service then.
    Default,
    /// A service account.
    Key {
        /// Its address.
        email: String,
        /// PEM of its key.
        key: Secret,
    },
    /// A file with one.
    File(String),
}

/// `[runners.cache.azure]`
#[derive(Clone, Debug, PartialEq)]
pub struct AzureSettings {
    /// Storage account.
    pub account: String,
    /// Its key. `None`: whoever the environment says, by a key that the account delegates.
    pub key: Option<Secret>,
    /// Container.
    pub container: String,
    /// Default: `blob.core.windows.net`.
    pub domain: String,
}
