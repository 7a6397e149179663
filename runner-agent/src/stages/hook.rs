//! Runs commands of the author or of the operator around the work on the sources.

use std::path::Path;
use std::process::Stdio;

use runner_core::layout;
use runner_core::log::Message;
use runner_core::outcome::{Infra, InfraKind, Outcome};
use runner_core::plan::{Directories, Script};
use runner_core::shell::JobStatus;

use super::context::{Context, StageFailure};
use super::tool;
use crate::launch::Launch;
use crate::process::ExitStatus;

/// Where the commands begin.
pub(super) enum Start {
    /// In the builds root: the project's directory may be removed after them.
    Builds,
    /// In the project's directory.
    Project,
}

/// Runs them, if there are any.
///
/// # Errors
/// When they fail; that fails the stage, with their exit status.
pub(super) async fn run(
    context: &Context<'_>,
    script: Option<&Script>,
    start: Start,
) -> Result<(), StageFailure> {
    let Some(script) = script else { return Ok(()) };
    let plan = context.plan;
    let project = match start {
        Start::Builds => plan.directories.builds.clone(),
        Start::Project => plan.directories.project.clone(),
    };
    // The checkout may be the job's own user's already.
    let own = super::ownership::own_user();
    let shared = super::ownership::Shared::of(Path::new(&project), own.uid, own.gid);
    let variables = [&plan.variables[..], &super::for_scripts(plan, shared)].concat();
    let launch = Launch {
        script,
        variables: &variables,
        directories: &Directories { project, ..plan.directories.clone() },
        job_status: JobStatus::Running,
        bundled_shell: Path::new(layout::SHELL),
    };
    let mut ready = launch.prepare().map_err(|message| {
        let message = format!("{message} (helper image)");
        StageFailure(Outcome::Infra(Infra::new(InfraKind::Configuration, message)))
    })?;
    if !ready.skipped.is_empty() {
        context.say(&Message::warning(super::skipped_lines(&ready.skipped)))?;
    }
    ready.command.stdin(Stdio::null());
    match tool::run(context, &mut ready.command).await? {
        ExitStatus::Exited(0) => Ok(()),
        ExitStatus::Exited(code) => Err(StageFailure(Outcome::Exited(code))),
        ExitStatus::Signalled(signal) => Err(StageFailure(Outcome::Signalled(signal))),
    }
}
