//! Containers that are no processes: for thousands of pods, and for agents that misbehave.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::DuplexStream;

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
