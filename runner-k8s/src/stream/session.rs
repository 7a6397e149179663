//! Frames over a link.

use bytes::BytesMut;
use runner_core::wire::{AgentFrame, ManagerCodec, ManagerFrame};
use tokio_util::codec::Encoder;

use super::error::{OpenError, SessionEnd};
use super::frames::FrameDecoder;
use super::link::Link;
use super::target::{ExecTarget, Patience, Transport};

/// One conversation with an agent's relay.
///
/// A task reads and writes the socket, answers pings and watches the clock, so that the session
/// stays alive while its owner does something else. It belongs to the session: dropping the session
/// ends it and closes the socket. The command in the container is *not* stopped by that; a relay
/// ends by itself when it hears no manager.
///
/// # Flow control
/// At most [`READ_AHEAD`](super::READ_AHEAD) bytes (and one message) are read before somebody asks
/// for them; then nothing more is read from the socket, and pings that lie behind those bytes wait,
/// too. An owner that never wants ([`Want`](runner_core::wire::Want)) more than that beyond what it
/// has taken is never in that case.
#[derive(Debug)]
pub struct Session {
    link: Link,
    decoder: FrameDecoder,
    ended: Option<SessionEnd>,
}

/// Opens a stream with the default [`Patience`].
///
/// # Errors
/// When there is no stream; [`OpenError::suggests`] says whether to try the other transport.
pub async fn open(
    client: &kube::Client,
    target: &ExecTarget,
    transport: Transport,
) -> Result<Session, OpenError> {
    Session::open(client, target, transport, Patience::default()).await
}

impl Session {
    /// Runs a command in a container and connects to its stdin and stdout.
    ///
    /// Dropping the future is harmless, but the command may have been started by then.
    ///
    /// # Errors
    /// When there is no stream; [`OpenError::suggests`] says whether to try the other transport.
    pub async fn open(
        client: &kube::Client,
        target: &ExecTarget,
        transport: Transport,
        patience: Patience,
    ) -> Result<Self, OpenError> {
        let link = Link::open(client, target, transport, patience).await?;
        Ok(Self::over(link))
    }

    pub(super) fn over(link: Link) -> Self {
        Self { link, decoder: FrameDecoder::default(), ended: None }
    }

    /// Waits for the next frame. Cancel safe.
    ///
    /// A trace piece that was sent as one frame may be handed out as several: its bytes are passed
    /// on as they arrived, without a copy, and each piece says where it begins.
    ///
    /// # Errors
    /// Why the session is over, after all frames that arrived. The same one from then on.
    pub async fn next(&mut self) -> Result<AgentFrame, SessionEnd> {
        loop {
            if let Some(end) = &self.ended {
                return Err(end.clone());
            }
            match self.decoder.next_frame() {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => match self.link.recv().await {
                    Ok(bytes) => self.decoder.push(bytes),
                    Err(end) => self.ended = Some(end),
                },
                Err(error) => self.ended = Some(SessionEnd::Protocol(error.into())),
            }
        }
    }

    /// Queues a frame to be sent. Waits while [`WRITE_BEHIND`](super::WRITE_BEHIND) bytes are
    /// unsent. Cancel safe: the frame is queued as a whole or not at all. It says nothing about
    /// whether the frame arrived.
    ///
    /// # Errors
    /// Why the session is over; frames that arrived before may still be there for
    /// [`next`](Self::next). [`SessionEnd::Protocol`] for a frame that cannot be encoded.
    pub async fn send(&mut self, frame: ManagerFrame) -> Result<(), SessionEnd> {
        let mut bytes = BytesMut::new();
        ManagerCodec
            .encode(frame, &mut bytes)
            .map_err(|error| SessionEnd::Protocol(error.into()))?;
        self.link.send(bytes.freeze()).await
    }

    /// Lets the command read the end of its stdin, once all that was sent is through. Nothing can be
    /// sent from then on; the command's output still arrives. `v4.channel.k8s.io` has no way to say
    /// it, so there a command that waits for the end of its stdin waits for ever.
    pub fn end_input(&mut self) {
        self.link.end_input();
    }

    /// Sends what is queued and says good-bye. Waits for that at most [`Patience::linger`].
    pub async fn close(self) {
        self.link.close().await;
    }
}
