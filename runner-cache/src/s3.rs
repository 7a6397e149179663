//! S3: addresses, headers, credentials.

use std::time::Duration;

use http::Method;
use http::request::Parts;
use reqsign_aws_v4::{
    AssumeRoleCredentialProvider, Credential, DefaultCredentialProvider, RequestSigner,
    StaticCredentialProvider,
};
use reqsign_core::{Context, Result, Signer};
use runner_core::secret::Secret;
use tokio::sync::OnceCell;
use tracing::{debug, warn};

use crate::metadata;
use crate::names::{in_path, in_query};
use crate::settings::{Encryption, S3Login, S3Settings};
use crate::store::{Ask, Step, parts};

/// The region of buckets whose server does not know regions.
const NO_REGION: &str = "us-east-1";
/// Name of the sessions in Amazon's audit log.
const SESSION: &str = "podwright-cache";

pub(crate) struct S3 {
    settings: S3Settings,
    context: Context,
    client: reqwest::Client,
    signers: OnceCell<Signers>,
}

/// Signers keep their credentials until these are about to expire: a role costs one request an hour,
/// not one for each object.
struct Signers {
    region: String,
    read: Signer<Credential>,
    write: Signer<Credential>,
}

impl S3 {
    pub(crate) fn new(settings: S3Settings, context: Context, client: reqwest::Client) -> Self {
        Self { settings, context, client, signers: OnceCell::new() }
    }

    pub(crate) async fn sign(&self, object: &str, ask: &Ask<'_>, lasts: Duration) -> Result<Parts> {
        let Signers { region, read, write } = self.signers.get_or_init(|| self.signers()).await;
        let address = address(&self.settings, region, object);
        let (method, headers, signer) = match ask {
            Ask::Get => (Method::GET, Vec::new(), read),
            Ask::Head => (Method::HEAD, Vec::new(), read),
            Ask::Put { key } => (Method::PUT, self.put_headers(key), write),
            // What is said about the object is said at the beginning.
            Ask::Step(Step::Begin { key }) => (Method::POST, self.put_headers(key), write),
            Ask::Step(Step::Part { .. }) => (Method::PUT, Vec::new(), write),
            Ask::Step(Step::Finish { .. }) => (Method::POST, Vec::new(), write),
            Ask::Step(Step::Abandon { .. }) => (Method::DELETE, Vec::new(), write),
        };
        let address = match ask {
            Ask::Step(step) => format!("{address}?{}", query(step)),
            _ => address,
        };
        let mut parts = parts(method, &address, headers)?;
        signer.sign(&mut parts, Some(lasts)).await?;
        Ok(parts)
    }

    fn put_headers(&self, key: &str) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        let (kind, id) = match &self.settings.encryption {
            None => ("", &None),
            Some(Encryption::S3) => ("AES256", &None),
            Some(Encryption::Kms(id)) => ("aws:kms", id),
            Some(Encryption::DsseKms(id)) => ("aws:kms:dsse", id),
        };
        if !kind.is_empty() {
            headers.push(("x-amz-server-side-encryption", kind.to_owned()));
        }
        if let Some(id) = id {
            headers.push(("x-amz-server-side-encryption-aws-kms-key-id", id.clone()));
        }
        headers.extend(metadata::value(key).map(|key| ("x-amz-meta-cachekey", key)));
        headers
    }

    async fn signers(&self) -> Signers {
        let region = match &self.settings.region {
            Some(region) => region.clone(),
            None => self.ask_for_region().await,
        };
        let role = |role: &Option<String>| role.clone().filter(|role| !role.is_empty());
        let both = role(&self.settings.role);
        let upload = both.clone().or_else(|| role(&self.settings.upload_role));
        Signers { read: self.signer(&region, both), write: self.signer(&region, upload), region }
    }

    fn signer(&self, region: &str, role: Option<String>) -> Signer<Credential> {
        let own = |service: &str| {
            let request = RequestSigner::new(service, region);
            match &self.settings.login {
                S3Login::Iam => {
                    Signer::new(self.context.clone(), DefaultCredentialProvider::new(), request)
                }
                S3Login::Key { access, secret, session } => {
                    let key = StaticCredentialProvider::new(access.expose(), secret.expose());
                    let key = match session.as_ref().map(Secret::expose) {
                        Some(token) if !token.is_empty() => key.with_session_token(token),
                        _ => key,
                    };
                    Signer::new(self.context.clone(), key, request)
                }
            }
        };
        let Some(role) = role else { return own("s3") };
        // No policy narrows it: no credentials leave this process, only addresses of single objects.
        let role = AssumeRoleCredentialProvider::new(role, own("sts"))
            .with_region(region.to_owned())
            .with_regional_sts_endpoint()
            .with_role_session_name(SESSION.to_owned());
        Signer::new(self.context.clone(), role, RequestSigner::new("s3", region))
    }

    /// Amazon says where a bucket is even to those who may not read it.
    async fn ask_for_region(&self) -> String {
        let (scheme, host) = endpoint(&self.settings, NO_REGION);
        let bucket = &self.settings.bucket;
        let url = match is_amazon(&self.settings) {
            true => format!("https://s3.amazonaws.com/{bucket}"),
            false => format!("{scheme}://{host}/{bucket}"),
        };
        let answer = match self.client.head(url).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = error.without_url();
                warn!(%error, bucket, "the bucket does not say where it is; taking {NO_REGION}");
                return NO_REGION.to_owned();
            }
        };
        let region = answer.headers().get("x-amz-bucket-region");
        let region = region.and_then(|region| region.to_str().ok()).unwrap_or(NO_REGION);
        debug!(bucket, region, "the bucket's region");
        region.to_owned()
    }
}

/// Which step of which upload an address is for.
fn query(step: &Step<'_>) -> String {
    match step {
        Step::Begin { .. } => "uploads=".to_owned(),
        Step::Part { upload, number } => {
            format!("partNumber={number}&uploadId={}", in_query(upload))
        }
        Step::Finish { upload } | Step::Abandon { upload } => {
            format!("uploadId={}", in_query(upload))
        }
    }
}

fn is_amazon(settings: &S3Settings) -> bool {
    matches!(settings.server.as_str(), "" | "s3.amazonaws.com")
}

/// Scheme and host without the bucket.
fn endpoint(settings: &S3Settings, region: &str) -> (&'static str, String) {
    if is_amazon(settings) {
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let stack = if settings.dual_stack { ".dualstack" } else { "" };
        let host = match settings.accelerate {
            true => format!("s3-accelerate{stack}.{suffix}"),
            false => format!("s3{stack}.{region}.{suffix}"),
        };
        return ("https", host);
    }
    let (scheme, port) = if settings.insecure { ("http", ":80") } else { ("https", ":443") };
    let server = settings.server.trim_end_matches('/');
    (scheme, server.strip_suffix(port).unwrap_or(server).to_owned())
}

/// The address of an object.
fn address(settings: &S3Settings, region: &str, object: &str) -> String {
    let (scheme, host) = endpoint(settings, region);
    let bucket = &settings.bucket;
    let name = host.split(':').next().unwrap_or_default();
    let knows_hosts = name.ends_with("amazonaws.com")
        || name.ends_with("amazonaws.com.cn")
        || name == "storage.googleapis.com";
    // A name with dots fits no certificate.
    let in_path_by_default = !knows_hosts || (scheme == "https" && bucket.contains('.'));
    let object = in_path(object);
    match settings.path_style.unwrap_or(in_path_by_default) {
        true => format!("{scheme}://{host}/{bucket}/{object}"),
        false => format!("{scheme}://{bucket}.{host}/{object}"),
    }
}

#[cfg(test)]
#[path = "s3_tests.rs"]
mod tests;
