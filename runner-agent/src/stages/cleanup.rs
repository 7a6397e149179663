//! Removes what the runner itself left behind: file variables, `$GITLAB_ENV`; and what the job did, where
//! it wants that.

use std::fs;
use std::io;
use std::path::Path;

use super::context::{Context, StageFailure};

pub(super) async fn cleanup(context: &Context<'_>) -> Result<(), StageFailure> {
    // First: git's own files are in what is removed below.
    let checkout = super::sources::clean_up(context).await;
    let temp = Path::new(&context.plan.directories.temp);
    // The job may have put a link in its place; what it points to is not ours to remove.
    let result = match fs::symlink_metadata(temp) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(data) if data.is_dir() => fs::remove_dir_all(temp),
        Ok(_) => fs::remove_file(temp),
    };
    result
        .map_err(|error| context.fail(format_args!("cannot remove {}: {error}", temp.display())))?;
    checkout
}
