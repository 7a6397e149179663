//! The way into a job for people: a terminal in `build`, and the ports of the pod.
//!
//! Both are an exec of the agent, so they need no right that following a job does not need: no
//! `services`, no `services/proxy`, no `pods/portforward`. They work for any manager that finds the
//! job, also for one that does not follow it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use kube::Client;
use runner_core::layout;
use runner_core::session::{Door, DoorError, PortStream, Terminal};
use runner_core::wire::{TerminalCodec, TerminalFrame};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex,
};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, interval_at};
use tokio_util::codec::{Decoder as _, Encoder as _};
use tokio_util::task::AbortOnDropHandle;

use crate::pod::{BUILD, HELPER};
use crate::stream::{ByteLink, ExecTarget, Patience, SessionEnd, Transport};
use crate::watch::{PodHub, PodSight};

/// How often a terminal hears from us, so that a shell whose manager is gone ends.
const BEAT: Duration = Duration::from_secs(15);
/// Bytes of a port's stream that may be on their way in this process, each way.
const BUFFER: usize = 64 * 1024;

/// Where the pod of a job is.
#[derive(Clone)]
pub(crate) struct Whereabouts {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) uid: String,
    /// The watch that sees it.
    pub(crate) hub: PodHub,
    /// Who may reach it.
    pub(crate) stream: Client,
}

/// The pod of a job. `None` until it is created.
pub(crate) type CurrentPod = watch::Receiver<Option<Whereabouts>>;

/// See the module.
pub(crate) struct PodDoor {
    pod: CurrentPod,
    /// Of a pod that does not change: without a sender it would count as gone.
    _fixed: Option<watch::Sender<Option<Whereabouts>>>,
}

impl PodDoor {
    /// Into the pod of a job that this manager follows.
    pub(crate) fn new(pod: CurrentPod) -> Self {
        Self { pod, _fixed: None }
    }

    /// Into this pod.
    pub(crate) fn into_pod(pod: Whereabouts) -> Self {
        let (fixed, pod) = watch::channel(Some(pod));
        Self { pod, _fixed: Some(fixed) }
    }

    /// Waits until this container runs.
    async fn running(&self, container: &str) -> Result<Whereabouts, DoorError> {
        let mut current = self.pod.clone();
        loop {
            let known = current.borrow_and_update().clone();
            let gone = || DoorError::Closed("its pod is gone".to_owned());
            let Some(place) = known else {
                current.changed().await.map_err(|_| gone())?;
                continue;
            };
            let mut sight = place.hub.follow(&place.uid);
            let seen = sight.wait_for(|sight| has_begun(sight, container));
            tokio::select! {
                seen = seen => {
                    let seen = seen.map_err(|_| gone())?.clone();
                    let PodSight::Seen(pod) = seen else { return Err(gone()) };
                    let status = pod.container(container).map(|status| &status.state);
                    return match status {
                        Some(state) if state.running.is_some() => Ok(place),
                        _ => Err(DoorError::Closed(format!("container {container} has ended"))),
                    };
                }
                // A pod in its place; or the job is over, which the first branch will see.
                changed = current.changed() => changed.map_err(|_| gone())?,
            }
        }
    }

    async fn open(
        &self,
        place: Whereabouts,
        container: &str,
        words: &[&str],
        patience: Patience,
    ) -> Result<ByteLink, DoorError> {
        let mut command = vec![layout::AGENT.to_owned()];
        command.extend(words.iter().map(|&word| word.to_owned()));
        let Whereabouts { namespace, pod, stream: client, .. } = place;
        let target = ExecTarget { namespace, pod, container: container.to_owned(), command };
        let client = &client;
        let mut error = match ByteLink::open(client, &target, Transport::WebSocket, patience).await
        {
            Ok(link) => return Ok(link),
            Err(error) => error,
        };
        if let Some(other) = error.suggests() {
            match ByteLink::open(client, &target, other, patience).await {
                Ok(link) => return Ok(link),
                Err(second) => error = second,
            }
        }
        Err(DoorError::Unreachable(error.to_string()))
    }
}

/// Whether the container runs, has run, or never will.
fn has_begun(sight: &PodSight, container: &str) -> bool {
    match sight {
        PodSight::Unseen => false,
        PodSight::Gone(_) => true,
        PodSight::Seen(pod) => {
            matches!(pod.status.phase.as_str(), "Succeeded" | "Failed")
                || pod.container(container).is_some_and(|status| {
                    status.state.running.is_some() || status.state.terminated.is_some()
                })
        }
    }
}

#[async_trait]
impl Door for PodDoor {
    async fn terminal(&self) -> Result<Box<dyn Terminal>, DoorError> {
        let pod = self.running(BUILD).await?;
        let link = self.open(pod, BUILD, &["terminal"], Patience::default()).await?;
        let beat = interval_at(Instant::now() + BEAT, BEAT);
        Ok(Box::new(PodTerminal { link, input: BytesMut::new(), beat, ended: false }))
    }

    async fn port(&self, port: u16) -> Result<Box<dyn PortStream>, DoorError> {
        let pod = self.running(HELPER).await?;
        // A server may think about its answer for longer than an agent is silent.
        let patience = Patience { agent: Duration::from_secs(3600), ..Patience::default() };
        let link = self.open(pod, HELPER, &["dial", &port.to_string()], patience).await?;
        let (near, far) = duplex(BUFFER);
        let pump = AbortOnDropHandle::new(tokio::spawn(pump(link, far)));
        Ok(Box::new(Dialled { stream: near, _pump: pump }))
    }
}

struct PodTerminal {
    link: ByteLink,
    input: BytesMut,
    beat: Interval,
    ended: bool,
}

#[async_trait]
impl Terminal for PodTerminal {
    async fn next(&mut self) -> Option<TerminalFrame> {
        while !self.ended {
            match TerminalCodec.decode(&mut self.input) {
                Ok(Some(TerminalFrame::Beat)) => continue,
                Ok(Some(frame)) => {
                    self.ended = matches!(frame, TerminalFrame::Ended(_));
                    return Some(frame);
                }
                Ok(None) => {}
                Err(_) => break,
            }
            tokio::select! {
                received = self.link.recv() => match received {
                    Ok(bytes) => self.input.extend_from_slice(&bytes),
                    Err(_) => break,
                },
                _ = self.beat.tick() => {
                    if self.send(TerminalFrame::Beat).await.is_err() {
                        break;
                    }
                }
            }
        }
        self.ended = true;
        None
    }

    async fn send(&mut self, frame: TerminalFrame) -> Result<(), DoorError> {
        let mut bytes = BytesMut::new();
        // Encoding fails for no frame.
        let _ = TerminalCodec.encode(frame, &mut bytes);
        let lost = |end: SessionEnd| DoorError::Closed(end.to_string());
        self.link.send(bytes.freeze()).await.map_err(lost)
    }

    async fn close(mut self: Box<Self>) {
        self.link.end_input();
        self.link.close().await;
    }
}

/// A stream to a port, with the task that feeds it.
struct Dialled {
    stream: DuplexStream,
    _pump: AbortOnDropHandle<()>,
}

impl AsyncRead for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Moves bytes until the command has ended or nobody listens.
async fn pump(mut link: ByteLink, far: DuplexStream) {
    let (mut read, mut write) = tokio::io::split(far);
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    let mut open = true;
    loop {
        tokio::select! {
            received = link.recv() => match received {
                Ok(bytes) => if write.write_all(&bytes).await.is_err() { return },
                Err(_) => return,
            },
            count = read.read_buf(&mut buffer), if open => match count {
                Ok(count) if count > 0 => {
                    if link.send(buffer.split().freeze()).await.is_err() {
                        return;
                    }
                }
                _ => {
                    open = false;
                    link.end_input();
                }
            },
        }
    }
}
