//! What an [`ArtifactStore`] promises.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_core::artifact::ArtifactStore;
use runner_core::job::{Artifact, Dependency, Job};
use runner_core::plan::{HttpBody, HttpTransfer, Transfer};
use runner_core::source::Ticket;

use super::report::{Check, Finding, Promise, Report, broken, ensure, judge};

/// The store's surroundings, in the hands of the test.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// use async_trait::async_trait;
/// use runner_core::artifact::ArtifactStore;
/// use runner_core::ids::JobId;
/// use runner_core::job::{Artifact, Dependency, Job};
/// use runner_core::plan::{HttpTransfer, Transfer};
/// use runner_core::source::{SourceError, Ticket};
/// use runner_testkit::conformance::{self, Shelf};
/// use runner_testkit::objects::ObjectServer;
///
/// /// An object for each job, behind a server that lets everybody in.
/// struct Mine(String);
///
/// impl Mine {
///     fn transfer(&self, method: &str, job: JobId) -> Transfer {
///         let url = format!("{}/{job}.zip", self.0);
///         Transfer::Http(HttpTransfer::new(method, url, Duration::from_secs(600)))
///     }
/// }
///
/// #[async_trait]
/// impl ArtifactStore for Mine {
///     async fn upload(
///         &self,
///         job: &Job,
///         _ticket: &Ticket,
///         _artifact: &Artifact,
///     ) -> Result<Option<Transfer>, SourceError> {
///         Ok(Some(self.transfer("PUT", job.id)))
///     }
///
///     async fn download(
///         &self,
///         _job: &Job,
///         _ticket: &Ticket,
///         dependency: &Dependency,
///     ) -> Result<Transfer, SourceError> {
///         Ok(self.transfer("GET", dependency.id))
///     }
/// }
///
/// struct MyShelf(ObjectServer, AtomicU64);
///
/// #[async_trait]
/// impl Shelf for MyShelf {
///     async fn store(&self) -> Arc<dyn ArtifactStore> {
///         Arc::new(Mine(self.0.address().to_owned()))
///     }
///
///     async fn job(&self) -> (Job, Ticket) {
///         let id = self.1.fetch_add(1, Ordering::Relaxed);
///         (Job::new(JobId(id), "build", ["make"]), Ticket(id.to_string().into()))
///     }
///
///     async fn dependency(&self, job: &Job, size: u64) -> Dependency {
///         let (id, name) = (job.id, job.name.clone());
///         Dependency { id, name, token: "".into(), filename: "build.zip".into(), size }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let _ = rustls::crypto::ring::default_provider().install_default();
/// let shelf = MyShelf(ObjectServer::start().await?, AtomicU64::new(1));
/// conformance::artifact_store(&shelf).await.assert_kept();
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Shelf: Send + Sync {
    /// The store as a manager makes it when it starts.
    async fn store(&self) -> Arc<dyn ArtifactStore>;

    /// A running job that may store an archive, another one at each call.
    async fn job(&self) -> (Job, Ticket);

    /// How a later job is told of this job's archive, which has this many bytes.
    async fn dependency(&self, job: &Job, size: u64) -> Dependency;

    /// Longest time for one check. Default: 60 s.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// What an artifact store promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorePromise {
    /// What was stored is what is fetched.
    BytesComeBack,
    /// The pod transfers without a manager.
    TransferNeedsNoManager,
    /// An upload whose answer was lost is said again.
    UploadMayBeRepeated,
    /// No archive, no success.
    MissingIsAnError,
    /// Jobs do not get each other's archives.
    JobsAreApart,
}

impl StorePromise {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::BytesComeBack,
        Self::TransferNeedsNoManager,
        Self::UploadMayBeRepeated,
        Self::MissingIsAnError,
        Self::JobsAreApart,
    ];
}

impl Promise for StorePromise {
    const SUBJECT: &'static str = "artifact_store";
    const TYPE: &'static str = "StorePromise";

    fn text(self) -> &'static str {
        match self {
            Self::BytesComeBack => "an archive comes back byte for byte",
            Self::TransferNeedsNoManager => "a transfer works after the manager that asked is gone",
            Self::UploadMayBeRepeated => "an upload that is repeated leaves one whole archive",
            Self::MissingIsAnError => "an archive that was never stored is an error, not empty",
            Self::JobsAreApart => "each job gets the archive that it was told of",
        }
    }
}

/// Looks at all promises of an artifact store, one after the other.
pub async fn artifact_store(shelf: &impl Shelf) -> Report<StorePromise> {
    let mut checks = Vec::with_capacity(StorePromise::ALL.len());
    for promise in StorePromise::ALL {
        checks.push(artifact_store_check(shelf, promise).await);
    }
    Report { checks }
}

/// Looks at one promise of an artifact store.
pub async fn artifact_store_check(
    shelf: &impl Shelf,
    promise: StorePromise,
) -> Check<StorePromise> {
    let shelf: &dyn Shelf = shelf;
    let check = async {
        match promise {
            StorePromise::BytesComeBack => bytes_come_back(shelf).await,
            StorePromise::TransferNeedsNoManager => transfer_needs_no_manager(shelf).await,
            StorePromise::UploadMayBeRepeated => upload_may_be_repeated(shelf).await,
            StorePromise::MissingIsAnError => missing_is_an_error(shelf).await,
            StorePromise::JobsAreApart => jobs_are_apart(shelf).await,
        }
    };
    judge(promise, shelf.patience(), check).await
}

/// Bytes that are no text and not the same twice in a row.
fn archive(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

fn artifact() -> Artifact {
    Artifact { paths: vec!["out/".to_owned()], kind: "archive".to_owned(), ..Artifact::default() }
}

async fn upload_of(
    store: &Arc<dyn ArtifactStore>,
    job: &Job,
    ticket: &Ticket,
) -> Result<HttpTransfer, Finding> {
    let transfer = store.upload(job, ticket, &artifact()).await;
    match transfer.map_err(|error| broken(format!("`upload` failed: {error}")))? {
        Some(Transfer::Http(transfer)) => Ok(transfer),
        Some(_) => Err(Finding::LeftOut("the transfer is of a kind the kit cannot do".to_owned())),
        None => Err(broken("`upload` says that the store takes no archive")),
    }
}

async fn fetched(
    shelf: &dyn Shelf,
    job: &Job,
    ticket: &Ticket,
    size: usize,
) -> Result<Vec<u8>, Finding> {
    let store = shelf.store().await;
    let dependency = shelf.dependency(job, size as u64).await;
    let transfer = store.download(job, ticket, &dependency).await;
    match transfer.map_err(|error| broken(format!("`download` failed: {error}")))? {
        Transfer::Http(transfer) => {
            perform(&transfer, None).await.map_err(|seen| broken(format!("fetching: {seen}")))
        }
        _ => Err(Finding::LeftOut("the transfer is of a kind the kit cannot do".to_owned())),
    }
}

async fn store(transfer: &HttpTransfer, bytes: &[u8]) -> Result<(), Finding> {
    let stored = perform(transfer, Some(bytes)).await;
    stored.map(drop).map_err(|seen| broken(format!("storing: {seen}")))
}

/// Does what the agent does with a transfer. The body of the answer, or what went wrong.
async fn perform(transfer: &HttpTransfer, body: Option<&[u8]>) -> Result<Vec<u8>, String> {
    // A process that has chosen another provider keeps it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder().timeout(transfer.timeout).no_proxy();
    if let Some(pem) = &transfer.tls_ca {
        let ca = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
        client = client.tls_certs_merge(ca.map_err(|error| format!("its CA: {error}"))?);
    }
    let client = client.build().map_err(|error| format!("no client: {error}"))?;
    let method = transfer.method.parse().map_err(|_| "its method is none".to_owned())?;
    let mut request = client.request(method, transfer.url.expose());
    for (name, value) in &transfer.headers {
        request = request.header(name, value.expose());
    }
    if let Some(body) = body {
        request = match &transfer.body {
            HttpBody::Raw => request.body(body.to_vec()),
            HttpBody::Multipart { field } => {
                let part = reqwest::multipart::Part::bytes(body.to_vec()).file_name("archive.zip");
                request.multipart(reqwest::multipart::Form::new().part(field.clone(), part))
            }
        };
    }
    // Not the address: it may be signed.
    let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
    let status = answer.status();
    let bytes = answer.bytes().await.map_err(|error| error.without_url().to_string())?;
    if status.is_success() { Ok(bytes.to_vec()) } else { Err(format!("answered with {status}")) }
}

fn same(found: &[u8], wanted: &[u8]) -> Result<(), Finding> {
    let (found_length, length) = (found.len(), wanted.len());
    ensure!(found_length == length, "{length} bytes were stored, {found_length} came back");
    let first = found.iter().zip(wanted).position(|(found, wanted)| found != wanted);
    ensure!(first.is_none(), "the bytes differ from offset {first:?} on");
    Ok(())
}

async fn bytes_come_back(shelf: &dyn Shelf) -> Result<(), Finding> {
    for size in [22, 70_000, 9 << 20] {
        let (job, ticket) = shelf.job().await;
        let bytes = archive(size, size as u64);
        store(&upload_of(&shelf.store().await, &job, &ticket).await?, &bytes).await?;
        same(&fetched(shelf, &job, &ticket, size).await?, &bytes)?;
    }
    Ok(())
}

async fn transfer_needs_no_manager(shelf: &dyn Shelf) -> Result<(), Finding> {
    let (job, ticket) = shelf.job().await;
    let asked = shelf.store().await;
    let upload = upload_of(&asked, &job, &ticket).await?;
    drop(asked);
    let bytes = archive(5000, 3);
    store(&upload, &bytes).await?;
    same(&fetched(shelf, &job, &ticket, bytes.len()).await?, &bytes)
}

async fn upload_may_be_repeated(shelf: &dyn Shelf) -> Result<(), Finding> {
    let (job, ticket) = shelf.job().await;
    let upload = upload_of(&shelf.store().await, &job, &ticket).await?;
    let bytes = archive(5000, 5);
    store(&upload, &bytes).await?;
    // Refused or taken: what is there stays whole.
    let _ = perform(&upload, Some(&bytes)).await;
    same(&fetched(shelf, &job, &ticket, bytes.len()).await?, &bytes)
}

async fn missing_is_an_error(shelf: &dyn Shelf) -> Result<(), Finding> {
    let (job, ticket) = shelf.job().await;
    let dependency = shelf.dependency(&job, 5000).await;
    let Ok(Transfer::Http(transfer)) =
        shelf.store().await.download(&job, &ticket, &dependency).await
    else {
        return Ok(());
    };
    match perform(&transfer, None).await {
        Err(_) => Ok(()),
        Ok(bytes) => Err(broken(format!("{} bytes came back", bytes.len()))),
    }
}

async fn jobs_are_apart(shelf: &dyn Shelf) -> Result<(), Finding> {
    let ((one, first), (two, second)) = (shelf.job().await, shelf.job().await);
    let keeper = shelf.store().await;
    let uploads =
        (upload_of(&keeper, &one, &first).await?, upload_of(&keeper, &two, &second).await?);
    let (a, b) = (archive(3000, 7), archive(4000, 9));
    store(&uploads.0, &a).await?;
    store(&uploads.1, &b).await?;
    same(&fetched(shelf, &one, &first, a.len()).await?, &a)?;
    same(&fetched(shelf, &two, &second, b.len()).await?, &b)
}
