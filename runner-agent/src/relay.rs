//! What a manager starts in `helper`: passes bytes between its standard streams and the supervisor.
//!
//! It understands nothing of what it passes on. It ends when either side does, so a manager that
//! dropped its connection leaves no process behind: the supervisor ends silent sessions.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use runner_core::wire::{AgentCodec, AgentFrame, RefusalReason, Refused};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_buf};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};
use tokio_util::codec::Encoder;

/// How long to wait for a supervisor that is just starting.
const PATIENCE: Duration = Duration::from_secs(5);

/// Relays until one side ends.
///
/// # Errors
/// When a stream fails; the manager opens another one.
pub async fn relay(
    socket: &Path,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let Some(stream) = connect(socket).await else {
        return not_ready(output).await;
    };
    let (read, write) = stream.into_split();
    pass_on(read, write, input, output).await
}

/// Passes bytes between a relay's standard streams and a connection to the supervisor.
///
/// # Errors
/// When a stream fails.
pub async fn pass_on(
    read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
    input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut input = tokio::io::BufReader::with_capacity(16 * 1024, input);
    let mut read = tokio::io::BufReader::with_capacity(64 * 1024, read);
    tokio::select! {
        // The supervisor's words are flushed piece by piece by `copy_buf` when it has to wait.
        result = copy_buf(&mut read, &mut output) => { result?; }
        result = copy_buf(&mut input, &mut write) => { result?; }
    }
    output.flush().await
}

/// What a relay says when there is no supervisor.
///
/// # Errors
/// When the stream fails.
pub async fn not_ready(mut output: impl AsyncWrite + Unpin) -> io::Result<()> {
    let refused = Refused {
        reason: RefusalReason::NotReady,
        message: "the supervisor does not listen (yet)".to_owned(),
    };
    let mut bytes = BytesMut::new();
    AgentCodec.encode(AgentFrame::Refused(refused), &mut bytes).map_err(io::Error::other)?;
    output.write_all(&bytes).await?;
    output.flush().await
}

async fn connect(socket: &Path) -> Option<UnixStream> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Ok(stream) = UnixStream::connect(socket).await {
            return Some(stream);
        }
        if Instant::now() > give_up {
            return None;
        }
        // There is no event for "somebody listens now".
        sleep(Duration::from_millis(20)).await;
    }
}
