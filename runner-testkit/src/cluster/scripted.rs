//! Containers that are no processes: for thousands of pods, and for agents that misbehave.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::DuplexStream;
use tokio::sync::watch;

/// What stands in for every program that is run by exec in a container of an image
/// ([`ImageSpec::exec`](super::ImageSpec::exec)); such a container has no program of its own and runs
/// until it is told to stop.
#[derive(Clone)]
pub struct ScriptedExec(Arc<Act>);

type Act = dyn Fn(ScriptedIo) -> Pin<Box<dyn Future<Output = i32> + Send>> + Send + Sync;

/// The streams of one stand-in for a program. A peer that is gone reads as the end of `stdin` and as
/// a broken pipe of `stdout`, as for a program.
#[derive(Debug)]
pub struct ScriptedIo {
    /// The UID of the pod.
    pub pod: String,
    /// Words of the command.
    pub command: Vec<String>,
    /// What the client writes.
    pub stdin: DuplexStream,
    /// What the client reads.
    pub stdout: DuplexStream,
}

impl ScriptedExec {
    /// Calls `act` for each program; what it returns is the exit code.
    pub fn new<F, R>(act: F) -> Self
    where
        F: Fn(ScriptedIo) -> R + Send + Sync + 'static,
        R: Future<Output = i32> + Send + 'static,
    {
        Self(Arc::new(move |io| Box::pin(act(io))))
    }

    pub(super) async fn run(&self, io: ScriptedIo) -> i32 {
        (self.0)(io).await
    }
}

impl fmt::Debug for ScriptedExec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ScriptedExec")
    }
}

/// What stands in for the program of a container ([`ImageSpec::program`](super::ImageSpec::program)).
#[derive(Clone)]
pub struct ScriptedProgram(Arc<Play>);

type Play = dyn Fn(ScriptedStart) -> Pin<Box<dyn Future<Output = i32> + Send>> + Send + Sync;

/// What a stand-in for a container's program has.
#[derive(Debug)]
pub struct ScriptedStart {
    /// The UID of the pod.
    pub pod: String,
    /// Its name.
    pub pod_name: String,
    /// The container's name.
    pub container: String,
    /// Words of the command, without the image's own paths being there.
    pub command: Vec<String>,
    /// How often the container was started before.
    pub restarts: u32,
    /// Whether TERM was sent.
    pub terminated: watch::Receiver<bool>,
    /// Where the kubelet reads the last words.
    pub termination_log: PathBuf,
    mounts: Vec<(PathBuf, PathBuf)>,
}

impl ScriptedStart {
    /// The directory of the host that the container sees at this path.
    #[must_use]
    pub fn mounted(&self, path: &str) -> Option<PathBuf> {
        self.mounts
            .iter()
            .find(|(inside, _)| inside == Path::new(path))
            .map(|(_, host)| host.clone())
    }

    pub(super) fn new(
        pod: (String, String),
        container: String,
        command: Vec<String>,
        restarts: u32,
        terminated: watch::Receiver<bool>,
        termination_log: PathBuf,
        mounts: Vec<(PathBuf, PathBuf)>,
    ) -> Self {
        let (pod, pod_name) = pod;
        Self { pod, pod_name, container, command, restarts, terminated, termination_log, mounts }
    }
}

impl ScriptedProgram {
    /// Calls `play` for each start of a container; what it returns is the exit code. It is dropped
    /// where a process would be killed.
    pub fn new<F, R>(play: F) -> Self
    where
        F: Fn(ScriptedStart) -> R + Send + Sync + 'static,
        R: Future<Output = i32> + Send + 'static,
    {
        Self(Arc::new(move |start| Box::pin(play(start))))
    }

    pub(super) async fn run(&self, start: ScriptedStart) -> i32 {
        (self.0)(start).await
    }
}

impl fmt::Debug for ScriptedProgram {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ScriptedProgram")
    }
}
