use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqsign_core::{Context, HttpSend, StaticEnv};
use rstest::rstest;

use super::{S3, address};
use crate::settings::{Encryption, S3Login, S3Settings};
use crate::store::Ask;

const HOUR: Duration = Duration::from_secs(3600);

fn settings(server: &str) -> S3Settings {
    S3Settings {
        server: server.into(),
        insecure: false,
        bucket: "bucket".into(),
        region: Some("eu-west-1".into()),
        login: S3Login::Key { access: "AKIA".into(), secret: "s3cr3t".into(), session: None },
        encryption: None,
        dual_stack: true,
        path_style: None,
        accelerate: false,
        role: None,
        upload_role: None,
    }
}

#[rstest]
#[case::amazon("", |_: &mut S3Settings| {}, "https://bucket.s3.dualstack.eu-west-1.amazonaws.com/a%20b/c")]
#[case::amazon_by_name("s3.amazonaws.com", |_: &mut S3Settings| {}, "https://bucket.s3.dualstack.eu-west-1.amazonaws.com/a%20b/c")]
#[case::single_stack("", |s: &mut S3Settings| s.dual_stack = false, "https://bucket.s3.eu-west-1.amazonaws.com/a%20b/c")]
#[case::accelerated("", |s: &mut S3Settings| s.accelerate = true, "https://bucket.s3-accelerate.dualstack.amazonaws.com/a%20b/c")]
#[case::path_style("", |s: &mut S3Settings| s.path_style = Some(true), "https://s3.dualstack.eu-west-1.amazonaws.com/bucket/a%20b/c")]
#[case::dots("", |s: &mut S3Settings| s.bucket = "b.c".into(), "https://s3.dualstack.eu-west-1.amazonaws.com/b.c/a%20b/c")]
#[case::minio("minio:9000", |s: &mut S3Settings| s.insecure = true, "http://minio:9000/bucket/a%20b/c")]
#[case::standard_port("minio:443", |_: &mut S3Settings| {}, "https://minio/bucket/a%20b/c")]
#[case::hosts("minio", |s: &mut S3Settings| s.path_style = Some(false), "https://bucket.minio/a%20b/c")]
#[case::regional("s3.eu-central-1.amazonaws.com", |_: &mut S3Settings| {}, "https://bucket.s3.eu-central-1.amazonaws.com/a%20b/c")]
#[case::google("storage.googleapis.com", |_: &mut S3Settings| {}, "https://bucket.storage.googleapis.com/a%20b/c")]
fn addresses(
    #[case] server: &str,
    #[case] change: impl FnOnce(&mut S3Settings),
    #[case] expected: &str,
) {
    let mut settings = settings(server);
    change(&mut settings);
    assert_eq!(address(&settings, "eu-west-1", "a b/c"), expected);
}

#[tokio::test]
async fn stages_70_encryption_and_the_key_are_signed_headers() {
    let mut settings = settings("");
    settings.encryption = Some(Encryption::Kms(Some("arn:key".into())));
    let s3 = S3::new(settings, Context::new(), crate::net::tests::client());
    let parts = s3.sign("o", &Ask::Put { key: "my key" }, HOUR).await.unwrap();
    let header = |name: &str| parts.headers.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header("x-amz-server-side-encryption"), "aws:kms");
    assert_eq!(header("x-amz-server-side-encryption-aws-kms-key-id"), "arn:key");
    assert_eq!(header("x-amz-meta-cachekey"), "my key");
    let query = parts.uri.query().unwrap();
    for name in ["x-amz-server-side-encryption", "x-amz-meta-cachekey", "host"] {
        let signed =
            query.split('&').find(|pair| pair.starts_with("X-Amz-SignedHeaders=")).unwrap();
        assert!(signed.contains(name), "{signed}");
    }
    assert!(query.contains("X-Amz-Expires=3600"), "{query}");
    assert!(!format!("{parts:?}").contains("s3cr3t"));
}

/// Answers `AssumeRole`, and web identity.
#[derive(Clone, Debug)]
struct Sts {
    requests: Arc<AtomicUsize>,
    last: Arc<std::sync::Mutex<String>>,
}

impl HttpSend for Sts {
    async fn http_send(
        &self,
        request: http::Request<Bytes>,
    ) -> reqsign_core::Result<http::Response<Bytes>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let body = String::from_utf8_lossy(request.body()).into_owned();
        *self.last.lock().unwrap() = format!("{} {body}", request.uri());
        let expiration = reqsign_core::time::Timestamp::now() + HOUR;
        let kind = match self.last.lock().unwrap().contains("WebIdentity") {
            true => "AssumeRoleWithWebIdentity",
            false => "AssumeRole",
        };
        let answer = format!(
            "<{kind}Response><{kind}Result><Credentials><AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId>\
             <SecretAccessKey>wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY</SecretAccessKey><SessionToken>T0Kabcdefghijkl</SessionToken>\
             <Expiration>{}</Expiration></Credentials></{kind}Result></{kind}Response>",
            expiration.format_rfc3339_zulu()
        );
        Ok(http::Response::new(answer.into()))
    }
}

fn sts() -> Sts {
    Sts { requests: Arc::default(), last: Arc::default() }
}

#[tokio::test]
async fn stages_71_a_role_is_taken_on_once_for_many_objects() {
    let sts = sts();
    let mut settings = settings("");
    settings.role = Some("arn:aws:iam::123456789012:role/cache".into());
    let context = Context::new().with_http_send(sts.clone());
    let s3 = S3::new(settings, context, crate::net::tests::client());
    for object in ["a", "b", "c"] {
        let parts = s3.sign(object, &Ask::Get, Duration::from_secs(600)).await.unwrap();
        let query = parts.uri.query().unwrap();
        assert!(query.contains("X-Amz-Credential=ASIA"), "{query}");
        assert!(query.contains("X-Amz-Security-Token=T0K"), "{query}");
    }
    let last = sts.last.lock().unwrap().clone();
    assert!(last.starts_with("https://sts.eu-west-1.amazonaws.com/"), "{last}");
    assert!(last.contains("RoleSessionName=podwright-cache"), "{last}");
    assert_eq!(sts.requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn stages_71_a_role_for_uploads_is_for_uploads_only() {
    let sts = sts();
    let mut settings = settings("");
    settings.upload_role = Some("arn:aws:iam::123456789012:role/up".into());
    let context = Context::new().with_http_send(sts.clone());
    let s3 = S3::new(settings, context, crate::net::tests::client());
    let get = s3.sign("a", &Ask::Get, HOUR / 2).await.unwrap();
    assert!(get.uri.query().unwrap().contains("X-Amz-Credential=AKIA"));
    let put = s3.sign("a", &Ask::Put { key: "k" }, HOUR / 2).await.unwrap();
    assert!(put.uri.query().unwrap().contains("X-Amz-Credential=ASIA"));
}

#[tokio::test]
async fn an_identity_of_the_cluster_becomes_credentials() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "jwt").unwrap();
    let variables = [
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().to_str().unwrap()),
        ("AWS_REGION", "eu-west-1"),
    ];
    let envs: HashMap<_, _> =
        variables.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let sts = sts();
    let context = crate::net::context(crate::net::tests::client())
        .with_http_send(sts.clone())
        .with_env(StaticEnv { home_dir: None, envs });
    let settings = S3Settings { login: S3Login::Iam, ..settings("") };
    let s3 = S3::new(settings, context, crate::net::tests::client());
    let parts = s3.sign("a", &Ask::Get, HOUR / 2).await.unwrap();
    assert!(parts.uri.query().unwrap().contains("X-Amz-Credential=ASIA"));
    assert!(sts.last.lock().unwrap().contains("WebIdentityToken=jwt"));
}

#[tokio::test]
async fn without_credentials_nothing_is_signed() {
    let settings = S3Settings { login: S3Login::Iam, ..settings("") };
    let s3 = S3::new(settings, Context::new(), crate::net::tests::client());
    assert!(s3.sign("a", &Ask::Get, HOUR).await.is_err());
}
