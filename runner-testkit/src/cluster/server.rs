//! The listening socket and its connections.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::api;
use super::line::LineIo;
use super::shared::Shared;

/// The body of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A whole body.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// What the listener is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum ServerOrder {
    /// Cut every connection and refuse new ones for this long.
    Away(Duration),
    /// Refuse no longer.
    Back,
}

/// Serves until the order channel closes.
pub(super) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    address: SocketAddr,
    mut orders: mpsc::UnboundedReceiver<ServerOrder>,
) {
    let mut listener = Some(listener);
    let mut back_at = Instant::now();
    loop {
        tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(ServerOrder::Away(time)) => {
                    // With no socket that listens, the kernel refuses connections.
                    listener = None;
                    shared.lines.cut_all();
                    back_at = Instant::now() + time;
                }
                Some(ServerOrder::Back) => back_at = Instant::now(),
                None => {
                    shared.lines.cut_all();
                    return;
                }
            },
            () = sleep_until(back_at), if listener.is_none() => match TcpListener::bind(address).await {
                Ok(bound) => listener = Some(bound),
                // Somebody else's connection has the port for a moment.
                Err(_) => back_at = Instant::now() + Duration::from_millis(50),
            },
            accepted = accept(listener.as_ref()), if listener.is_some() => match accepted {
                Ok(tcp) => {
                    // Latency counts, and a failure to set it does not matter.
                    drop(tcp.set_nodelay(true));
                    let io = LineIo::new(tcp, shared.lines.clone());
                    shared.tasks.spawn(connection(shared.clone(), io));
                }
                // Out of descriptors: others will be closed meanwhile.
                Err(_) => sleep(Duration::from_millis(20)).await,
            },
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

/// Serves one connection to its end.
pub(super) async fn connection(shared: Arc<Shared>, io: LineIo) {
    let line = io.line.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, line) = (shared.clone(), line.clone());
        async move { Ok::<Response<Body>, Infallible>(api::serve(shared, line, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the simulated API server has ended");
    }
}
