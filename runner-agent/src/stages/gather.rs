//! From a list of patterns to entries, for artifacts and caches alike.

use std::ffi::OsString;
use std::path::PathBuf;

use runner_core::log::Message;

use super::context::{Context, StageFailure};
use super::select::{Selected, Selection};
use super::sources::untracked;
use crate::archive::Level;

/// Looks for the files. What the author should know about each pattern comes with them.
pub(super) async fn gather(
    context: &Context<'_>,
    paths: &[String],
    exclude: &[String],
    untracked: bool,
) -> Result<Selected, StageFailure> {
    let mut log = Vec::new();
    let expanded = |patterns: &[String]| patterns.iter().map(|p| expand(context, p)).collect();
    let list = if untracked { Some(list_untracked(context, &mut log).await?) } else { None };
    let selection = Selection {
        project: PathBuf::from(&context.plan.directories.project),
        paths: expanded(paths),
        exclude: expanded(exclude),
        untracked: list,
    };
    let found = tokio::task::spawn_blocking(move || selection.find()).await;
    let Ok(Selected { entries, messages }) = found else {
        return Err(context.fail("looking for files was interrupted"));
    };
    log.extend(messages);
    Ok(Selected { entries, messages: log })
}

/// As the shell would in double quotes, from the job's variables.
pub(super) fn expand(context: &Context<'_>, text: &str) -> String {
    let lookup = |name: &str| context.variable(name).map(Into::into);
    runner_core::planner::expand(text, lookup).unwrap_or_else(|_| text.to_owned())
}

/// What git does not track, ignored files included.
async fn list_untracked(
    context: &Context<'_>,
    log: &mut Vec<Message>,
) -> Result<Vec<OsString>, StageFailure> {
    let project = PathBuf::from(&context.plan.directories.project);
    match tokio::task::spawn_blocking(move || untracked(&project)).await {
        Ok(Some(found)) => Ok(found.into_iter().map(OsString::from).collect()),
        Ok(None) => {
            log.push(Message::warning("untracked: there is no checkout whose index can be read"));
            Ok(Vec::new())
        }
        Err(_) => Err(context.fail("looking for untracked files was interrupted")),
    }
}

/// `ARTIFACT_COMPRESSION_LEVEL` or `CACHE_COMPRESSION_LEVEL`.
pub(super) fn level(context: &Context<'_>, variable: &str) -> Result<Level, StageFailure> {
    let word = context.variable(variable).unwrap_or_default();
    if let Some(level) = Level::parse(word) {
        return Ok(level);
    }
    context.say(&Message::warning(format_args!(
        "{variable}: {word:?} is none of fastest, fast, default, slow, slowest; using default"
    )))?;
    Ok(Level::Default)
}
