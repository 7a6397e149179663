//! Artifact stores, whole and broken: a shelf in memory behind a little HTTP server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::put;
use parking_lot::Mutex;
use rstest::rstest;
use runner_core::artifact::ArtifactStore;
use runner_core::ids::JobId;
use runner_core::job::{Artifact, Dependency, Job};
use runner_core::plan::{HttpBody, HttpTransfer, Transfer};
use runner_core::source::{SourceError, Ticket};
use runner_testkit::conformance::{self, Shelf, StorePromise, Verdict};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    CutsOff,
    NeedsItsManager,
    AppendsWhatIsRepeated,
    AnswersNothingWithNothing,
    HasOnePlaceForAll,
}

type Kept = Arc<Mutex<HashMap<u64, Vec<u8>>>>;

#[derive(Clone)]
struct Server {
    kept: Kept,
    defect: Defect,
    managers: Weak<()>,
}

struct Memory {
    address: SocketAddr,
    /// Each manager's store holds it, too.
    managers: Arc<()>,
    jobs: AtomicU64,
}

struct MemoryStore {
    address: SocketAddr,
    _manager: Arc<()>,
}

impl Memory {
    async fn with(defect: Defect) -> Self {
        let managers = Arc::new(());
        let server = Server { kept: Kept::default(), defect, managers: Arc::downgrade(&managers) };
        let routes = Router::new()
            .route("/{job}", put(store).get(fetch))
            .layer(DefaultBodyLimit::max(64 << 20))
            .with_state(server);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, managers, jobs: AtomicU64::new(0) }
    }
}

async fn store(State(server): State<Server>, Path(job): Path<u64>, body: Bytes) -> StatusCode {
    // One is the test's own.
    if server.defect == Defect::NeedsItsManager && server.managers.strong_count() <= 1 {
        return StatusCode::GONE;
    }
    let job = if server.defect == Defect::HasOnePlaceForAll { 0 } else { job };
    let mut body = body.to_vec();
    if server.defect == Defect::CutsOff {
        body.truncate(65_536);
    }
    let mut kept = server.kept.lock();
    let place = kept.entry(job).or_default();
    if server.defect != Defect::AppendsWhatIsRepeated {
        place.clear();
    }
    place.extend(body);
    StatusCode::CREATED
}

async fn fetch(State(server): State<Server>, Path(job): Path<u64>) -> Result<Vec<u8>, StatusCode> {
    let job = if server.defect == Defect::HasOnePlaceForAll { 0 } else { job };
    match server.kept.lock().get(&job) {
        Some(bytes) => Ok(bytes.clone()),
        None if server.defect == Defect::AnswersNothingWithNothing => Ok(Vec::new()),
        None => Err(StatusCode::NOT_FOUND),
    }
}

impl MemoryStore {
    fn transfer(&self, method: &str, job: JobId) -> Transfer {
        Transfer::Http(HttpTransfer {
            method: method.to_owned(),
            url: format!("http://{}/{job}", self.address).into(),
            headers: Vec::new(),
            body: HttpBody::Raw,
            tls_ca: None,
            timeout: Duration::from_secs(30),
        })
    }
}

#[async_trait]
impl ArtifactStore for MemoryStore {
    async fn upload(
        &self,
        job: &Job,
        _ticket: &Ticket,
        _artifact: &Artifact,
    ) -> Result<Option<Transfer>, SourceError> {
        Ok(Some(self.transfer("PUT", job.id)))
    }

    async fn download(
        &self,
        _job: &Job,
        _ticket: &Ticket,
        dependency: &Dependency,
    ) -> Result<Transfer, SourceError> {
        Ok(self.transfer("GET", dependency.id))
    }
}

#[async_trait]
impl Shelf for Memory {
    async fn store(&self) -> Arc<dyn ArtifactStore> {
        let manager = Arc::clone(&self.managers);
        let address = self.address;
        Arc::new(MemoryStore { address, _manager: manager })
    }

    async fn job(&self) -> (Job, Ticket) {
        let id = JobId(self.jobs.fetch_add(1, Ordering::Relaxed) + 1);
        (Job::new(id, "test", ["true"]), Ticket(String::new().into()))
    }

    async fn dependency(&self, job: &Job, size: u64) -> Dependency {
        Dependency {
            id: job.id,
            name: job.name.clone(),
            token: String::new().into(),
            filename: "artifacts.zip".to_owned(),
            size,
        }
    }
}

#[tokio::test]
async fn a_store_that_keeps_its_promises_is_found_to() {
    let report = conformance::artifact_store(&Memory::with(Defect::None).await).await;
    report.assert_kept();
    for promise in StorePromise::ALL {
        assert!(report.keeps(promise), "{report}");
    }
}

#[rstest]
#[case(Defect::CutsOff, StorePromise::BytesComeBack, "70000 bytes were stored, 65536 came back")]
#[case(Defect::NeedsItsManager, StorePromise::TransferNeedsNoManager, "410 Gone")]
#[case(Defect::AppendsWhatIsRepeated, StorePromise::UploadMayBeRepeated, "10000 came back")]
#[case(Defect::AnswersNothingWithNothing, StorePromise::MissingIsAnError, "0 bytes came back")]
#[case(Defect::HasOnePlaceForAll, StorePromise::JobsAreApart, "3000 bytes were stored, 4000")]
#[tokio::test]
async fn a_broken_store_is_caught(
    #[case] defect: Defect,
    #[case] promise: StorePromise,
    #[case] seen: &str,
) {
    let check = conformance::artifact_store_check(&Memory::with(defect).await, promise).await;
    let Verdict::Broken(text) = &check.verdict else { panic!("{defect:?}: {check:?}") };
    assert!(text.contains(seen), "{defect:?}: {text}");
}
