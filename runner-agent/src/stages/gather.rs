//! From a list of patterns to entries, for artifacts and caches alike.

use std::path::PathBuf;
use std::process::Command;

use runner_core::log::Message;

use super::context::{Context, StageFailure};
use super::select::{Selected, Selection, names};
use super::tool;
use crate::archive::Level;

/// Longest list of untracked files, in bytes: some million names.
const LONGEST_LIST: usize = 256 << 20;

/// Looks for the files. What the author should know about each pattern comes with them.
pub(super) async fn gather(
    context: &Context<'_>,
    paths: &[String],
    exclude: &[String],
    untracked: bool,
) -> Result<Selected, StageFailure> {
    let mut log = Vec::new();
    let expanded = |patterns: &[String]| patterns.iter().map(|p| expand(context, p)).collect();
    let untracked = if untracked { Some(list_untracked(context, &mut log).await?) } else { None };
    let selection = Selection {
        project: PathBuf::from(&context.plan.directories.project),
        paths: expanded(paths),
        exclude: expanded(exclude),
        untracked,
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

/// What git does not track, ignored files included. The repository is the job's by now: its settings
/// are not obeyed.
async fn list_untracked(
    context: &Context<'_>,
    log: &mut Vec<Message>,
) -> Result<Vec<std::ffi::OsString>, StageFailure> {
    let mut git = Command::new("git");
    git.current_dir(&context.plan.directories.project)
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
        .args(["-c", "safe.directory=*", "ls-files", "-o", "-z"])
        .env("GIT_CONFIG_NOSYSTEM", "1");
    match tool::read(context, &mut git, LONGEST_LIST).await? {
        Some(output) => Ok(names(&output)),
        None => {
            log.push(Message::warning("untracked: git cannot list the files"));
            Ok(Vec::new())
        }
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
