use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqsign_core::{Context, HttpSend, StaticEnv};
use runner_core::cache::{CacheAction, CacheErrorKind, CacheRequest, CacheScope, CacheStore};
use runner_core::ids::JobId;
use runner_core::job::{Job, Project};

use super::ObjectCache;
use crate::settings::{AzureSettings, Bucket, CacheSettings, GcsLogin, GcsSettings};

fn settings(bucket: Bucket) -> CacheSettings {
    CacheSettings {
        path: String::new(),
        shared: true,
        short_token: "t".into(),
        grant_key: "glrt".into(),
        max_archive: 1000,
        bucket,
    }
}

fn azure(key: Option<&str>) -> CacheSettings {
    settings(Bucket::Azure(AzureSettings {
        account: "acc".into(),
        key: key.map(Into::into),
        container: "box".into(),
        domain: "blob.core.windows.net".into(),
    }))
}

fn google(login: GcsLogin) -> CacheSettings {
    let universe = "googleapis.com".into();
    settings(Bucket::Gcs(GcsSettings { bucket: "bucket".into(), login, universe }))
}

fn store(settings: CacheSettings, context: Context) -> ObjectCache {
    ObjectCache::with_context(settings, context, crate::net::tests::client())
}

fn job() -> Job {
    Job { project: Project { id: 7, ..Project::default() }, ..Job::new(JobId(1), "t", ["true"]) }
}

fn ask(store: &ObjectCache, action: CacheAction) -> CacheRequest {
    let (scope, lasts) = (store.scope(&job()), Duration::from_secs(600));
    CacheRequest { scope, object: "my key/ü".into(), action, lasts }
}

fn query(url: &str) -> HashMap<String, String> {
    let url = reqwest::Url::parse(url).unwrap();
    url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

#[tokio::test]
async fn stages_65_nothing_is_signed_beyond_the_scope_or_too_large() {
    let store = store(azure(Some(&STANDARD.encode("key"))), Context::new());
    let good = ask(&store, CacheAction::Get);
    assert!(store.sign(&good).await.is_ok());
    let forged = CacheScope { prefix: "project/8".into(), ..good.scope.clone() };
    let put = |length| CacheAction::Put { length, key: "k".into() };
    for bad in [
        CacheRequest { scope: forged, ..good.clone() },
        CacheRequest { object: "../8/k".into(), ..good.clone() },
        CacheRequest { action: put(1001), ..good.clone() },
    ] {
        assert_eq!(store.sign(&bad).await.unwrap_err().kind, CacheErrorKind::Refused, "{bad:?}");
    }
    assert!(store.sign(&CacheRequest { action: put(1000), ..good }).await.is_ok());
}

/// The signature as Azure's documentation describes it, for version 2020-12-06.
#[tokio::test]
async fn stages_72_azure_addresses_carry_a_signature_of_the_accounts_key() {
    use reqsign_core::hash::base64_hmac_sha256;
    let store = store(azure(Some(&STANDARD.encode("account key"))), Context::new());
    let put = CacheAction::Put { length: 5, key: "my key".into() };
    for (action, permissions) in [(CacheAction::Get, "r"), (put, "cw")] {
        let transfer = store.sign(&ask(&store, action)).await.unwrap();
        let url = transfer.url.expose();
        let path = "https://acc.blob.core.windows.net/box/project/7/my%20key/%C3%BC?";
        assert!(url.starts_with(path), "{url}");
        let query = query(url);
        let get = |name: &str| query.get(name).cloned().unwrap_or_default();
        assert_eq!(
            (get("sp"), get("spr"), get("sr")),
            (permissions.into(), "https".into(), "b".into())
        );
        let mut lines = vec![
            get("sp"),
            get("st"),
            get("se"),
            "/blob/acc/box/project/7/my key/ü".to_owned(),
            get("si"),
            get("sip"),
            get("spr"),
            get("sv"),
            get("sr"),
            String::new(),
        ];
        if get("sv").as_str() >= "2020-12-06" {
            lines.push(String::new());
        }
        lines.extend(vec![String::new(); 5]);
        let expected = base64_hmac_sha256(b"account key", lines.join("\n").as_bytes());
        assert_eq!(get("sig"), expected, "{lines:?}");
        let headers: HashMap<_, _> =
            transfer.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        if permissions == "cw" {
            assert_eq!(headers["x-ms-blob-type"], "BlockBlob");
            assert_eq!(headers["x-ms-meta-cachekey"], "my key");
        }
    }
}

/// Azure's directory and account, as far as a workload identity needs them.
#[derive(Clone, Debug, Default)]
struct Entra {
    requests: Arc<AtomicUsize>,
}

impl HttpSend for Entra {
    async fn http_send(
        &self,
        request: http::Request<Bytes>,
    ) -> reqsign_core::Result<http::Response<Bytes>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let uri = request.uri().to_string();
        let body = String::from_utf8_lossy(request.body()).into_owned();
        if uri.starts_with("https://login.microsoftonline.com/") {
            assert!(body.contains("client_assertion=jwt"), "{body}");
            let answer = r#"{"access_token":"b34r3r","expires_in":3600,"token_type":"Bearer"}"#;
            return Ok(http::Response::new(answer.into()));
        }
        assert!(uri.starts_with("https://acc.blob.core.windows.net/?"), "{uri}");
        assert_eq!(request.headers()["authorization"], "Bearer b34r3r");
        let tag = |name: &str| {
            let from = body.split_once(&format!("<{name}>")).unwrap().1;
            from.split_once('<').unwrap().0.to_owned()
        };
        let answer = format!(
            "<?xml version=\"1.0\"?><UserDelegationKey><SignedOid>o</SignedOid><SignedTid>t</SignedTid>\
             <SignedStart>{}</SignedStart><SignedExpiry>{}</SignedExpiry>\
             <SignedService>b</SignedService><SignedVersion>2020-12-06</SignedVersion>\
             <Value>{}</Value></UserDelegationKey>",
            tag("Start"),
            tag("Expiry"),
            STANDARD.encode("delegated"),
        );
        Ok(http::Response::new(answer.into()))
    }
}

#[tokio::test]
async fn stages_72_without_a_key_the_account_delegates_one() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "jwt").unwrap();
    let variables = [
        ("AZURE_TENANT_ID", "tenant"),
        ("AZURE_CLIENT_ID", "client"),
        ("AZURE_FEDERATED_TOKEN_FILE", token.path().to_str().unwrap()),
    ];
    let envs = variables.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let entra = Entra::default();
    let context = crate::net::context(crate::net::tests::client())
        .with_http_send(entra.clone())
        .with_env(StaticEnv { home_dir: None, envs });
    let store = store(azure(None), context);
    let transfer = store.sign(&ask(&store, CacheAction::Get)).await.unwrap();
    let query = query(transfer.url.expose());
    assert_eq!((query["sp"].as_str(), query["skoid"].as_str()), ("r", "o"));
    assert!(query.contains_key("sig") && query.contains_key("ske"));
    let once = entra.requests.load(Ordering::Relaxed);
    let again = CacheRequest { object: "other".into(), ..ask(&store, CacheAction::Get) };
    assert!(store.sign(&again).await.is_ok());
    assert!(entra.requests.load(Ordering::Relaxed) <= once + 1, "the token is not asked for again");
}

/// Runs OpenSSL, which is independent of what signs here.
fn openssl(arguments: &[&str]) -> String {
    let output = std::process::Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn stages_70_googles_addresses_carry_a_signature_of_the_service_account() {
    let key = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let login = GcsLogin::Key { email: "ci@p.example".into(), key: key.as_str().into() };
    let store = store(google(login), Context::new());
    let action = CacheAction::Put { length: 5, key: "my key".into() };
    let transfer = store.sign(&ask(&store, action)).await.unwrap();
    let url = transfer.url.expose();
    let start = "https://storage.googleapis.com/bucket/project/7/my%20key/%C3%BC?";
    assert!(url.starts_with(start), "{url}");
    let (unsigned, signature) = url.rsplit_once("&X-Goog-Signature=").unwrap();
    let headers: HashMap<_, _> =
        transfer.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers["content-type"], "application/octet-stream");
    assert_eq!(headers["x-goog-content-length-range"], "0,1000");
    assert_eq!(headers["x-goog-meta-cachekey"], "my key");

    // The string that is signed, as Google's documentation describes it.
    let (path, raw_query) = unsigned.split_once(".com").unwrap().1.split_once('?').unwrap();
    let mut pairs: Vec<_> = raw_query.split('&').collect();
    pairs.sort_unstable();
    let query = query(url);
    let names = &query["X-Goog-SignedHeaders"];
    let lines: String = names
        .split(';')
        .map(|name| match name {
            "host" => "host:storage.googleapis.com\n".to_owned(),
            name => format!("{name}:{}\n", headers[name]),
        })
        .collect();
    let canonical = format!("PUT\n{path}\n{}\n{lines}\n{names}\nUNSIGNED-PAYLOAD", pairs.join("&"));
    let credential = &query["X-Goog-Credential"];
    let scope = credential.strip_prefix("ci@p.example/").unwrap();
    let text = format!(
        "GOOG4-RSA-SHA256\n{}\n{scope}\n{}",
        query["X-Goog-Date"],
        reqsign_core::hash::hex_sha256(canonical.as_bytes())
    );
    let bytes: Vec<u8> = (0..signature.len())
        .step_by(2)
        .map(|from| u8::from_str_radix(&signature[from..from + 2], 16).unwrap())
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (key_file, signature, text_file) = (at("key"), at("signature"), at("text"));
    std::fs::write(&key_file, key).unwrap();
    std::fs::write(&text_file, text).unwrap();
    std::fs::write(&signature, bytes).unwrap();
    openssl(&["dgst", "-sha256", "-prverify", &key_file, "-signature", &signature, &text_file]);
}

#[tokio::test]
async fn credentials_that_do_not_come_are_worth_asking_for_again() {
    let store = store(google(GcsLogin::File("/nowhere".into())), Context::new());
    let error = store.sign(&ask(&store, CacheAction::Get)).await.unwrap_err();
    assert_eq!(error.kind, CacheErrorKind::Unavailable);
}
