//! Runs a program of the helper image with its output in the trace.

use std::process::{Command, Stdio};

use super::context::{Context, StageFailure};
use crate::process::{Ended, ExitStatus, spawn_piped};

/// What is kept of the output of a program that answers a question.
const LONGEST_ANSWER: usize = 4096;

/// Asks a program something. The answer is not for the trace; `None`: it failed, or there is no such
/// program.
pub(super) async fn ask(
    context: &Context<'_>,
    command: &mut Command,
) -> Result<Option<Vec<u8>>, StageFailure> {
    let Ok(spawned) = spawn_piped(command, Stdio::null(), context.reaper) else {
        return Ok(None);
    };
    context.group.set(Some(spawned.group));
    let mut piped = spawned.piped;
    let mut buffer = vec![0; LONGEST_ANSWER];
    let mut answer = Vec::new();
    loop {
        match piped.next(&mut buffer).await? {
            Ok(count) => {
                let room = LONGEST_ANSWER - answer.len();
                answer.extend_from_slice(&buffer[..count.min(room)]);
            }
            Err(Ended(status)) => {
                context.group.set(None);
                return Ok((status == ExitStatus::Exited(0)).then_some(answer));
            }
        }
    }
}

/// Runs it to its end.
///
/// # Errors
/// When it cannot be started. A status other than 0 is not an error here.
pub(super) async fn run(
    context: &Context<'_>,
    command: &mut Command,
) -> Result<ExitStatus, StageFailure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let spawned = spawn_piped(command, Stdio::null(), context.reaper).map_err(|error| {
        context.fail(format_args!("cannot start {program} in the helper image: {error}"))
    })?;
    context.group.set(Some(spawned.group));
    let mut piped = spawned.piped;
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match piped.next(&mut buffer).await? {
            Ok(count) => context.output(&buffer[..count])?,
            Err(Ended(status)) => {
                context.group.set(None);
                return Ok(status);
            }
        }
    }
}
