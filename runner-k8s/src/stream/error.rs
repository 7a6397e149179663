//! How a stream fails to open, and how it ends.

use std::sync::Arc;
use std::time::Duration;
use std::{error, fmt, io};

use kube::core::Status;
use runner_core::wire::FrameError;

use super::target::{ExecTarget, Transport};

/// Why there is no session.
#[derive(Debug)]
pub struct OpenError {
    /// What it means for the caller.
    pub kind: OpenErrorKind,
    /// By which transport it was tried.
    pub transport: Transport,
    /// What the API server said, where it answered at all.
    pub status: Option<Box<Status>>,
    /// How long the API server asks to wait (429, 503).
    pub retry_after: Option<Duration>,
    pub(super) target: ExecTarget,
    pub(super) source: Option<Box<dyn error::Error + Send + Sync>>,
}

/// What an [`OpenError`] means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenErrorKind {
    /// 401: the credentials are not valid (any more).
    Unauthorized,
    /// 403: the role does not allow it. By websocket: try SPDY, which needs only `create`.
    Forbidden,
    /// 404: there is no such pod (any more).
    NotFound,
    /// 429: later.
    TooManyRequests,
    /// Another 4xx, e.g. a container that does not exist or does not run yet.
    Rejected,
    /// 5xx: the API server, the kubelet or something between them; later. A container that is not
    /// ready to be entered is one, too.
    Server,
    /// The answer is neither an error nor the upgrade that was asked for: something between us and
    /// the API server does not pass this transport on. Try the other one.
    Upgrade,
    /// There was no answer; later.
    Unreachable,
    /// There was no answer in time; later.
    TimedOut,
}

impl OpenError {
    /// Whether the other transport can succeed where this one did not: 403 by websocket, or a
    /// proxy that does not pass the upgrade on.
    pub fn suggests(&self) -> Option<Transport> {
        match (self.kind, self.transport) {
            (OpenErrorKind::Forbidden | OpenErrorKind::Upgrade, Transport::WebSocket) => {
                Some(Transport::Spdy)
            }
            (OpenErrorKind::Upgrade, Transport::Spdy) => Some(Transport::WebSocket),
            _ => None,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, transport, .. } = self;
        write!(formatter, "no {transport} stream into {target}: ")?;
        match self.kind {
            OpenErrorKind::Unauthorized => write!(formatter, "the credentials are not accepted")?,
            OpenErrorKind::Forbidden if self.transport == Transport::WebSocket => {
                write!(formatter, "the role does not allow get on pods/exec")?;
            }
            OpenErrorKind::Forbidden => {
                write!(formatter, "the role does not allow create on pods/exec")?;
            }
            OpenErrorKind::NotFound => write!(formatter, "there is no such pod")?,
            OpenErrorKind::TooManyRequests => write!(formatter, "the API server is busy")?,
            OpenErrorKind::Rejected => write!(formatter, "the API server refuses")?,
            OpenErrorKind::Server => write!(formatter, "the API server or kubelet failed")?,
            OpenErrorKind::Upgrade => {
                write!(formatter, "the connection was not upgraded (a proxy between?)")?;
            }
            OpenErrorKind::Unreachable => write!(formatter, "the API server was not reached")?,
            OpenErrorKind::TimedOut => write!(formatter, "no answer in time")?,
        }
        match &self.status {
            Some(status) => write!(formatter, " ({}: {})", status.code, status.message),
            None => Ok(()),
        }
    }
}

impl error::Error for OpenError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

/// How a session ended. None of these is a success of the job: only a verdict frame tells how the
/// job ended, whatever the relay's exit status is.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The command ended by itself with this status.
    #[error("the relay exited with status {code}{stderr}")]
    Exited {
        /// Its exit status.
        code: i32,
        /// The end of what it wrote to stderr.
        stderr: StderrTail,
    },
    /// The command was not run, or was taken away: no such program, container gone.
    #[error("the relay did not run to its end: {}{stderr}", .status.message)]
    Refused {
        /// What the kubelet said.
        status: Box<Status>,
        /// The end of what the command wrote to stderr.
        stderr: StderrTail,
    },
    /// The connection broke.
    #[error("the stream was lost")]
    Lost(#[source] Arc<LostError>),
    /// The connection was closed in good order, but nobody said how the command ended.
    #[error("the stream was closed without an exit status{stderr}")]
    ClosedWithoutStatus {
        /// The end of what the command wrote to stderr.
        stderr: StderrTail,
    },
    /// What arrived are not frames: not an agent, or not one of ours.
    #[error("the relay does not speak the protocol")]
    Protocol(#[source] Arc<FrameError>),
    /// Nothing came for too long.
    #[error("{0}")]
    Silent(Silence),
}

/// Who was silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// The other end of the connection, which did not even answer pings.
    #[error("the API server did not answer for {0:?}")]
    Connection(Duration),
    /// The command: the connection is alive, but no agent's heartbeat came through it.
    #[error("the relay said nothing for {0:?}")]
    Agent(Duration),
}

/// Why a connection was lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LostError {
    /// Reading or writing failed, or the connection ended without a farewell.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The other side broke the rules of the transport.
    #[error("the {transport} connection broke the rules: {problem}")]
    Transport {
        /// Which transport.
        transport: Transport,
        /// What was wrong.
        problem: String,
    },
    /// [`close`](super::Session::close) was called.
    #[error("it was closed on our side")]
    Closed,
}

/// The last bytes that a command wrote to stderr, for the operator. At most [`StderrTail::LIMIT`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StderrTail(Vec<u8>);

impl StderrTail {
    /// How many bytes are kept.
    pub const LIMIT: usize = 4096;

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(Self::LIMIT)..];
        let excess = (self.0.len() + bytes.len()).saturating_sub(Self::LIMIT);
        self.0.drain(..excess);
        self.0.extend_from_slice(bytes);
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for StderrTail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// Shows `: text` on one line, without control characters; nothing where there is no text.
impl fmt::Display for StderrTail {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        let text = text.trim();
        if text.is_empty() {
            return Ok(());
        }
        write!(formatter, ": {}", text.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::StderrTail;

    #[test]
    fn stderr_keeps_only_its_end() {
        let mut tail = StderrTail::default();
        tail.push(&[b'a'; 3]);
        tail.push(&[b'b'; StderrTail::LIMIT - 1]);
        assert_eq!(tail.as_bytes().len(), StderrTail::LIMIT);
        assert!(tail.as_bytes().starts_with(b"ab"));
        tail.push(&[b'c'; 3 * StderrTail::LIMIT]);
        assert_eq!(tail.as_bytes(), [b'c'; StderrTail::LIMIT]);
    }
}
