//! How people look into a running job: a terminal, and ports of its services.
//!
//! ```text
//!   person ─► Sessions (who serves people) ─► Door (the executor's way into the job) ─► Terminal
//!                      │
//!                      └── Visitors: how many are inside; a job that is over waits for them a while
//! ```
//!
//! A source may hand a key out with each job ([`JobSource::session`](crate::source::JobSource::session)).
//! It is part of the job's ticket, so whichever manager has the job knows the same key. How people
//! get here is not this module's business.
//!
//! An executor's end, with a shell that says everything back, and a server's end, which types one line:
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use std::time::Duration;
//!
//! use async_trait::async_trait;
//! use bytes::Bytes;
//! use runner_core::ids::JobId;
//! use runner_core::session::{
//!     Door, DoorError, PortStream, SessionKey, Sessions, Terminal, Visitors,
//! };
//! use runner_core::wire::TerminalFrame;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! struct Echo(Vec<TerminalFrame>);
//!
//! #[async_trait]
//! impl Terminal for Echo {
//!     async fn next(&mut self) -> Option<TerminalFrame> {
//!         self.0.pop() // no `await`, so a dropped future loses nothing
//!     }
//!
//!     async fn send(&mut self, frame: TerminalFrame) -> Result<(), DoorError> {
//!         if let TerminalFrame::Keys(typed) = frame {
//!             self.0.insert(0, TerminalFrame::Screen(typed));
//!         }
//!         Ok(())
//!     }
//!
//!     async fn close(self: Box<Self>) {}
//! }
//!
//! struct Hall;
//!
//! #[async_trait]
//! impl Door for Hall {
//!     async fn terminal(&self) -> Result<Box<dyn Terminal>, DoorError> {
//!         Ok(Box::new(Echo(Vec::new())))
//!     }
//!
//!     async fn port(&self, port: u16) -> Result<Box<dyn PortStream>, DoorError> {
//!         // Anything that reads and writes: a socket, or this.
//!         let (here, mut there) = tokio::io::duplex(64);
//!         there.write_all(format!("port {port}").as_bytes()).await.expect("it has room");
//!         Ok(Box::new(here))
//!     }
//! }
//!
//! /// Who may look into what, until the guard goes.
//! #[derive(Clone, Default)]
//! struct Desk(Arc<Mutex<Vec<(SessionKey, Arc<dyn Door>)>>>);
//! struct Guard(Desk, String);
//!
//! impl Sessions for Desk {
//!     fn open(
//!         &self,
//!         _job: JobId,
//!         key: SessionKey,
//!         door: Arc<dyn Door>,
//!         _visitors: Visitors,
//!     ) -> Box<dyn Send + Sync> {
//!         let guard = Guard(self.clone(), key.id.clone());
//!         self.0.lock().unwrap().push((key, door));
//!         Box::new(guard)
//!     }
//!
//!     fn patience(&self) -> Duration {
//!         Duration::from_secs(30)
//!     }
//! }
//!
//! impl Drop for Guard {
//!     fn drop(&mut self) {
//!         self.0.0.lock().unwrap().retain(|(key, _)| key.id != self.1);
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (desk, visitors) = (Desk::default(), Visitors::new());
//! let key = SessionKey { id: "s1".into(), token: "t0k3n".into(), ports: Vec::new() };
//! let open = desk.open(JobId(7), key, Arc::new(Hall), visitors.clone()); // the manager does
//!
//! let door = Arc::clone(&desk.0.lock().unwrap()[0].1); // for whoever shows the token
//! let inside = visitors.enter();
//! let mut terminal = door.terminal().await?;
//! terminal.send(TerminalFrame::Keys(Bytes::from_static(b"ls\n"))).await?;
//! assert_eq!(terminal.next().await, Some(TerminalFrame::Screen(Bytes::from_static(b"ls\n"))));
//! terminal.close().await;
//! let mut answer = String::new();
//! door.port(5432).await?.read_to_string(&mut answer).await?;
//! assert_eq!(answer, "port 5432");
//!
//! assert_eq!(visitors.count(), 1);
//! drop(inside);
//! visitors.all_left().await; // the job is over, and nobody is inside any more
//! drop(open);
//! assert!(desk.0.lock().unwrap().is_empty());
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ids::JobId;
use crate::secret::Secret;
use crate::wire::TerminalFrame;

/// What a person must know to look into a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKey {
    /// Names the session. Not secret: it may stand in labels and logs.
    pub id: String,
    /// Proves that its bearer may look.
    pub token: Secret,
    /// Ports that it may connect to.
    pub ports: Vec<SessionPort>,
}

/// A port that a job's author has declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPort {
    /// What the container is called, e.g. an alias of a service.
    pub host: String,
    /// Number.
    pub number: u16,
    /// What the port is called; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What is spoken there.
    pub scheme: PortScheme,
}

/// What is spoken at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortScheme {
    /// HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// Why somebody does not get in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DoorError {
    /// The job is over, or does not run (any more).
    #[error("the job does not run: {0}")]
    Closed(String),
    /// The job may be fine, but the way into it is not.
    #[error("the job's container cannot be reached: {0}")]
    Unreachable(String),
}

/// An executor's way into a job. It works for any manager, whoever follows the job.
#[async_trait]
pub trait Door: Send + Sync + 'static {
    /// Opens a shell in the container of the job's commands. Waits for it to run, for as long as the
    /// caller does.
    ///
    /// # Errors
    /// When there is none, and there will be none.
    async fn terminal(&self) -> Result<Box<dyn Terminal>, DoorError>;

    /// Connects to a port on which something in the job listens.
    ///
    /// # Errors
    /// When that cannot even be tried; that nobody listens is an end of the stream.
    async fn port(&self, port: u16) -> Result<Box<dyn PortStream>, DoorError>;
}

/// A shell. Dropping it ends the shell, perhaps before it has seen all that was typed.
#[async_trait]
pub trait Terminal: Send {
    /// What is to be shown, or the end; `None` after that. Cancel safe.
    async fn next(&mut self) -> Option<TerminalFrame>;

    /// What was typed, or a new size. Cancel safe.
    ///
    /// # Errors
    /// When the shell is gone.
    async fn send(&mut self, frame: TerminalFrame) -> Result<(), DoorError>;

    /// Lets the shell have what was typed, and ends it. Takes some seconds at most.
    async fn close(self: Box<Self>);
}

/// A connection to a port.
pub trait PortStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> PortStream for T {}

/// Serves people.
pub trait Sessions: Send + Sync + 'static {
    /// This job may be looked into with this key, until the result is dropped.
    fn open(
        &self,
        job: JobId,
        key: SessionKey,
        door: Arc<dyn Door>,
        visitors: Visitors,
    ) -> Box<dyn Send + Sync>;

    /// How long a job that is over waits for those inside to leave.
    fn patience(&self) -> Duration;
}

/// Counts who is inside a job, and shows them out when it ends.
#[derive(Clone, Debug)]
pub struct Visitors {
    count: Arc<watch::Sender<usize>>,
    closed: CancellationToken,
}

/// Somebody inside, until dropped.
#[derive(Debug)]
#[must_use = "whoever is dropped has left"]
pub struct Visitor(Visitors);

impl Visitors {
    /// Nobody is inside.
    #[must_use]
    pub fn new() -> Self {
        Self { count: Arc::new(watch::Sender::new(0)), closed: CancellationToken::new() }
    }

    /// Somebody comes in.
    pub fn enter(&self) -> Visitor {
        self.count.send_modify(|count| *count += 1);
        Visitor(self.clone())
    }

    /// How many are inside.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until nobody is inside. Cancel safe.
    pub async fn all_left(&self) {
        // The sender is ours, so it does not go.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Shows everybody out: the job ends.
    pub fn close(&self) {
        self.closed.cancel();
    }
}

impl Default for Visitors {
    fn default() -> Self {
        Self::new()
    }
}

impl Visitor {
    /// Waits until everybody has to leave. Cancel safe.
    pub async fn shown_out(&self) {
        self.0.closed.cancelled().await;
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::Visitors;

    #[tokio::test]
    async fn visitors_are_counted_until_they_leave_and_shown_out_at_the_end() {
        let visitors = Visitors::new();
        visitors.all_left().await;
        let (one, two) = (visitors.enter(), visitors.enter());
        assert_eq!(visitors.count(), 2);
        drop(one);
        visitors.close();
        two.shown_out().await;
        drop(two);
        visitors.all_left().await;
    }
}
