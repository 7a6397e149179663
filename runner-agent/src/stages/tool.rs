//! Runs a program of the helper image with its output in the trace.

use std::process::{Command, Stdio};

use super::context::{Context, StageFailure};
use crate::process::{Ended, ExitStatus, spawn_piped, spawn_quiet};

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

/// Runs it to its end and hands out what it prints. `None`: it cannot be started, fails, or prints
/// more than `limit` bytes.
pub(super) async fn read(
    context: &Context<'_>,
    command: &mut Command,
    limit: usize,
) -> Result<Option<Vec<u8>>, StageFailure> {
    let Ok(spawned) = spawn_quiet(command, Stdio::null(), context.reaper) else { return Ok(None) };
    context.group.set(Some(spawned.group));
    let mut piped = spawned.piped;
    let (mut output, mut buffer) = (Vec::new(), vec![0; 32 * 1024]);
    loop {
        match piped.next(&mut buffer).await? {
            Ok(count) if output.len() + count > limit => return Ok(None),
            Ok(count) => output.extend_from_slice(&buffer[..count]),
            Err(Ended(status)) => {
                context.group.set(None);
                return Ok(status.is_success().then_some(output));
            }
        }
    }
}
