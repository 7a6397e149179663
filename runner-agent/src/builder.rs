//! The supervisor's end of the link to the build container.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use runner_core::log::Message;
use runner_core::outcome::{Infra, InfraKind, Outcome};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::Framed;

use crate::control::Control;
use crate::link::{FromServe, LinkCodec, LinkError, Order, Piece, RunId, ToServe, Urge};
use crate::process::{ExitStatus, is_own_child};
use crate::usage::Usage;

/// How long a lost build container may take to come back.
const COME_BACK: Duration = Duration::from_secs(60);
/// How long a connection may take to say `Hello`.
const HELLO: Duration = Duration::from_secs(5);
/// How much output is acknowledged at once. `serve` keeps 256 KiB, so at most eight of these are on
/// their way: too few to fill the socket, or both ends could wait for the other one to read (a small
/// frame costs a socket buffer as much as a large one: 277 of them filled it).
const ACKNOWLEDGE_EVERY: u64 = 32 * 1024;
/// How long after KILL an end is waited for.
const AFTER_KILL: Duration = Duration::from_secs(10);

type Connection<S> = Framed<S, LinkCodec<FromServe>>;

/// Where the build container comes in.
pub trait Door {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin;

    /// Waits for one connection, after which nobody else can even try until the next call. The
    /// result has user and group of the other side. Cancel safe.
    ///
    /// # Errors
    /// When nobody can come in.
    fn open(&mut self) -> impl Future<Output = io::Result<(Self::Stream, (u32, u32))>>;
}

/// The door of a pod: a unix socket, which is there only while somebody is waited for.
#[derive(Debug)]
pub struct SocketDoor {
    socket: PathBuf,
    listener: Option<UnixListener>,
}

impl SocketDoor {
    /// Listens at this path before anybody needs it, so that the build container can come as soon as
    /// it runs.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn listen(socket: PathBuf) -> io::Result<Self> {
        let mut door = Self { socket, listener: None };
        door.listener = Some(door.bind()?);
        Ok(door)
    }

    fn bind(&self) -> io::Result<UnixListener> {
        match std::fs::remove_file(&self.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&self.socket)?;
        // The build container may run as any user.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&self.socket, everybody)?;
        Ok(listener)
    }
}

impl Door for SocketDoor {
    type Stream = UnixStream;

    async fn open(&mut self) -> io::Result<(UnixStream, (u32, u32))> {
        let listener = match self.listener.take() {
            Some(listener) => listener,
            None => self.bind()?,
        };
        // Kept until somebody has come: this future may be dropped while it waits.
        let listener = self.listener.insert(listener);
        let stream = loop {
            let (stream, _) = listener.accept().await?;
            // Commands of the author's in `helper` must not run the job's scripts their own way.
            if !is_own_child(&stream) {
                break stream;
            }
        };
        self.listener = None;
        std::fs::remove_file(&self.socket)?;
        let user = stream.peer_cred()?;
        Ok((stream, (user.uid(), user.gid())))
    }
}

/// The build container, as the supervisor sees it.
pub struct Builder<D: Door> {
    door: D,
    control: Rc<Control>,
    connection: Option<Connection<D::Stream>>,
    /// User and group of `serve`, by the socket's credentials.
    user: Option<(u32, u32)>,
    /// The run that `serve` knew of when it connected.
    known_run: Option<RunId>,
    /// What the container had used when the last script ended.
    usage: Usage,
}

/// How a script is to be ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// TERM was asked for.
    pub stop: bool,
    /// KILL was asked for.
    pub kill: bool,
}

/// What keeps a script from being finished.
#[derive(Debug)]
enum Broken {
    Link,
    Recorder(io::Error),
}

impl From<LinkError> for Broken {
    fn from(_: LinkError) -> Self {
        Self::Link
    }
}

impl<D: Door> Builder<D> {
    /// For a build container that comes in by this door; nobody waits there yet.
    pub fn new(door: D, control: Rc<Control>) -> Self {
        Self {
            door,
            control,
            connection: None,
            user: None,
            known_run: None,
            usage: Usage::default(),
        }
    }

    /// User and group that the job runs as, once connected.
    pub fn user(&self) -> Option<(u32, u32)> {
        self.user
    }

    /// Whether the build container has come, now or before.
    pub fn has_come(&self) -> bool {
        self.control.recorder.borrow().state().token.is_some()
    }

    /// What the build container had used when its last script ended.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Waits for the build container.
    ///
    /// # Errors
    /// An infrastructure outcome when it does not come (back) in time.
    pub async fn connect(&mut self, patience: Duration) -> Result<(), Outcome> {
        if self.connection.is_some() {
            return Ok(());
        }
        match timeout(patience, self.accept()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(infra(format!("the helper cannot listen for the build container: {error}")))
            }
            Err(_) => {
                Err(infra("the build container is gone: its program no longer answers".to_owned()))
            }
        }
    }

    /// Lets one connection in that may come in.
    async fn accept(&mut self) -> io::Result<()> {
        loop {
            let (stream, user) = self.door.open().await?;
            let mut connection = Framed::new(stream, LinkCodec::from_serve());
            let Ok(Some(Ok(Piece::Word(FromServe::Hello { token, run })))) =
                timeout(HELLO, connection.next()).await
            else {
                continue;
            };
            let (known, input, running) = {
                let recorder = self.control.recorder.borrow();
                let state = recorder.state();
                let running = state.running.as_ref();
                let running = running.map(|run| RunId { stage: run.index, attempt: run.attempt });
                (state.token.clone(), state.input, running)
            };
            if known.is_some() && token != known {
                // Not the program that was there first: the job itself, perhaps.
                continue;
            }
            let token = match known {
                Some(token) => token,
                None => {
                    let token = random_token()?;
                    let kept = token.clone();
                    self.control.recorder.borrow_mut().note(|state| state.token = Some(kept))?;
                    token
                }
            };
            let from = if run.map(|run| run.run) == running { input } else { u64::MAX };
            let welcome = ToServe::Welcome { token, from };
            if connection.send(Piece::Word(welcome)).await.is_ok() {
                self.connection = Some(connection);
                self.user = Some(user);
                self.known_run = run.map(|run| run.run);
                return Ok(());
            }
        }
    }

    /// Runs a script, or goes on with one that a killed supervisor had started, and writes its
    /// output. The result is how its shell ended; the caller knows why it wanted it to end.
    ///
    /// # Errors
    /// An infrastructure outcome when the build container is lost or the trace cannot be kept.
    pub async fn run(
        &mut self,
        order: &Order,
        mut ending: watch::Receiver<Ending>,
    ) -> Result<Result<ExitStatus, String>, Outcome> {
        loop {
            tokio::select! {
                connected = self.connect(COME_BACK) => connected?,
                // Nothing is left that could be ended, and nobody wants to wait.
                () = told_to_end(&mut ending) => {
                    return Err(infra("the build container is gone".to_owned()));
                }
            }
            // Who knows the token and not the run has never been told of it. (A `serve` that was
            // started again knows neither, and is not let in.)
            let mut ordered = self.known_run == Some(order.run);
            match self.follow(order, &mut ordered, &mut ending).await {
                Ok(end) => return Ok(end),
                Err(Broken::Link) => self.connection = None,
                Err(Broken::Recorder(error)) => {
                    return Err(infra(format!("the helper cannot keep the job's log: {error}")));
                }
            }
        }
    }

    async fn follow(
        &mut self,
        order: &Order,
        ordered: &mut bool,
        ending: &mut watch::Receiver<Ending>,
    ) -> Result<Result<ExitStatus, String>, Broken> {
        let Some(connection) = &mut self.connection else { return Err(Broken::Link) };
        if !*ordered {
            connection.send(Piece::Word(ToServe::Run(Box::new(order.clone())))).await?;
            *ordered = true;
            self.known_run = Some(order.run);
        }
        let mut acknowledged = self.control.recorder.borrow().state().input;
        let mut said = Ending::default();
        let mut give_up: Option<Instant> = None;
        loop {
            let wanted = *ending.borrow_and_update();
            if wanted.kill && !said.kill {
                connection.send(Piece::Word(ToServe::End(Urge::Kill))).await?;
                give_up = Some(Instant::now() + AFTER_KILL);
            } else if wanted.stop && !said.stop && !wanted.kill {
                connection.send(Piece::Word(ToServe::End(Urge::Stop))).await?;
                give_up = Some(Instant::now() + order.grace + AFTER_KILL);
            }
            said = wanted;
            let patience = async {
                match give_up {
                    Some(time) => sleep_until(time).await,
                    None => std::future::pending().await,
                }
            };
            let piece = tokio::select! {
                piece = connection.next() => piece,
                changed = ending.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => std::future::pending().await,
                },
                // The shell cannot be killed (stuck in the kernel): leave it to the pod's end.
                () = patience => return Ok(Ok(ExitStatus::Signalled(9))),
            };
            match piece.ok_or(Broken::Link)?? {
                Piece::Output { offset, bytes } => {
                    let input = self.control.recorder.borrow().state().input;
                    let known = input.checked_sub(offset).ok_or(Broken::Link)?;
                    if known >= bytes.len() as u64 {
                        continue;
                    }
                    // Below the length of `bytes`, so it fits usize.
                    let fresh = bytes.slice(known as usize..);
                    let end = input + fresh.len() as u64;
                    self.control
                        .recorder
                        .borrow_mut()
                        .script_output(&fresh, end)
                        .map_err(Broken::Recorder)?;
                    if end - acknowledged >= ACKNOWLEDGE_EVERY {
                        acknowledged = end;
                        connection.send(Piece::Word(ToServe::Ack { offset: end })).await?;
                    }
                }
                Piece::Word(FromServe::Exited { run, status, length, usage })
                    if run == order.run =>
                {
                    self.usage = usage;
                    if self.control.recorder.borrow().state().input < length {
                        return Err(Broken::Link);
                    }
                    return Ok(Ok(status));
                }
                Piece::Word(FromServe::Skipped { run, lines }) if run == order.run => {
                    let warning = Message::warning(crate::stages::skipped_lines(&lines));
                    self.control.recorder.borrow_mut().say(&warning).map_err(Broken::Recorder)?;
                }
                Piece::Word(FromServe::Failed { run, message }) if run == order.run => {
                    return Ok(Err(message));
                }
                Piece::Word(_) => {}
            }
        }
    }

    /// Kills whatever the job has left running.
    pub async fn sweep(&mut self) {
        if let Some(connection) = &mut self.connection {
            // If the link is lost the container's end does it.
            let _ = connection.send(Piece::Word(ToServe::End(Urge::Kill))).await;
        }
    }
}

/// Waits until the script is to be ended. Cancel safe.
async fn told_to_end(ending: &mut watch::Receiver<Ending>) {
    if ending.wait_for(|ending| ending.stop || ending.kill).await.is_err() {
        std::future::pending().await
    }
}

fn infra(message: String) -> Outcome {
    Outcome::Infra(Infra::new(InfraKind::System, message))
}

fn random_token() -> io::Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
