//! What the stages do, apart from the user's scripts.

mod cleanup;
mod context;
mod download;
mod files;
mod prepare;
mod services;
mod sources;
mod tool;
mod transfer;
mod unpack;
mod upload;

pub use context::{Context, StageFailure};

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
        Operation::Prepare { via } => {
            prepare::prepare(context, via)?;
            services::wait(context).await
        }
        Operation::GetSources(sources) => sources::get_sources(context, sources, attempt).await,
        Operation::DownloadArtifacts { archives } => download::download(context, archives).await,
        Operation::UploadArtifacts { archives } => upload::upload(context, archives).await,
        Operation::Cleanup => cleanup::cleanup(context),
        _ => Err(StageFailure::unsupported()),
    }
}
