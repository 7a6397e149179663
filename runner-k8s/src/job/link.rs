//! The seam between the state machine and a stream, so that tests need no cluster.

use std::time::Duration;

use async_trait::async_trait;
use kube::Client;
use parking_lot::Mutex;
use runner_core::layout;
use runner_core::wire::{AgentFrame, ManagerFrame};

use crate::pod::HELPER;
use crate::stream::{ExecTarget, OpenErrorKind, Session, Transport, open};

/// A conversation with an agent.
#[async_trait]
pub trait AgentLink: Send {
    /// The next frame. Cancel safe.
    async fn next(&mut self) -> Result<AgentFrame, String>;

    /// Says something. Cancel safe.
    async fn send(&mut self, frame: ManagerFrame) -> Result<(), String>;

    /// Sends what is queued and ends.
    async fn close(self: Box<Self>);
}

/// Why there is no conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkError {
    /// The role does not allow it by any transport.
    pub refused: bool,
    /// For the operator.
    pub message: String,
    /// What the API server asks for.
    pub retry_after: Option<Duration>,
}

/// Opens conversations.
#[async_trait]
pub trait Connect: Send + Sync + 'static {
    /// With the agent of this pod.
    async fn connect(&self, namespace: &str, pod: &str) -> Result<Box<dyn AgentLink>, LinkError>;
}

/// By exec: websocket first, SPDY where that is refused; what worked is remembered for all jobs.
pub struct ExecConnector {
    client: Client,
    transport: Mutex<Transport>,
}

impl ExecConnector {
    /// With this client, which must have no deadline for answers.
    pub fn new(client: Client) -> Self {
        Self { client, transport: Mutex::new(Transport::WebSocket) }
    }
}

impl std::fmt::Debug for dyn AgentLink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AgentLink")
    }
}

#[async_trait]
impl Connect for ExecConnector {
    async fn connect(&self, namespace: &str, pod: &str) -> Result<Box<dyn AgentLink>, LinkError> {
        let target = ExecTarget {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            container: HELPER.to_owned(),
            command: vec![layout::AGENT.to_owned(), "relay".to_owned()],
        };
        let transport = *self.transport.lock();
        let mut error = match open(&self.client, &target, transport).await {
            Ok(session) => return Ok(Box::new(session)),
            Err(error) => error,
        };
        if let Some(other) = error.suggests() {
            match open(&self.client, &target, other).await {
                Ok(session) => {
                    *self.transport.lock() = other;
                    return Ok(Box::new(session));
                }
                Err(second) => error = second,
            }
        }
        let refused = matches!(error.kind, OpenErrorKind::Forbidden | OpenErrorKind::Upgrade);
        let retry_after = error.retry_after;
        Err(LinkError { refused, message: error.to_string(), retry_after })
    }
}

#[async_trait]
impl AgentLink for Session {
    async fn next(&mut self) -> Result<AgentFrame, String> {
        Session::next(self).await.map_err(|end| end.to_string())
    }

    async fn send(&mut self, frame: ManagerFrame) -> Result<(), String> {
        Session::send(self, frame).await.map_err(|end| end.to_string())
    }

    async fn close(self: Box<Self>) {
        Session::close(*self).await;
    }
}
