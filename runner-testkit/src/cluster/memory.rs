//! A cluster in its caller's runtime: connections are pipes in memory.

use std::io;
use std::sync::Arc;

use tokio::io::DuplexStream;
use tokio::time::Instant;

use super::kubelet::pod::PodOrder;
use super::line::LineIo;
use super::server::{ServerOrder, connection};
use super::shared::Shared;

/// Bytes on their way in each direction, about what a socket holds.
const PIPE: usize = 64 << 10;

/// A new connection.
pub(super) fn connect(shared: &Arc<Shared>) -> io::Result<DuplexStream> {
    let away = *shared.away_until.lock();
    if away.is_some_and(|until| Instant::now() < until) {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the server is away"));
    }
    let (near, far) = tokio::io::duplex(PIPE);
    let io = LineIo::new(far, shared.lines.clone());
    shared.tasks.spawn(connection(shared.clone(), io));
    Ok(near)
}

/// Does what a listening server does by itself.
pub(super) fn obey(shared: &Arc<Shared>, order: ServerOrder) {
    match order {
        ServerOrder::Away(time) => {
            *shared.away_until.lock() = Some(Instant::now() + time);
            shared.lines.cut_all();
        }
        ServerOrder::Back => *shared.away_until.lock() = None,
    }
}

/// Ends every pod; the tasks end with the runtime.
pub(super) fn end(shared: &Arc<Shared>) {
    shared.lines.cut_all();
    for (_, orders) in shared.pods.lock().drain() {
        // A worker that has just ended takes no orders.
        drop(orders.send(PodOrder::Forget));
    }
}
