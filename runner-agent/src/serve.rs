//! PID 1 of the build container: runs the job's scripts when the supervisor says so.
//!
//! It owns the running script and the last part of its output. It decides nothing: what runs, when
//! it ends and what it means is the supervisor's business. When the supervisor is away the script
//! goes on until the output window is full.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use runner_core::shell::{self, Composition, ENV_FILE, ShellKind, env_file};
use rustix::fs::{MemfdFlags, OFlags, memfd_create};
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::codec::Framed;

use crate::link::{FromServe, LinkCodec, Order, Piece, RunId, RunState, ToServe, Urge, Window};
use crate::process::{
    Ended, ExitStatus, Piped, Reaper, become_reaper_of_descendants, has_visitors, kill_everything,
    protect_memory, signal_group, spawn_piped,
};

/// How long to wait for a supervisor, at first (its image may still be pulled) and after a loss.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// Where shells are looked for, in GitLab Runner's order.
const SHELLS: [&str; 7] = [
    "/usr/local/bin/bash",
    "/usr/bin/bash",
    "/bin/bash",
    "/usr/local/bin/sh",
    "/usr/bin/sh",
    "/bin/sh",
    "/busybox/sh",
];

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
    let mut server = Server { options, reaper, token: None, run: None };
    loop {
        let connection = server.connect().await?;
        server.speak(connection).await;
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
                self.run = Some(self.start(&order));
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
                FromServe::Exited { run: run.id, status: *status, length: run.window.end() }
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

    fn start(&self, order: &Order) -> Run {
        let state = match self.spawn(order) {
            Ok((group, piped)) => RunPhase::Running { group, piped },
            Err(message) => RunPhase::Failed(message),
        };
        Run { id: order.run, window: Window::default(), state, kill_at: None, grace: order.grace }
    }

    fn spawn(&self, order: &Order) -> Result<(rustix::process::Pid, Piped), String> {
        let (shell, kind) = self.shell()?;
        write_file_variables(order)?;
        let env_path = Path::new(&order.directories.temp).join(ENV_FILE);
        let env_file = env_file::parse(&read_env_file(&env_path));
        let text = shell::compose(&Composition {
            shell: kind,
            variables: &order.variables,
            env_file: &env_file.assignments,
            directories: &order.directories,
            job_status: order.job_status,
            script: &order.script,
        });
        // A memory file: any size, no place on a disk that may be read-only or full, and not open
        // to other users as a file in a shared directory would be.
        let script = memory_file(&text)
            .map_err(|error| format!("cannot make room for the script in memory: {error}"))?;
        let mut command = Command::new(&shell);
        command.arg(format!("/proc/self/fd/{}", script.as_raw_fd()));
        if Path::new(&order.directories.project).is_dir() {
            command.current_dir(&order.directories.project);
        }
        let spawned = spawn_piped(&mut command, Stdio::null(), &self.reaper)
            .map_err(|error| format!("cannot start {}: {error}", shell.display()))?;
        Ok((spawned.group, spawned.piped))
    }

    /// The shell of the image, else the one that came with the agent.
    fn shell(&self) -> Result<(PathBuf, ShellKind), String> {
        let Some(path) = find_shell(&self.options.bundled_shell) else {
            return Err(format!(
                "the image has no shell ({} were looked for) and none came with the agent",
                SHELLS.join(", ")
            ));
        };
        let is_bash = path.file_name().is_some_and(|name| name == "bash");
        Ok((path, if is_bash { ShellKind::Bash } else { ShellKind::Posix }))
    }
}

/// The shell of the image, else the one that came with the agent.
pub(crate) fn find_shell(bundled: &Path) -> Option<PathBuf> {
    let mut all = SHELLS.iter().map(Path::new).chain([bundled]);
    all.find(|path| is_program(path)).map(Path::to_owned)
}

fn is_program(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}

fn memory_file(text: &[u8]) -> io::Result<fs::File> {
    // Without CLOEXEC: the shell opens it through its own descriptor table.
    let mut file = fs::File::from(memfd_create("script", MemfdFlags::empty())?);
    file.write_all(text)?;
    Ok(file)
}

/// Writes the values of file variables where the shell expects them. Here and not in the helper:
/// the files belong to the job's user, who may have to `chmod` them (ssh insists on that for keys).
fn write_file_variables(order: &Order) -> Result<(), String> {
    for variable in order.variables.iter().filter(|variable| variable.file) {
        if variable.key.contains('/') || variable.key.is_empty() {
            continue;
        }
        let path = Path::new(&order.directories.temp).join(&variable.key);
        // What an earlier script put there, a link perhaps, goes first.
        let _ = fs::remove_file(&path);
        fs::File::create_new(&path)
            .and_then(|mut file| file.write_all(variable.value.expose().as_bytes()))
            .map_err(|error| {
                format!(
                    "cannot write the file variable {} to {}: {error}",
                    variable.key,
                    path.display()
                )
            })?;
    }
    Ok(())
}

/// What earlier stages wrote to `$GITLAB_ENV`. Only a regular file counts, and only so much of it:
/// the job may have put anything there.
fn read_env_file(path: &Path) -> Vec<u8> {
    const MOST: u64 = 1 << 20;
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(nonblocking_no_follow());
    let mut bytes = Vec::new();
    if let Ok(file) = options.open(path)
        && file.metadata().is_ok_and(|data| data.is_file())
        && file.take(MOST).read_to_end(&mut bytes).is_err()
    {
        bytes.clear();
    }
    bytes
}

fn nonblocking_no_follow() -> i32 {
    // Flags of open(2) fit an i32 on every Linux.
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}
