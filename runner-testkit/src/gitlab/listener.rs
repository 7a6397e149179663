//! The accept loops: ports that can be left and come back to, connections that can be reset.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::http;
use super::server::Inner;
use crate::fault::{LoopbackPort, reset_when_closed};

/// Which of the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    GitLab,
    ObjectStorage,
}

pub(super) struct Listeners {
    gitlab: LoopbackPort,
    storage: LoopbackPort,
    tls: Option<Tls>,
    accepting: Mutex<Option<Accepting>>,
    /// Cancelled to reset what is open; then replaced.
    open: Mutex<Open>,
    accepted: AtomicU64,
}

#[derive(Default)]
struct Open {
    killed: CancellationToken,
    connections: TaskTracker,
}

struct Accepting {
    until: CancellationToken,
    loops: [JoinHandle<()>; 2],
}

#[cfg(feature = "tls")]
struct Tls {
    ca_pem: String,
    acceptor: tokio_rustls::TlsAcceptor,
}

/// Never made without the feature.
#[cfg(not(feature = "tls"))]
enum Tls {}

impl Listeners {
    pub(super) fn reserve(bind: SocketAddr, tls: bool) -> io::Result<Self> {
        let gitlab = LoopbackPort::reserve_at(bind)?;
        #[cfg(feature = "tls")]
        let tls = if tls {
            let (ca_pem, acceptor) = super::tls::throw_away(bind.ip())?;
            Some(Tls { ca_pem, acceptor })
        } else {
            None
        };
        #[cfg(not(feature = "tls"))]
        let tls = {
            debug_assert!(!tls, "the builder has no such method without the feature");
            None
        };
        Ok(Self {
            gitlab,
            storage: LoopbackPort::reserve_at(SocketAddr::new(bind.ip(), 0))?,
            tls,
            accepting: Mutex::default(),
            open: Mutex::default(),
            accepted: AtomicU64::new(0),
        })
    }

    pub(super) fn addr(&self, origin: Origin) -> SocketAddr {
        match origin {
            Origin::GitLab => self.gitlab.addr(),
            Origin::ObjectStorage => self.storage.addr(),
        }
    }

    pub(super) fn url(&self, origin: Origin) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr(origin))
    }

    pub(super) fn ca_pem(&self) -> Option<&str> {
        #[cfg(feature = "tls")]
        return self.tls.as_ref().map(|tls| tls.ca_pem.as_str());
        #[cfg(not(feature = "tls"))]
        None
    }

    pub(super) fn open(inner: &Arc<Inner>) -> io::Result<()> {
        let mut accepting = inner.listeners.accepting.lock();
        if accepting.is_some() {
            return Ok(());
        }
        let until = inner.stop.child_token();
        let start = |origin, listener| {
            // It holds the server, and ends when the server's last handle is dropped, because that
            // cancels `stop`.
            inner.tasks.spawn(accept(inner.clone(), origin, listener, until.clone()))
        };
        let listeners = (inner.listeners.gitlab.listen()?, inner.listeners.storage.listen()?);
        let loops = [start(Origin::GitLab, listeners.0), start(Origin::ObjectStorage, listeners.1)];
        *accepting = Some(Accepting { until, loops });
        Ok(())
    }

    pub(super) async fn close(inner: &Arc<Inner>) {
        let accepting = inner.listeners.accepting.lock().take();
        if let Some(Accepting { until, loops }) = accepting {
            until.cancel();
            for accept_loop in loops {
                // Until it has dropped its listener the kernel still takes connections.
                let _ = accept_loop.await;
            }
        }
        inner.listeners.reset_connections().await;
    }

    /// They are closed when it returns.
    pub(super) async fn reset_connections(&self) {
        let Open { killed, connections } = std::mem::take(&mut *self.open.lock());
        killed.cancel();
        connections.close();
        connections.wait().await;
    }
}

/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

async fn accept(
    inner: Arc<Inner>,
    origin: Origin,
    listener: TcpListener,
    until: CancellationToken,
) {
    loop {
        let stream = tokio::select! {
            biased;
            () = until.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // The client has gone, or there are no file descriptors, and then asking again at
                // once would only burn the processor.
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let number = inner.listeners.accepted.fetch_add(1, Ordering::Relaxed);
        let _ = stream.set_nodelay(true);
        // A second handle on the socket: hyper owns the first, and a reset is asked for after hyper
        // has let go of it.
        let Ok(socket) = stream.as_fd().try_clone_to_owned() else { continue };
        let open = inner.listeners.open.lock();
        let killed = open.killed.clone();
        open.connections.spawn(connection(inner.clone(), origin, number, stream, socket, killed));
    }
}

async fn connection(
    inner: Arc<Inner>,
    origin: Origin,
    number: u64,
    stream: TcpStream,
    socket: OwnedFd,
    killed: CancellationToken,
) {
    let stop = inner.stop.clone();
    let served = async {
        #[cfg(feature = "tls")]
        if let Some(tls) = &inner.listeners.tls {
            return match tls.acceptor.clone().accept(stream).await {
                Ok(stream) => serve(inner.clone(), origin, number, stream).await,
                // A client that does not trust the authority; it knows.
                Err(_) => Ok(()),
            };
        }
        serve(inner.clone(), origin, number, stream).await
    };
    // Both arms have let go of hyper's handle when the last one is closed at the end.
    let reset = tokio::select! {
        biased;
        () = stop.cancelled() => true,
        () = killed.cancelled() => true,
        served = served => served.is_err(),
    };
    if reset {
        reset_when_closed(&socket);
    }
}

async fn serve(
    inner: Arc<Inner>,
    origin: Origin,
    number: u64,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<()> {
    let service = service_fn(move |request| http::serve(inner.clone(), origin, number, request));
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
}
