//! What the stages do, apart from the user's scripts.

mod cache;
mod cleanup;
mod context;
mod download;
mod gather;
mod growing;
mod hook;
pub(crate) mod ownership;
mod prepare;
mod provenance;
mod select;
mod services;
mod sources;
mod tool;
mod transfer;
mod upload;

pub use context::{Context, StageFailure};
pub(crate) use sources::{clear_worktree, for_scripts};

use runner_core::plan::Operation;

use self::hook::Start;

/// What the log says about lines of `$GITLAB_ENV` that are no assignments. The lines themselves may
/// hold secrets.
pub(crate) fn skipped_lines(numbers: &[usize]) -> String {
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    format!("GITLAB_ENV: skipped what is not NAME=value, line {}", numbers.join(", "))
}

/// Runs an operation of the helper. Scripts are not its business.
///
/// # Errors
/// When the operation failed; the message has been written to the trace.
pub async fn run(
    context: &Context<'_>,
    operation: &Operation,
    attempt: u32,
) -> Result<(), StageFailure> {
    match operation {
        Operation::Prepare { via } => {
            prepare::prepare(context, via)?;
            services::wait(context).await
        }
        Operation::GetSources(sources) => {
            hook::run(context, sources.hooks.before.as_ref(), Start::Builds).await?;
            sources::get_sources(context, sources, attempt).await?;
            hook::run(context, sources.hooks.after.as_ref(), Start::Project).await
        }
        Operation::DownloadArtifacts { archives } => download::download(context, archives).await,
        Operation::UploadArtifacts { archives } => upload::upload(context, archives).await,
        Operation::RestoreCaches(stage) => cache::restore(context, stage).await,
        Operation::ArchiveCaches(stage) => cache::archive(context, stage).await,
        Operation::Cleanup => cleanup::cleanup(context).await,
        _ => Err(StageFailure::unsupported()),
    }
}
