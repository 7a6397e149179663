//! What a stage of the helper works with.

use std::cell::Cell;
use std::io;
use std::path::Path;

use runner_core::log::Message;
use runner_core::outcome::{Infra, InfraKind, Outcome};
use runner_core::plan::Plan;
use rustix::process::Pid;

use crate::beneath::Directory;
use crate::control::Control;
use crate::process::Reaper;

/// The plan, the trace and a way to start programs.
pub struct Context<'a> {
    /// What runs.
    pub plan: &'a Plan,
    /// The trace.
    pub control: &'a Control,
    /// For programs of the stage.
    pub reaper: &'a Reaper,
    /// The program that runs now, so that whoever ends the stage can end it too.
    pub group: Cell<Option<Pid>>,
}

/// How a stage failed.
#[derive(Clone, Debug, PartialEq)]
pub struct StageFailure(pub Outcome);

impl StageFailure {
    /// Like a program that exits with 1, which is what GitLab Runner reports for its own tools.
    pub fn failed() -> Self {
        Self(Outcome::Exited(1))
    }

    /// An operation of a later release.
    pub(super) fn unsupported() -> Self {
        Self(Outcome::Infra(Infra::new(
            InfraKind::System,
            "the plan asks for something that this agent does not know; \
             use the agent image of the manager's release",
        )))
    }
}

impl From<io::Error> for StageFailure {
    fn from(error: io::Error) -> Self {
        let message = format!("the helper container failed: {error}");
        Self(Outcome::Infra(Infra::new(InfraKind::System, message)))
    }
}

impl Context<'_> {
    /// Writes a line of the runner's own.
    pub(super) fn say(&self, message: &Message) -> io::Result<()> {
        self.control.recorder.borrow_mut().say(message)
    }

    /// Writes output of a program.
    pub(super) fn output(&self, bytes: &[u8]) -> io::Result<()> {
        self.control.recorder.borrow_mut().helper_output(bytes)
    }

    /// Writes an error and fails.
    pub(super) fn fail(&self, message: impl std::fmt::Display) -> StageFailure {
        match self.say(&Message::error(message)) {
            Ok(()) => StageFailure::failed(),
            Err(error) => error.into(),
        }
    }

    /// The project's directory, which the job may have exchanged for something else, or removed.
    pub(super) fn project(&self) -> Result<Directory, StageFailure> {
        let places = &self.plan.directories;
        Directory::make(Path::new(&places.builds), Path::new(&places.project))
            .map_err(|error| self.fail(error))
    }

    /// The value of a variable of the job; the last one counts.
    pub(super) fn variable(&self, key: &str) -> Option<&str> {
        self.plan
            .variables
            .iter()
            .rev()
            .find(|variable| variable.key == key)
            .map(|variable| variable.value.expose())
    }
}
