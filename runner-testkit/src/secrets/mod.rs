//! Stand-ins for services that hold secrets: Vault, OpenBao, Google Cloud, Azure, AWS.
//!
//! They are **not** those services, of which none can be had from a package registry. Each checks
//! what it is sent as strictly as the service's documentation allows (method, path, headers, every
//! field of a body, signatures), answers what that documents, and refuses the rest with the status
//! and the error body that the real one would use. What they cannot show is that the documentation
//! is right.

mod aws;
mod azure;
mod google;
mod vault;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Which service is stood in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// HashiCorp Vault: a login, then a read. Names of secrets are `<engine path>/<path>`, of which
    /// the value is a JSON object of fields.
    Vault,
    /// The same with the login in the request's headers (OpenBao).
    OpenBao,
    /// Google's token exchange and Secret Manager. Names are `projects/<n>/secrets/<name>`.
    Google,
    /// Azure's sign-in and Key Vault. Names are those of secrets.
    Azure,
    /// AWS's token service and Secrets Manager. Names are those of secrets.
    Aws,
}

/// A stand-in on a port of its own. Dropping it ends it.
#[derive(Debug)]
pub struct SecretService {
    url: String,
    state: Arc<Mutex<Shelf>>,
    task: JoinHandle<()>,
}

/// What a stand-in holds and expects.
#[derive(Debug)]
struct Shelf {
    service: Service,
    /// The token that a job shows.
    jwt: String,
    /// Vault's namespace, role and login mount.
    namespace: Option<String>,
    secrets: BTreeMap<String, String>,
    failures: Vec<u16>,
    seen: Vec<String>,
}

/// What came in.
struct Call<'a> {
    method: &'a Method,
    path: &'a str,
    query: &'a str,
    headers: &'a HeaderMap,
    body: &'a [u8],
}

/// A status and a body.
type Reply = (u16, String);

impl SecretService {
    /// Starts one that accepts this token of a job.
    ///
    /// # Errors
    /// When there is no port on the loopback interface.
    pub async fn start(service: Service, jwt: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shelf = Shelf {
            service,
            jwt: jwt.to_owned(),
            namespace: None,
            secrets: BTreeMap::new(),
            failures: Vec::new(),
            seen: Vec::new(),
        };
        let state = Arc::new(Mutex::new(shelf));
        let router = Router::new().fallback(handle).with_state(Arc::clone(&state));
        let task = tokio::spawn(async move {
            // It ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, state, task })
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts a secret on the shelf.
    pub fn put(&self, name: &str, value: &str) {
        self.state.lock().secrets.insert(name.to_owned(), value.to_owned());
    }

    /// Vault answers in this namespace only.
    pub fn use_namespace(&self, namespace: &str) {
        self.state.lock().namespace = Some(namespace.to_owned());
    }

    /// The next requests are answered with these statuses, one each.
    pub fn fail_with(&self, statuses: impl IntoIterator<Item = u16>) {
        self.state.lock().failures.extend(statuses);
    }

    /// Method and path of each request so far.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        self.state.lock().seen.clone()
    }
}

impl Drop for SecretService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn handle(
    State(shelf): State<Arc<Mutex<Shelf>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut shelf = shelf.lock();
    shelf.seen.push(format!("{method} {}", uri.path()));
    if !shelf.failures.is_empty() {
        let status = shelf.failures.remove(0);
        return respond((status, r#"{"errors":["told to fail"]}"#.to_owned()));
    }
    let query = uri.query().unwrap_or_default();
    let call = Call { method: &method, path: uri.path(), query, headers: &headers, body: &body };
    respond(match shelf.service {
        Service::Vault => vault::answer(&shelf, &call),
        Service::OpenBao => vault::answer_inline(&shelf, &call),
        Service::Google => google::answer(&shelf, &call),
        Service::Azure => azure::answer(&shelf, &call),
        Service::Aws => aws::answer(&shelf, &call),
    })
}

fn respond((status, body): Reply) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, body).into_response()
}

impl Call<'_> {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn is(&self, method: Method, path: &str) -> bool {
        self.method == method && self.path == path
    }

    /// The fields of a form, percent-decoded.
    fn form(&self) -> BTreeMap<String, String> {
        if self.header("content-type") != "application/x-www-form-urlencoded" {
            return BTreeMap::new();
        }
        String::from_utf8_lossy(self.body)
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (decoded(key), decoded(value)))
            .collect()
    }

    /// The body as JSON, when it says that it is.
    fn json(&self) -> serde_json::Value {
        match self.header("content-type").starts_with("application/json") {
            true => serde_json::from_slice(self.body).unwrap_or_default(),
            false => serde_json::Value::Null,
        }
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits: Vec<_> = rest.by_ref().take(2).map(char::from).collect();
                let digits: String = digits.into_iter().collect();
                u8::from_str_radix(&digits, 16).unwrap_or(b'%')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
