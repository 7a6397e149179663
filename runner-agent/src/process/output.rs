//! A child whose output and exit status are both wanted, exactly.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::io::ioctl_fionread;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use super::reaper::{ExitStatus, Reaper};

/// A process that was just started.
#[derive(Debug)]
pub struct Spawned {
    /// Its id, which is also that of its process group.
    pub group: Pid,
    /// What it and its children print, and how it ends.
    pub piped: Piped,
}

/// The output of a process and its end, in the right order.
///
/// The end comes after all that was written before it. It does not wait for the end of the pipe: a
/// background process may hold that open for as long as it likes.
#[derive(Debug)]
pub struct Piped {
    pipe: Option<Receiver>,
    exit: oneshot::Receiver<ExitStatus>,
    ended: Option<Ended>,
    /// Bytes that were in the pipe when the process had ended: the last that count.
    remaining: u64,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended(pub ExitStatus);

/// Starts a program in a process group of its own, standard output and error in one pipe.
///
/// # Errors
/// When there is no such program, or no memory or process left for it.
pub fn spawn_piped(command: &mut Command, stdin: Stdio, reaper: &Reaper) -> io::Result<Spawned> {
    let (read, write): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::CLOEXEC)?;
    command.stderr(write.try_clone()?);
    spawn(command, stdin, (read, write), reaper)
}

/// The same with standard output alone; what the program complains about is for nobody.
///
/// # Errors
/// As [`spawn_piped`].
pub fn spawn_quiet(command: &mut Command, stdin: Stdio, reaper: &Reaper) -> io::Result<Spawned> {
    command.stderr(Stdio::null());
    spawn(command, stdin, pipe_with(PipeFlags::CLOEXEC)?, reaper)
}

fn spawn(
    command: &mut Command,
    stdin: Stdio,
    (read, write): (OwnedFd, OwnedFd),
    reaper: &Reaper,
) -> io::Result<Spawned> {
    let child = command.stdin(stdin).stdout(write).process_group(0).spawn();
    // The command keeps its copies of the write end: replace them, or the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    let child = child?;
    let group = Pid::from_child(&child);
    let exit = reaper.watch(group);
    let pipe = Some(Receiver::from_owned_fd(read)?);
    Ok(Spawned { group, piped: Piped { pipe, exit, ended: None, remaining: 0 } })
}

impl Piped {
    /// The next piece of output in `buffer` (some bytes), or the end. Cancel safe. Not to be called
    /// again after the end.
    ///
    /// # Errors
    /// When the pipe cannot be read, which does not happen to pipes.
    pub async fn next(&mut self, buffer: &mut [u8]) -> io::Result<Result<usize, Ended>> {
        loop {
            if let Some(ended) = self.ended {
                if self.remaining == 0 {
                    return Ok(Err(ended));
                }
                let wanted =
                    buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
                match self.pipe.as_ref().map(|pipe| pipe.try_read(&mut buffer[..wanted])) {
                    Some(Ok(count)) if count > 0 => {
                        self.remaining -= count as u64;
                        return Ok(Ok(count));
                    }
                    // The readiness that tokio remembers may be stale, the count is not.
                    Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        if let Some(pipe) = &self.pipe {
                            pipe.readable().await?;
                        }
                    }
                    _ => self.remaining = 0,
                }
                continue;
            }
            let pipe = self.pipe.as_ref();
            let output = async {
                match pipe {
                    Some(pipe) => pipe.readable().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ready = output => {
                    ready?;
                    match self.pipe.as_ref().map(|pipe| pipe.try_read(buffer)) {
                        Some(Ok(0)) => self.pipe = None,
                        Some(Ok(count)) => return Ok(Ok(count)),
                        Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                        _ => {}
                    }
                }
                status = &mut self.exit => {
                    // The reaper lives as long as the program; if not, nobody knows the status.
                    let status = status.map_err(|_| io::Error::other("nobody reaps children any more"))?;
                    // Whatever the process wrote is in the pipe by now, and counted.
                    self.remaining = match &self.pipe {
                        Some(pipe) => ioctl_fionread(pipe)?,
                        None => 0,
                    };
                    self.ended = Some(Ended(status));
                }
            }
        }
    }

    /// Goes on reading, for nobody: a background process that still writes shall neither block on a
    /// full pipe nor die of a closed one, since a later stage of the job may need it.
    pub async fn discard(self) {
        let Some(pipe) = self.pipe else { return };
        let mut buffer = [0; 4096];
        while pipe.readable().await.is_ok() {
            match pipe.try_read(&mut buffer) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }
}
