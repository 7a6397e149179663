//! Both stores against what an artifact store promises.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use artifact_store::bucket::{BucketSettings, BucketStore};
use artifact_store::directory::{self, DirectoryStore};
use async_trait::async_trait;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use runner_core::artifact::ArtifactStore;
use runner_core::ids::JobId;
use runner_core::job::{Artifact, Dependency, Job};
use runner_core::plan::Transfer;
use runner_core::source::Ticket;
use runner_testkit::conformance::{self, Shelf, StorePromise};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// A store as a manager makes it, over and over, and jobs for it.
struct Subject<F> {
    make: F,
    jobs: AtomicU64,
}

#[async_trait]
impl<F: Fn() -> Arc<dyn ArtifactStore> + Send + Sync> Shelf for Subject<F> {
    async fn store(&self) -> Arc<dyn ArtifactStore> {
        (self.make)()
    }

    async fn job(&self) -> (Job, Ticket) {
        let id = JobId(self.jobs.fetch_add(1, Ordering::Relaxed) + 1);
        (Job::new(id, "test", ["true"]), Ticket(String::new().into()))
    }

    async fn dependency(&self, job: &Job, size: u64) -> Dependency {
        let filename = "artifacts.zip".to_owned();
        Dependency {
            id: job.id,
            name: job.name.clone(),
            token: String::new().into(),
            filename,
            size,
        }
    }
}

async fn keeps_all_promises(make: impl Fn() -> Arc<dyn ArtifactStore> + Send + Sync) {
    let report = conformance::artifact_store(&Subject { make, jobs: AtomicU64::new(0) }).await;
    report.assert_kept();
    for promise in StorePromise::ALL {
        assert!(report.keeps(promise), "{report}");
    }
}

/// A directory and its server, which lasts as long as the test's runtime.
async fn shelf() -> (TempDir, String) {
    let root = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = directory::router(root.path(), &"a key".into());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (root, url)
}

#[tokio::test]
async fn a_directory_keeps_what_a_store_promises() {
    let (root, url) = shelf().await;
    keeps_all_promises(|| Arc::new(DirectoryStore::new(url.clone(), &"a key".into()))).await;
    let names = std::fs::read_dir(root.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| name.ends_with("-archive")), "something is left over");
}

/// A real S3 server with a bucket, which lasts as long as the test's runtime.
async fn bucket() -> (TempDir, BucketSettings) {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("bucket")).unwrap();
    let mut service = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
    service.set_auth(SimpleAuth::from_single("access", "secret"));
    let service = service.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/bucket", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(async move {
                let builder = Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    let (access_key, secret_key) = ("access".to_owned(), "secret".into());
    (root, BucketSettings { url, region: "us-east-1".into(), access_key, secret_key })
}

#[tokio::test]
async fn a_bucket_keeps_what_a_store_promises() {
    let (_root, settings) = bucket().await;
    keeps_all_promises(|| Arc::new(BucketStore::new(&settings))).await;
}

async fn answer(transfer: Transfer, method: &str, path: &str) -> u16 {
    // One crypto provider for the whole process. It can only fail when there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Transfer::Http(transfer) = transfer else { panic!("not by HTTP") };
    let mut url: reqwest::Url = transfer.url.expose().parse().unwrap();
    url.set_path(path);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(method.parse().unwrap(), url);
    for (name, value) in &transfer.headers {
        request = request.header(name, value.expose());
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_request_is_good_for_the_archive_that_it_was_made_for_and_nothing_else() {
    let (_shelf, url) = shelf().await;
    let (_bucket, settings) = bucket().await;
    let stores: [(Arc<dyn ArtifactStore>, &str); 2] = [
        (Arc::new(DirectoryStore::new(url, &"a key".into())), ""),
        (Arc::new(BucketStore::new(&settings)), "/bucket"),
    ];
    let (job, ticket) = (Job::new(JobId(7), "test", ["true"]), Ticket(String::new().into()));
    for (store, root) in stores {
        for (method, path) in [("PUT", "8-archive"), ("GET", "7-archive"), ("PUT", "7-archive")] {
            let upload = store.upload(&job, &ticket, &Artifact::default()).await.unwrap().unwrap();
            let status = answer(upload, method, &format!("{root}/{path}")).await;
            let right = (method, path) == ("PUT", "7-archive");
            assert_eq!(status < 300, right, "{method} {root}/{path}: {status}");
        }
    }
}
