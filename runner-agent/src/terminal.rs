//! A shell in a job's container, for a person: what a manager starts in `build` when somebody opens
//! the web terminal.
//!
//! The pseudo-terminal is made here and not by the container runtime (`kubectl exec -t`): so it needs
//! no other right than the manager has anyway, works by every transport, and finds the agent's own
//! shell where the image has none. Standard streams are frames
//! ([`TerminalFrame`]).
//!
//! ```text
//!   manager ── exec ──► terminal ── master ═ slave ── tty-shell ──exec──► bash or sh
//! ```

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{SinkExt, StreamExt};
use runner_core::wire::{TerminalCodec, TerminalFrame, TerminalSize};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::{FramedRead, FramedWrite};

use crate::launch::find_shell;
use crate::process::{ExitStatus, Reaper, signal_group};

/// A side that hears nothing for so long gives up.
const SILENCE: Duration = Duration::from_secs(60);
/// A beat is sent after so long without anything else.
const BEAT: Duration = Duration::from_secs(15);
/// How long a shell may take to end once its terminal is gone.
const HANG_UP: Duration = Duration::from_secs(2);
/// What is read from the terminal at once.
const PIECE: usize = 16 * 1024;
/// The command that becomes the shell; not for people.
pub(crate) const TTY_SHELL: &str = "tty-shell";

/// Runs a shell in a terminal of its own until it ends or the manager is gone.
///
/// # Errors
/// When there is no shell, or no terminal to be had.
pub async fn terminal(
    bundled_shell: &Path,
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite + Unpin,
    reaper: &Reaper,
) -> io::Result<()> {
    let shell = find_shell(bundled_shell)
        .ok_or_else(|| io::Error::other("there is no shell in this container"))?;
    let (master, slave) = open()?;
    resize(&master, TerminalSize::default());
    let (group, exit) = spawn(&shell, slave, reaper)?;
    let mut screen = Screen {
        // Not pipes, but read, written and waited for in the same way.
        shown: Receiver::from_owned_fd_unchecked(master.try_clone()?)?,
        typed: Sender::from_owned_fd_unchecked(master.try_clone()?)?,
        master,
        exit,
        keys: Bytes::new(),
        output: FramedWrite::new(output, TerminalCodec),
        heard: Instant::now(),
        said: Instant::now(),
    };
    let result = screen.run(FramedRead::new(input, TerminalCodec)).await;
    let Screen { master, shown, typed, exit, mut output, .. } = screen;
    match result? {
        End::Shell(status) => {
            // The manager may be gone, too.
            let _ = output.send(TerminalFrame::Ended(status)).await;
        }
        End::Manager => {
            // A shell that waits for a line ends here, after what was typed before.
            let mut exit = exit;
            if timeout(HANG_UP, good_bye(shown, typed, &mut exit)).await.is_err() {
                // The kernel sends HUP to who still uses the terminal.
                drop(master);
                if timeout(HANG_UP, exit).await.is_err() {
                    signal_group(group, Signal::KILL);
                }
            }
        }
    }
    Ok(())
}

/// Types the end of input, and reads what nobody wants any more, until the shell has ended.
async fn good_bye(
    mut shown: Receiver,
    mut typed: Sender,
    exit: &mut oneshot::Receiver<ExitStatus>,
) {
    const END_OF_TRANSMISSION: u8 = 4;
    let drained = async {
        // A terminal that takes nothing more is hung up soon.
        let _ = typed.write_all(&[END_OF_TRANSMISSION]).await;
        let mut buffer = [0; 4096];
        while matches!(shown.read(&mut buffer).await, Ok(count) if count > 0) {}
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = exit => {}
        () = drained => {}
    }
}

/// Becomes the shell: leader of a session whose terminal is the standard input.
///
/// # Errors
/// Whenever it returns.
pub fn become_shell(shell: &Path) -> io::Error {
    let prepared = rustix::process::setsid()
        .and_then(|_| rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()));
    if let Err(error) = prepared {
        return error.into();
    }
    if let Err(error) = default_signals() {
        return error;
    }
    let mut command = Command::new(shell);
    if std::env::var_os("TERM").is_none_or(|value| value.is_empty()) {
        command.env("TERM", "xterm-256color");
    }
    if let Some(project) = std::env::var_os("CI_PROJECT_DIR").map(PathBuf::from)
        && project.is_dir()
    {
        command.current_dir(project);
    }
    command.exec()
}

/// What whoever started the agent ignored (`nohup`, a shell's background) is ignored by everything that it
/// starts, and keys would end nothing in the terminal. A signal that is caught has its default again in
/// the program that takes this one's place.
fn default_signals() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::quit(), SignalKind::hangup()] {
        drop(signal(kind)?);
    }
    Ok(())
}

/// A new pseudo-terminal: the end to look at, and the end for programs.
fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty())?;
    let status = rustix::fs::fcntl_getfl(&master)?;
    rustix::fs::fcntl_setfl(&master, status | OFlags::NONBLOCK)?;
    Ok((master, slave))
}

fn resize(master: &impl AsFd, size: TerminalSize) {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // A terminal whose shell is just ending has no size any more.
    let _ = tcsetwinsize(master, size);
}

fn spawn(
    shell: &Path,
    slave: OwnedFd,
    reaper: &Reaper,
) -> io::Result<(Pid, oneshot::Receiver<ExitStatus>)> {
    let slave = File::from(slave);
    // This program once more, because only the child itself can take a terminal for its session.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("podwright-agent").arg(TTY_SHELL).arg(shell);
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    let child = command.spawn();
    // The command keeps its copies of the slave: replace them, or the terminal would never end.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Leader of a session, hence of the group of the same number.
    let group = Pid::from_child(&child?);
    Ok((group, reaper.watch(group)))
}

enum End {
    Shell(u8),
    Manager,
}

struct Screen<W> {
    master: OwnedFd,
    shown: Receiver,
    typed: Sender,
    exit: oneshot::Receiver<ExitStatus>,
    /// Typed and not taken by the terminal; nothing more is read before it is.
    keys: Bytes,
    output: FramedWrite<W, TerminalCodec>,
    heard: Instant,
    said: Instant,
}

enum Step {
    Heard(Option<Result<TerminalFrame, runner_core::wire::TerminalError>>),
    Shown(io::Result<usize>),
    Typed(io::Result<usize>),
    Ended(u8),
    Clock,
}

impl<W: AsyncWrite + Unpin> Screen<W> {
    async fn run<R: AsyncRead + Unpin>(
        &mut self,
        mut input: FramedRead<R, TerminalCodec>,
    ) -> io::Result<End> {
        let mut buffer = vec![0; PIECE];
        loop {
            let clock = (self.said + BEAT).min(self.heard + SILENCE);
            let step = tokio::select! {
                biased;
                shown = self.shown.read(&mut buffer) => Step::Shown(shown),
                typed = self.typed.write(&self.keys), if !self.keys.is_empty() => Step::Typed(typed),
                heard = input.next(), if self.keys.is_empty() => Step::Heard(heard),
                // After what it has written.
                status = &mut self.exit => Step::Ended(code(status)),
                () = sleep_until(clock) => Step::Clock,
            };
            match step {
                Step::Shown(Ok(count)) if count > 0 => {
                    let bytes = Bytes::copy_from_slice(&buffer[..count]);
                    if self.say(TerminalFrame::Screen(bytes)).await.is_err() {
                        return Ok(End::Manager);
                    }
                }
                // EIO: nobody has the other end open any more.
                Step::Shown(_) => {
                    let status = timeout(HANG_UP, &mut self.exit).await;
                    return Ok(End::Shell(status.map_or(0, code)));
                }
                Step::Typed(Ok(count)) => self.keys.advance(count),
                Step::Typed(Err(_)) => self.keys.clear(),
                Step::Heard(Some(Ok(frame))) => {
                    self.heard = Instant::now();
                    match frame {
                        TerminalFrame::Keys(bytes) => self.keys = bytes,
                        TerminalFrame::Size(size) => resize(&self.master, size),
                        _ => {}
                    }
                }
                Step::Heard(_) => return Ok(End::Manager),
                Step::Ended(status) => return Ok(End::Shell(status)),
                Step::Clock => {
                    let now = Instant::now();
                    if now >= self.heard + SILENCE {
                        return Ok(End::Manager);
                    }
                    if self.say(TerminalFrame::Beat).await.is_err() {
                        return Ok(End::Manager);
                    }
                }
            }
        }
    }

    async fn say(&mut self, frame: TerminalFrame) -> Result<(), runner_core::wire::TerminalError> {
        self.said = Instant::now();
        self.output.send(frame).await
    }
}

fn code(status: Result<ExitStatus, oneshot::error::RecvError>) -> u8 {
    match status {
        // Both below 256 by their nature.
        Ok(ExitStatus::Exited(code)) => u8::try_from(code).unwrap_or(255),
        Ok(ExitStatus::Signalled(signal)) => u8::try_from(128 + signal).unwrap_or(255),
        Err(_) => 255,
    }
}
