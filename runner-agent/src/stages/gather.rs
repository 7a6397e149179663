//! From a list of patterns to entries, for artifacts and caches alike.

use std::path::PathBuf;

use runner_core::log::Message;

use super::context::{Context, StageFailure};
use super::select::{Selected, Selection};
use crate::archive::Level;

/// Looks for the files. What the author should know about each pattern comes with them.
pub(super) async fn gather(
    context: &Context<'_>,
    paths: &[String],
    exclude: &[String],
    untracked: bool,
) -> Result<Selected, StageFailure> {
    let directory = context.project()?;
    let expanded = |patterns: &[String]| patterns.iter().map(|p| expand(context, p)).collect();
    let selection = Selection {
        project: PathBuf::from(&context.plan.directories.project),
        directory: directory.path(),
        paths: expanded(paths),
        exclude: expanded(exclude),
        untracked,
    };
    let found = tokio::task::spawn_blocking(move || {
        let found = selection.find();
        // Its path is good for as long as it is open.
        drop(directory);
        found
    })
    .await;
    found.map_err(|_| context.fail("looking for files was interrupted"))
}

/// As the shell would in double quotes, from the job's variables.
pub(super) fn expand(context: &Context<'_>, text: &str) -> String {
    let lookup = |name: &str| context.variable(name).map(Into::into);
    runner_core::planner::expand(text, lookup).unwrap_or_else(|_| text.to_owned())
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
