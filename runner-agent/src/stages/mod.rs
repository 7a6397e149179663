//! What the stages do, apart from the user's scripts.

mod cache;
mod cleanup;
mod context;
mod download;
mod gather;
mod growing;
mod prepare;
mod provenance;
mod select;
mod sources;
mod tool;
mod transfer;
mod upload;

pub use context::{Context, StageFailure, line};

use runner_core::plan::Operation;

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
        Operation::Prepare { via } => prepare::prepare(context, via),
        Operation::GetSources(sources) => sources::get_sources(context, sources, attempt).await,
        Operation::DownloadArtifacts { archives } => download::download(context, archives).await,
        Operation::UploadArtifacts { archives } => upload::upload(context, archives).await,
        Operation::RestoreCaches(stage) => cache::restore(context, stage).await,
        Operation::ArchiveCaches(stage) => cache::archive(context, stage).await,
        Operation::Cleanup => cleanup::cleanup(context),
        _ => Err(StageFailure::unsupported()),
    }
}
