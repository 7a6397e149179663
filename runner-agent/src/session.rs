//! One manager's session with the supervisor, through a relay or directly.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use runner_core::ids::Offset;
use runner_core::wire::{
    AgentCodec, AgentFrame, Beat, FrameError, Hello, MAX_TRACE, ManagerFrame, OLDEST_WIRE_VERSION,
    RefusalReason, Refused, StageFrame, WIRE_VERSION, Welcome, speaks,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::Framed;

use crate::control::Control;
use crate::process::is_own_child;
use crate::recorder::Progress;
use crate::spool::SpoolReader;
use crate::waiting::ManagerStream;

/// How long a new connection may take to say `Hello`.
const HELLO: Duration = Duration::from_secs(10);
/// The agent speaks at least this often.
const BEAT: Duration = Duration::from_secs(15);
/// A manager that says nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// Most sessions at once. A manager has one; a few more are half-open leftovers.
const MOST_SESSIONS: usize = 16;

/// Where managers come in.
pub trait Callers {
    /// A connection with a manager.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Waits for the next one. Cancel safe.
    ///
    /// # Errors
    /// When this one did not come about; the next may.
    fn next(&mut self) -> impl Future<Output = io::Result<Framed<Self::Stream, AgentCodec>>>;
}

/// The way in of a pod: a unix socket.
#[derive(Debug)]
pub struct ManagerSocket {
    /// The socket.
    pub listener: UnixListener,
    /// Who has come already: the one that brought the plan.
    pub first: Option<ManagerStream>,
}

impl Callers for ManagerSocket {
    type Stream = UnixStream;

    async fn next(&mut self) -> io::Result<ManagerStream> {
        match self.first.take() {
            Some(first) => Ok(first),
            None => {
                let (stream, _) = self.listener.accept().await?;
                // A command of the author's in `helper` would be obeyed, and the manager refused.
                if is_own_child(&stream) {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
                Ok(Framed::new(stream, AgentCodec))
            }
        }
    }
}

/// Serves managers for as long as it is polled.
pub async fn serve_managers(mut callers: impl Callers, control: Rc<Control>) {
    // Owns the sessions; they end with the supervisor.
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = sessions.join_next(), if !sessions.is_empty() => {}
            accepted = callers.next(), if sessions.len() < MOST_SESSIONS => {
                if let Ok(stream) = accepted {
                    let control = Rc::clone(&control);
                    sessions.spawn_local(async move {
                        // Whatever ends a session, the manager opens another one.
                        let _ = Session::run(stream, &control).await;
                    });
                }
            }
        }
    }
}

struct Session<'a, S> {
    framed: Framed<S, AgentCodec>,
    control: &'a Control,
    progress: watch::Receiver<Progress>,
    spool: SpoolReader,
    position: Offset,
    until: Offset,
    stages_sent: usize,
    asks: watch::Receiver<u64>,
    /// The last question that was sent.
    asked: u64,
    verdict_sent: bool,
    buffer: BytesMut,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Session<'a, S> {
    async fn run(
        mut framed: Framed<S, AgentCodec>,
        control: &'a Control,
    ) -> Result<(), FrameError> {
        let hello = match timeout(HELLO, framed.next()).await {
            Ok(Some(Ok(ManagerFrame::Hello(hello)))) => hello,
            Ok(Some(Ok(_))) => {
                return refuse(framed, RefusalReason::BadRequest, "the first frame must be Hello")
                    .await;
            }
            _ => return Ok(()),
        };
        let (progress, spool) = control.recorder.borrow().subscribe();
        let length = progress.borrow().length;
        if let Some((reason, message)) = objection(&hello, control, length)? {
            return refuse(framed, reason, &message).await;
        }
        let epoch = hello.epoch;
        let mut epochs = control.epochs();
        let mut session = Session {
            framed,
            control,
            progress,
            spool,
            position: hello.from,
            until: hello.until,
            stages_sent: 0,
            asks: control.asks.subscribe(),
            asked: 0,
            verdict_sent: false,
            buffer: BytesMut::new(),
        };
        let welcome = Welcome {
            version: WIRE_VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            length,
        };
        session.framed.send(AgentFrame::Welcome(welcome)).await?;
        let superseded = async {
            // The sender lives in `control`, so this cannot fail.
            let _ = epochs.wait_for(|highest| *highest > epoch).await;
        };
        let ended = tokio::select! {
            result = session.speak() => Some(result),
            () = superseded => None,
        };
        match ended {
            Some(result) => result,
            None => {
                refuse(session.framed, RefusalReason::Superseded, "another manager has the job")
                    .await
            }
        }
    }

    async fn speak(&mut self) -> Result<(), FrameError> {
        let mut heard = Instant::now();
        let mut beat = heard + BEAT;
        loop {
            if self.send_news().await? {
                beat = Instant::now() + BEAT;
            }
            tokio::select! {
                frame = self.framed.next() => {
                    let Some(frame) = frame else { return Ok(()) };
                    heard = Instant::now();
                    if !self.on_frame(frame?) {
                        return Ok(());
                    }
                }
                // The sender lives in `control`, so this cannot fail.
                _ = self.asks.changed() => {}
                changed = self.progress.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = sleep_until(beat) => {
                    beat = Instant::now() + BEAT;
                    let length = Some(self.progress.borrow().length);
                    self.framed.send(AgentFrame::Beat(Beat { length })).await?;
                }
                () = sleep_until(heard + SILENCE) => return Ok(()),
            }
        }
    }

    /// Sends what there is; the result says whether there was anything.
    async fn send_news(&mut self) -> Result<bool, FrameError> {
        let mut sent = false;
        let (length, stages, verdict) = {
            let progress = self.progress.borrow_and_update();
            let stages: Vec<StageFrame> = progress.stages[self.stages_sent..].to_vec();
            (progress.length, stages, progress.verdict.clone())
        };
        self.stages_sent += stages.len();
        for stage in stages {
            self.framed.send(AgentFrame::Stage(stage)).await?;
            sent = true;
        }
        for ask in self.control.asks.since(self.asked) {
            self.asked = ask.id;
            self.framed.send(AgentFrame::Ask(ask)).await?;
            sent = true;
        }
        let end = self.until.min(length);
        while self.position < end {
            // At most MAX_TRACE, so it fits usize.
            let piece = (end.0 - self.position.0).min(MAX_TRACE as u64) as usize;
            self.buffer.resize(piece, 0);
            self.spool.read(self.position, &mut self.buffer)?;
            let bytes = self.buffer.split().freeze();
            let offset = self.position;
            self.position = offset.advance(piece);
            self.framed.send(AgentFrame::Trace { offset, bytes }).await?;
            sent = true;
        }
        if let Some(verdict) = verdict
            && !self.verdict_sent
        {
            self.verdict_sent = true;
            self.framed.send(AgentFrame::Verdict(verdict)).await?;
            sent = true;
        }
        Ok(sent)
    }

    /// Obeys a frame; `false` when the session is over.
    fn on_frame(&mut self, frame: ManagerFrame) -> bool {
        match frame {
            ManagerFrame::Want(want) => {
                if let Some(from) = want.from {
                    self.position = from;
                }
                self.until = want.until;
                self.position <= self.progress.borrow().length
            }
            ManagerFrame::Stop(stop) => {
                self.control.wish(stop.mode.into());
                true
            }
            ManagerFrame::Answer(answer) => {
                self.control.asks.answer(answer);
                true
            }
            ManagerFrame::Release => {
                self.control.release();
                false
            }
            ManagerFrame::Container(frame) => {
                self.control.companions.saw(frame);
                true
            }
            ManagerFrame::Disruption(frame) => {
                self.control.has_grace(Duration::from_secs(frame.grace_s));
                true
            }
            ManagerFrame::Start(frame) => {
                self.control.knows_start(frame);
                true
            }
            ManagerFrame::Output(frame) => {
                // A disk that is full is noticed where the job writes, too.
                let _ = self.control.companions.print(&frame, &self.control.recorder);
                true
            }
            _ => true,
        }
    }
}

/// Why this manager is not served, if so.
fn objection(
    hello: &Hello,
    control: &Control,
    length: Offset,
) -> io::Result<Option<(RefusalReason, String)>> {
    // Before the claim: a manager that cannot be talked to must not take the job from one that can.
    if let Some(refused) = version_objection(hello) {
        return Ok(Some((refused.reason, refused.message)));
    }
    if hello.job != control.job {
        let message = format!("this pod runs job {}, not {}", control.job, hello.job);
        return Ok(Some((RefusalReason::WrongJob, message)));
    }
    if !control.claim(hello.epoch)? {
        return Ok(Some((RefusalReason::Superseded, "another manager has the job".to_owned())));
    }
    if hello.from > length {
        let message = format!("the trace has {length} bytes, {} were asked for", hello.from);
        return Ok(Some((RefusalReason::BadRequest, message)));
    }
    Ok(None)
}

/// Whether this manager speaks a version of the protocol that is not known here, and how to say it.
pub(crate) fn version_objection(hello: &Hello) -> Option<Refused> {
    (!speaks(hello.version)).then(|| Refused {
        reason: RefusalReason::Version,
        message: format!(
            "the manager speaks version {} of the protocol, the agent of release {} versions \
             {OLDEST_WIRE_VERSION} to {WIRE_VERSION}: let a newer manager look after this job",
            hello.version,
            env!("CARGO_PKG_VERSION"),
        ),
    })
}

async fn refuse(
    mut framed: Framed<impl AsyncWrite + Unpin, AgentCodec>,
    reason: RefusalReason,
    message: &str,
) -> Result<(), FrameError> {
    framed.send(AgentFrame::Refused(Refused { reason, message: message.to_owned() })).await
}
