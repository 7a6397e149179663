//! Signed requests against a real S3 server, which checks every signature.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use reqwest::StatusCode;
use runner_cache::{Bucket, CacheSettings, Encryption, ObjectCache, S3Login, S3Settings};
use runner_core::cache::{CacheAction, CacheRequest, CacheStore};
use runner_core::ids::JobId;
use runner_core::job::{Job, Project};
use runner_core::plan::HttpTransfer;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A server with one bucket, which lives as long as this.
struct Server {
    address: String,
    root: tempfile::TempDir,
    _task: JoinSet<()>,
}

async fn server() -> Server {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("bucket")).unwrap();
    let mut service = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
    service.set_auth(SimpleAuth::from_single("access", "secret"));
    let service = service.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = service.clone();
            connections.spawn(async move {
                let builder = Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    Server { address, root, _task: task }
}

fn store(server: &Server, secret: &str, encryption: Option<Encryption>) -> ObjectCache {
    // It can only fail when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    ObjectCache::new(CacheSettings {
        path: "prefix".into(),
        shared: false,
        short_token: "t0k3n1234".into(),
        grant_key: "glrt-x".into(),
        max_archive: 0,
        bucket: Bucket::S3(S3Settings {
            server: server.address.clone(),
            insecure: true,
            bucket: "bucket".into(),
            region: None,
            login: S3Login::Key { access: "access".into(), secret: secret.into(), session: None },
            encryption,
            dual_stack: true,
            path_style: None,
            accelerate: false,
            role: None,
            upload_role: None,
        }),
    })
    .unwrap()
}

async fn sign(store: &ObjectCache, object: &str, action: CacheAction) -> HttpTransfer {
    let project = Project { id: 42, ..Project::default() };
    let job = Job { project, ..Job::new(JobId(1), "t", ["true"]) };
    let (scope, lasts) = (store.scope(&job), Duration::from_secs(600));
    let request = CacheRequest { scope, object: object.into(), action, lasts };
    store.sign(&request).await.unwrap()
}

/// Sends a request as the agent does.
async fn send(transfer: &HttpTransfer, body: &str) -> reqwest::Response {
    let client = reqwest::Client::new();
    let method = transfer.method.parse().unwrap();
    let mut request = client.request(method, transfer.url.expose());
    for (name, value) in &transfer.headers {
        request = request.header(name, value.expose());
    }
    if !body.is_empty() {
        request = request.body(body.to_owned());
    }
    request.send().await.unwrap()
}

fn put(body: &str) -> CacheAction {
    CacheAction::Put { length: body.len() as u64, key: "the key".into() }
}

#[tokio::test]
async fn stages_70_a_real_server_takes_what_is_signed() {
    let server = server().await;
    let store = store(&server, "secret", None);
    for object in ["key", "a b/ü", "quote\"$(id)`&=?#%2e+~'!*"] {
        let answer = send(&sign(&store, object, CacheAction::Get).await, "").await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{object}");
        let answer = send(&sign(&store, object, put("content")).await, "content").await;
        assert_eq!(answer.status(), StatusCode::OK, "{object}: {}", answer.text().await.unwrap());
        let answer = send(&sign(&store, object, CacheAction::Head).await, "").await;
        assert_eq!(answer.status(), StatusCode::OK, "{object}");
        assert_eq!(answer.headers()["x-amz-meta-cachekey"], "the key");
        let answer = send(&sign(&store, object, CacheAction::Get).await, "").await;
        assert!(answer.headers().contains_key("last-modified"));
        assert_eq!(answer.text().await.unwrap(), "content", "{object}");
    }
    // Where GitLab Runner would look for it.
    let place = "bucket/prefix/runner/t0k3n1234/project/42/key";
    assert_eq!(std::fs::read(server.root.path().join(place)).unwrap(), b"content");
}

fn tag<'t>(text: &'t str, name: &str) -> &'t str {
    let from = text.split_once(&format!("<{name}>")).unwrap().1;
    from.split_once(&format!("</{name}>")).unwrap().0
}

#[tokio::test]
async fn stages_78_a_real_server_takes_an_object_in_parts() {
    let server = server().await;
    let store = store(&server, "secret", None);
    let object = "a b/ü";
    let begin = sign(&store, object, CacheAction::Begin { key: "the key".into() }).await;
    let answer = send(&begin, "").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let upload = tag(&answer.text().await.unwrap(), "UploadId").to_owned();
    let contents = ["a".repeat(8 << 20), "b".repeat(8 << 20), "end".to_owned()];
    let mut list = String::new();
    for (content, number) in contents.iter().zip(1..) {
        let length = content.len() as u64;
        let part = CacheAction::Part { upload: upload.clone(), number, length };
        let answer = send(&sign(&store, object, part).await, content).await;
        assert_eq!(answer.status(), StatusCode::OK, "{number}");
        let etag = answer.headers()["etag"].to_str().unwrap();
        list += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
    }
    let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let finish = sign(&store, object, CacheAction::Finish { upload: upload.clone() }).await;
    // The address of one upload is none for another.
    let mut other = finish.clone();
    other.url = other.url.expose().replace(&upload, "00000000-0000-0000-0000-000000000000").into();
    assert_eq!(send(&other, &list).await.status(), StatusCode::FORBIDDEN);
    let answer = send(&finish, &list).await;
    assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    let answer = send(&sign(&store, object, CacheAction::Head).await, "").await;
    assert_eq!(answer.headers()["x-amz-meta-cachekey"], "the key");
    let answer = send(&sign(&store, object, CacheAction::Get).await, "").await;
    assert!(answer.text().await.unwrap() == contents.concat());
}

#[tokio::test]
async fn stages_78_an_upload_that_is_abandoned_leaves_nothing() {
    let server = server().await;
    let store = store(&server, "secret", None);
    let begin = sign(&store, "key", CacheAction::Begin { key: "k".into() }).await;
    let answer = send(&begin, "").await.text().await.unwrap();
    let upload = tag(&answer, "UploadId").to_owned();
    let part = CacheAction::Part { upload: upload.clone(), number: 1, length: 1 };
    assert_eq!(send(&sign(&store, "key", part.clone()).await, "x").await.status(), StatusCode::OK);
    let abandon = sign(&store, "key", CacheAction::Abandon { upload }).await;
    assert!(send(&abandon, "").await.status().is_success());
    assert!(!send(&sign(&store, "key", part).await, "x").await.status().is_success());
}

#[tokio::test]
async fn stages_78_a_real_server_gives_a_range_of_what_is_signed() {
    let server = server().await;
    let store = store(&server, "secret", None);
    send(&sign(&store, "key", put("0123456789")).await, "0123456789").await;
    let get = sign(&store, "key", CacheAction::Get).await;
    let request = reqwest::Client::new().get(get.url.expose()).header("range", "bytes=2-4");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(answer.headers()["content-range"], "bytes 2-4/10");
    assert_eq!(answer.text().await.unwrap(), "234");
}

#[tokio::test]
async fn an_address_is_good_for_one_thing_only() {
    let server = server().await;
    let store = store(&server, "secret", None);
    let good = sign(&store, "key", put("content")).await;
    let changed = |change: &dyn Fn(&mut HttpTransfer)| {
        let mut transfer = good.clone();
        change(&mut transfer);
        transfer
    };
    let other = |transfer: &mut HttpTransfer| {
        transfer.url = transfer.url.expose().replace("/project/42/", "/project/43/").into();
    };
    let bad = [
        changed(&|transfer| transfer.method = "DELETE".into()),
        changed(&|transfer| transfer.headers[0].1 = "another key".into()),
        changed(&other),
    ];
    for transfer in &bad {
        let answer = send(transfer, "content").await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{transfer:?}");
    }
    assert_eq!(send(&good, "content").await.status(), StatusCode::OK);
    let stranger = self::store(&server, "wrong", None);
    let answer = send(&sign(&stranger, "key", CacheAction::Get).await, "").await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn stages_70_encryption_is_asked_for_with_a_signature() {
    let server = server().await;
    let encrypted = sign(&store(&server, "secret", Some(Encryption::S3)), "k", put("c")).await;
    let header = encrypted.headers.iter().find(|(name, _)| name == "x-amz-server-side-encryption");
    assert_eq!(header.unwrap().1.expose(), "AES256");
    assert_eq!(send(&encrypted, "c").await.status(), StatusCode::OK);
    // Without the header the signature is another one.
    let mut plain = encrypted.clone();
    plain.headers.retain(|(name, _)| name != "x-amz-server-side-encryption");
    assert_eq!(send(&plain, "c").await.status(), StatusCode::FORBIDDEN);
}
