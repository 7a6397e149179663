//! HTTP over TLS: who may come in, and where to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runner_k8s::KubernetesSettings;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::address::Addresses;
use super::certificate::Certificate;
use super::registry::Registry;
use super::{proxy, terminal};

/// Connections at once. GitLab opens one for each person who looks, and some for services.
const CONNECTIONS: usize = 512;
/// How long a client may take for its handshake, and for the head of a request.
const SLOWEST: Duration = Duration::from_secs(10);

/// A body of either kind.
pub(super) type Body = BoxBody<Bytes, std::io::Error>;

/// What a request needs.
#[derive(Clone)]
pub(super) struct House {
    pub(super) registry: Arc<Registry>,
    /// Terminals, which outlive their requests.
    pub(super) tasks: TaskTracker,
}

/// The server, bound and with its certificate.
pub(crate) struct SessionServer {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    house: House,
}

impl SessionServer {
    /// Binds the address. `cluster`: where the certificate is kept for all managers of it.
    ///
    /// # Errors
    /// When the address is taken or the certificate's files cannot be used.
    pub(crate) async fn start(
        addresses: &Addresses,
        cluster: Option<&KubernetesSettings>,
    ) -> anyhow::Result<Self> {
        let Addresses { listen, advertise, host, files, timeout } = addresses;
        let certificate = match files {
            Some((certificate, key)) => Certificate::read(certificate, key)?,
            None => Certificate::common(host, advertise, cluster).await?,
        };
        let acceptor = TlsAcceptor::from(certificate.server()?);
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("the session server cannot listen on {listen}"))?;
        let address = listener.local_addr().ok();
        info!(?address, advertised = advertise, "Session server listening");
        // A test, or somebody who lets the kernel choose, wants to know the real port.
        let advertise = match (advertise.strip_suffix(":0"), address) {
            (Some(host), Some(address)) => format!("{host}:{}", address.port()),
            _ => advertise.clone(),
        };
        let registry = Arc::new(Registry::new(&advertise, certificate.pem, *timeout));
        let house = House { registry, tasks: TaskTracker::new() };
        Ok(Self { listener, acceptor, house })
    }

    /// What is shared with the runners.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.house.registry)
    }

    /// Serves until dropped.
    pub(crate) async fn serve(self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let tasks = self.house.tasks.clone();
        loop {
            // Never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (stream, from) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to be closed.
                    warn!(%error, "the session server cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (acceptor, house) = (self.acceptor.clone(), self.house.clone());
            tasks.spawn(async move {
                connection(stream, from, acceptor, house).await;
                drop(place);
            });
        }
    }
}

async fn connection(stream: TcpStream, from: SocketAddr, acceptor: TlsAcceptor, house: House) {
    let stream = match timeout(SLOWEST, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            debug!(%from, %error, "no TLS with a client of the session server");
            return;
        }
        Err(_) => return,
    };
    let service = service_fn(move |request| {
        let house = house.clone();
        async move { Ok::<_, Infallible>(answer(&house, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SLOWEST)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        debug!(%from, %error, "a connection of the session server ended");
    }
}

async fn answer(house: &House, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let Some((id, rest)) = path.strip_prefix("/session/").and_then(|rest| rest.split_once('/'))
    else {
        return status(StatusCode::NOT_FOUND);
    };
    let Some(open) = house.registry.find(id).await else {
        warn!("a request for a session of no running job");
        return status(StatusCode::NOT_FOUND);
    };
    let authorization = request.headers().get(AUTHORIZATION);
    if !authorization.is_some_and(|value| open.admits(value.as_bytes())) {
        warn!(job = %open.job, "a request for a session with a wrong token");
        return status(StatusCode::UNAUTHORIZED);
    }
    match rest.strip_prefix("proxy/") {
        Some(rest) => {
            let rest = rest.to_owned();
            proxy::answer(&open, &rest, request).await
        }
        None if rest == "exec" => terminal::answer(house, open, request).await,
        None => status(StatusCode::NOT_FOUND),
    }
}

/// An answer without a body of its own.
pub(super) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(text(status.canonical_reason().unwrap_or_default()));
    *response.status_mut() = status;
    response
}

fn text(text: &'static str) -> Body {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed()
}
