//! A port that stays ours while nobody listens on it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};

/// A port on which a server can stop listening and start again.
///
/// Between the two, connections are refused, and no other program can be given the port: a second
/// socket is bound to it and never listens.
#[derive(Debug)]
pub struct LoopbackPort {
    addr: SocketAddr,
    _held: TcpSocket,
}

/// Connections that wait for `accept`; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

impl LoopbackPort {
    /// Takes a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When the system has none.
    pub fn reserve() -> io::Result<Self> {
        Self::reserve_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Takes this address; port 0 stands for a free one.
    ///
    /// # Errors
    /// When it is in use or not an address of this machine.
    pub fn reserve_at(addr: SocketAddr) -> io::Result<Self> {
        let held = shared_socket(addr)?;
        Ok(Self { addr: held.local_addr()?, _held: held })
    }

    /// Where it is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Listens until the listener is dropped.
    ///
    /// # Errors
    /// When the system refuses.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn listen(&self) -> io::Result<TcpListener> {
        shared_socket(self.addr)?.listen(BACKLOG)
    }
}

fn shared_socket(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Port sharing, and not only address reuse, is what lets the listener bind beside the holder.
    // The kernel never picks a shared port when asked for a free one.
    socket.set_reuseport(true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// Makes the peer see a reset instead of an end of stream when the last copy of this socket is closed.
pub fn reset_when_closed(socket: impl AsFd) {
    // It fails only for something that is not a socket, and then there is nothing to reset.
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn connections_are_refused_while_nobody_listens_and_taken_again_afterwards() {
        let port = LoopbackPort::reserve().unwrap();
        for _ in 0..3 {
            let refused = TcpStream::connect(port.addr()).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let listener = port.listen().unwrap();
            let (client, accepted) =
                tokio::join!(TcpStream::connect(port.addr()), listener.accept());
            client.unwrap();
            accepted.unwrap();
        }
    }
}
