//! Breaking connections on purpose, at a known byte or at random from a seed.
//!
//! This module owns [`FaultProxy`], a TCP proxy for one connection to one server, and [`LoopbackPort`],
//! a port on which a server can go away and come back. It knows nothing of what the bytes mean, so
//! it hurts HTTP, TLS, websockets and SPDY alike.
//!
//! ```text
//!   client ──► FaultProxy ──► server      Direction::ToServer
//!          ◄──            ◄──             Direction::ToClient
//! ```
//!
//! ```
//! use runner_testkit::fault::{Direction, Fault, FaultPlan, FaultProxy};
//! # use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let proxy = FaultProxy::start(server.local_addr()?).await?;
//! proxy.set(FaultPlan::each(Fault::Close).at(Direction::ToClient, 3).times(1));
//!
//! let mut client = tokio::net::TcpStream::connect(proxy.addr()).await?;
//! let (mut at_server, _) = server.accept().await?;
//! at_server.write_all(b"hello").await?;
//! let mut got = String::new();
//! client.read_to_string(&mut got).await?;
//! assert_eq!(got, "hel");
//! assert_eq!(proxy.counts().closed, 1);
//! # Ok(())
//! # }
//! ```

mod plan;
mod port;
mod proxy;

pub use plan::{Direction, Fault, FaultPlan};
pub use port::{LoopbackPort, reset_when_closed};
pub use proxy::{FaultCounts, FaultProxy};
