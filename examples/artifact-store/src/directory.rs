//! Archives in a directory, and the HTTP server that pods reach it by.
//!
//! ```text
//!   DirectoryStore ── PUT /7-archive, Bearer HMAC("PUT 7-archive") ──► plan ──► agent ──► router ──► file
//! ```

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use futures_util::TryStreamExt as _;
use ring::hmac;
use runner_core::artifact::ArtifactStore;
use runner_core::job::{Artifact, Dependency, Job};
use runner_core::plan::{HttpTransfer, Transfer};
use runner_core::secret::Secret;
use runner_core::source::{SourceError, Ticket};
use tempfile::NamedTempFile;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::{ARCHIVE, kind, name};

/// What store and server share: with the same key, any manager's requests are good at any server.
#[derive(Clone)]
struct Grants(hmac::Key);

impl Grants {
    fn new(key: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes()))
    }

    fn header(&self, method: &str, name: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{method} {name}").as_bytes());
        format!("Bearer {}", BASE64.encode(tag))
    }

    /// Whether a header is the one that [`header`](Self::header) makes, in constant time.
    fn allow(&self, method: &Method, name: &str, header: &str) -> bool {
        let tag = header.strip_prefix("Bearer ").and_then(|tag| BASE64.decode(tag).ok());
        tag.is_some_and(|tag| {
            hmac::verify(&self.0, format!("{method} {name}").as_bytes(), &tag).is_ok()
        })
    }
}

/// Tells jobs where the directory's server is.
pub struct DirectoryStore {
    url: String,
    grants: Grants,
}

impl DirectoryStore {
    /// A store behind a server at this address, e.g. `http://artifacts.ci.svc:8080`, with the key of
    /// that server.
    pub fn new(url: impl Into<String>, key: &Secret) -> Self {
        Self { url: url.into(), grants: Grants::new(key) }
    }

    fn transfer(&self, method: &str, name: &str, job: &Job) -> Transfer {
        let transfer = HttpTransfer::new(method, format!("{}/{name}", self.url), job.timeout);
        Transfer::Http(transfer.header("authorization", self.grants.header(method, name)))
    }
}

#[async_trait]
impl ArtifactStore for DirectoryStore {
    async fn upload(
        &self,
        job: &Job,
        _ticket: &Ticket,
        artifact: &Artifact,
    ) -> Result<Option<Transfer>, SourceError> {
        Ok(Some(self.transfer("PUT", &name(job.id, kind(artifact)), job)))
    }

    async fn download(
        &self,
        job: &Job,
        _ticket: &Ticket,
        dependency: &Dependency,
    ) -> Result<Transfer, SourceError> {
        Ok(self.transfer("GET", &name(dependency.id, ARCHIVE), job))
    }
}

struct Shelf {
    directory: PathBuf,
    grants: Grants,
}

/// The server of a directory: `PUT /NAME` and `GET /NAME`, for whoever has a manager's word for it.
pub fn router(directory: impl Into<PathBuf>, key: &Secret) -> Router {
    let shelf = Shelf { directory: directory.into(), grants: Grants::new(key) };
    Router::new().route("/{name}", put(store).get(fetch)).with_state(Arc::new(shelf))
}

/// The file, if this request may have it.
fn granted(shelf: &Shelf, name: &str, request: &Request) -> Result<PathBuf, StatusCode> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match header.is_some_and(|header| shelf.grants.allow(request.method(), name, header)) {
        // No store signs a name with a slash in it.
        true => Ok(shelf.directory.join(name)),
        false => Err(StatusCode::FORBIDDEN),
    }
}

async fn store(
    State(shelf): State<Arc<Shelf>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<StatusCode, Failed> {
    let place = granted(&shelf, &name, &request)?;
    // Whole or not at all: it gets its name when its last byte is on the disk, and an upload that is
    // said again takes the place of the first.
    let new = NamedTempFile::new_in(&shelf.directory)?;
    let mut file = tokio::fs::File::from_std(new.reopen()?);
    let body = request.into_body().into_data_stream().map_err(io::Error::other);
    tokio::io::copy(&mut StreamReader::new(body), &mut file).await?;
    file.sync_all().await?;
    new.persist(place).map_err(|error| error.error)?;
    Ok(StatusCode::CREATED)
}

async fn fetch(
    State(shelf): State<Arc<Shelf>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Body, Failed> {
    let place = granted(&shelf, &name, &request)?;
    let file = tokio::fs::File::open(place).await?;
    Ok(Body::from_stream(ReaderStream::new(file)))
}

/// Why there is no answer of value.
struct Failed(StatusCode);

impl From<StatusCode> for Failed {
    fn from(status: StatusCode) -> Self {
        Self(status)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self(match error.kind() {
            io::ErrorKind::NotFound => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        })
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}
