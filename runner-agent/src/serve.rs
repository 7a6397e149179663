//! PID 1 of the build container: runs the job's scripts when the supervisor says so.
//!
//! It owns the running script and the last part of its output. It decides nothing: what runs, when
//! it ends and what it means is the supervisor's business. When the supervisor is away the script
//! goes on until the output window is full.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::codec::Framed;

use crate::launch::Launch;
use crate::link::{FromServe, LinkCodec, Order, Piece, RunId, RunState, ToServe, Urge, Window};
use crate::process::{
    Ended, ExitStatus, Piped, Reaper, Spawned, become_reaper_of_descendants, has_visitors,
    kill_everything, protect_memory, signal_group, spawn_piped,
};
use crate::usage::Usage;

/// How long to wait for a supervisor, at first (its image may still be pulled) and after a loss.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How `serve` is set up.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The supervisor's socket.
    pub socket: PathBuf,
    /// The shell for images that have none.
    pub bundled_shell: PathBuf,
}

/// Why `serve` gave up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// No supervisor.
    #[error("no supervisor at {socket} within {} minutes; is the helper container running?", PATIENCE.as_secs() / 60)]
    NoSupervisor {
        /// Where it was looked for.
        socket: PathBuf,
    },
    /// The program itself could not be set up.
    #[error("cannot set up this process")]
    Setup(#[from] io::Error),
}

type Connection = Framed<UnixStream, LinkCodec<ToServe>>;

/// Serves until the supervisor is gone for good.
///
/// # Errors
/// When no supervisor comes, or this process cannot be set up.
pub async fn serve(options: &ServeOptions, reaper: Reaper) -> Result<(), ServeError> {
    protect_memory()?;
    become_reaper_of_descendants()?;
    let mut orders = signal(SignalKind::terminate())?;
    let told = watch::Sender::new(false);
    let mut ends = told.subscribe();
    let mut server = Server { options, reaper, token: None, run: None };
    let serve = async {
        loop {
            let connection = tokio::select! {
                connection = server.connect() => connection?,
                // Nobody is connected, and nobody is to come any more.
                _ = ends.wait_for(|told| *told) => {
                    kill_everything();
                    return Ok(());
                }
            };
            server.speak(connection).await;
        }
    };
    // How a job ends whose pod is told to end is the supervisor's business, which is told as well: the
    // script goes on for as long as the supervisor is there. As PID 1 this program would be left alone
    // without a handler, but it is none where a pod's containers share their processes.
    let hear = async {
        while orders.recv().await.is_some() {
            told.send_replace(true);
        }
        std::future::pending().await
    };
    tokio::select! {
        result = serve => result,
        () = hear => Ok(()),
    }
}

struct Server<'a> {
    options: &'a ServeOptions,
    reaper: Reaper,
    token: Option<String>,
    run: Option<Run>,
}

/// A script that runs, or has just ended.
struct Run {
    id: RunId,
    window: Window,
    state: RunPhase,
    kill_at: Option<Instant>,
    grace: Duration,
}

enum RunPhase {
    Running { group: rustix::process::Pid, piped: Piped },
    Exited(ExitStatus),
    Failed(String),
}

enum Step {
    Heard(Option<Result<Piece<ToServe>, crate::link::LinkError>>),
    Output(io::Result<Result<usize, Ended>>),
    KillTime,
}

impl Server<'_> {
    /// Connects, however long that takes within reason. The script goes on meanwhile, as far as the
    /// window allows.
    async fn connect(&mut self) -> Result<Connection, ServeError> {
        let give_up = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(5);
        loop {
            if let Ok(stream) = UnixStream::connect(&self.options.socket).await {
                return Ok(Framed::new(stream, LinkCodec::from_supervisor()));
            }
            // Somebody who looks into a job that is over may stay as long as the manager lets them.
            if Instant::now() > give_up && !has_visitors() {
                kill_everything();
                return Err(ServeError::NoSupervisor { socket: self.options.socket.clone() });
            }
            // There is no event for "somebody listens now" across containers.
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// Speaks with one supervisor until the connection is lost.
    async fn speak(&mut self, mut connection: Connection) {
        let run = self.run.as_ref().map(|run| RunState { run: run.id, from: run.window.start() });
        let hello = FromServe::Hello { token: self.token.clone(), run };
        if connection.send(Piece::Word(hello)).await.is_err() {
            return;
        }
        let mut buffer = vec![0; 64 * 1024];
        let mut welcome = false;
        loop {
            let step = {
                let (piped, kill_at) = match &mut self.run {
                    Some(Run {
                        state: RunPhase::Running { piped, .. }, window, kill_at, ..
                    }) => {
                        // Before the welcome nobody has said from where the output is wanted.
                        (Some(piped).filter(|_| welcome && window.has_room()), *kill_at)
                    }
                    _ => (None, None),
                };
                let output = async {
                    match piped {
                        Some(piped) => piped.next(&mut buffer).await,
                        None => std::future::pending().await,
                    }
                };
                let kill_time = async {
                    match kill_at {
                        Some(time) => sleep_until(time).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    heard = connection.next() => Step::Heard(heard),
                    () = kill_time => Step::KillTime,
                    output = output => Step::Output(output),
                }
            };
            let result = match step {
                Step::Heard(Some(Ok(Piece::Word(word)))) => {
                    welcome |= matches!(word, ToServe::Welcome { .. });
                    self.on_word(word, &mut connection).await
                }
                Step::Heard(_) => return,
                Step::KillTime => {
                    kill_everything();
                    if let Some(run) = &mut self.run {
                        run.kill_at = None;
                    }
                    Ok(())
                }
                Step::Output(output) => self.on_output(output, &buffer, &mut connection).await,
            };
            if result.is_err() {
                return;
            }
        }
    }

    async fn on_word(
        &mut self,
        word: ToServe,
        connection: &mut Connection,
    ) -> Result<(), crate::link::LinkError> {
        match word {
            ToServe::Welcome { token, from } => {
                self.token = Some(token);
                if let Some(run) = &mut self.run {
                    run.window.acknowledge(from);
                    for (offset, bytes) in run.window.pieces() {
                        connection.feed(Piece::<FromServe>::Output { offset, bytes }).await?;
                    }
                    SinkExt::<Piece<FromServe>>::flush(connection).await?;
                }
                self.tell_end(connection).await
            }
            ToServe::Run(order) => {
                let (run, skipped) = self.start(&order);
                self.run = Some(run);
                if !skipped.is_empty() {
                    let word = FromServe::Skipped { run: order.run, lines: skipped };
                    connection.send(Piece::Word(word)).await?;
                }
                self.tell_end(connection).await
            }
            ToServe::Ack { offset } => {
                if let Some(run) = &mut self.run {
                    run.window.acknowledge(offset);
                }
                Ok(())
            }
            ToServe::End(urge) => {
                self.end(urge);
                Ok(())
            }
        }
    }

    async fn on_output(
        &mut self,
        output: io::Result<Result<usize, Ended>>,
        buffer: &[u8],
        connection: &mut Connection,
    ) -> Result<(), crate::link::LinkError> {
        let Some(run) = &mut self.run else { return Ok(()) };
        match output {
            Ok(Ok(count)) => {
                let bytes = Bytes::copy_from_slice(&buffer[..count]);
                let offset = run.window.push(bytes.clone());
                connection.send(Piece::<FromServe>::Output { offset, bytes }).await
            }
            Ok(Err(Ended(status))) => {
                let before = std::mem::replace(&mut run.state, RunPhase::Exited(status));
                if let RunPhase::Running { piped, .. } = before {
                    // Background processes may write on; nobody is interested, but they live.
                    tokio::task::spawn_local(piped.discard());
                }
                self.tell_end(connection).await
            }
            Err(error) => {
                run.state =
                    RunPhase::Failed(format!("the script's output cannot be read: {error}"));
                self.tell_end(connection).await
            }
        }
    }

    /// Tells how the run ended, once it has.
    async fn tell_end(&self, connection: &mut Connection) -> Result<(), crate::link::LinkError> {
        let Some(run) = &self.run else { return Ok(()) };
        let word = match &run.state {
            RunPhase::Running { .. } => return Ok(()),
            RunPhase::Exited(status) => {
                let (status, length) = (*status, run.window.end());
                FromServe::Exited { run: run.id, status, length, usage: Usage::of_this_container() }
            }
            RunPhase::Failed(message) => {
                FromServe::Failed { run: run.id, message: message.clone() }
            }
        };
        connection.send(Piece::Word(word)).await
    }

    fn end(&mut self, urge: Urge) {
        match (&mut self.run, urge) {
            (
                Some(Run { state: RunPhase::Running { group, .. }, kill_at, grace, .. }),
                Urge::Stop,
            ) => {
                signal_group(*group, Signal::TERM);
                kill_at.get_or_insert(Instant::now() + *grace);
            }
            // Also what earlier scripts left in the background.
            _ => kill_everything(),
        }
    }

    fn start(&self, order: &Order) -> (Run, Vec<usize>) {
        let (state, skipped) = match self.spawn(order) {
            Ok((spawned, skipped)) => {
                let Spawned { group, piped } = spawned;
                (RunPhase::Running { group, piped }, skipped)
            }
            Err(message) => (RunPhase::Failed(message), Vec::new()),
        };
        let (id, grace) = (order.run, order.grace);
        (Run { id, window: Window::default(), state, kill_at: None, grace }, skipped)
    }

    fn spawn(&self, order: &Order) -> Result<(Spawned, Vec<usize>), String> {
        let launch = Launch {
            script: &order.script,
            variables: &order.variables,
            directories: &order.directories,
            job_status: order.job_status,
            bundled_shell: &self.options.bundled_shell,
        };
        let mut ready = launch.prepare()?;
        let command = &mut ready.command;
        let shell = command.get_program().to_string_lossy().into_owned();
        let spawned = spawn_piped(command, Stdio::null(), &self.reaper)
            .map_err(|error| format!("cannot start {shell}: {error}"))?;
        Ok((spawned, ready.skipped))
    }
}
