//! Removes what the runner itself left behind: file variables, `$GITLAB_ENV`.

use std::fs;
use std::io;
use std::path::Path;

use super::context::{Context, StageFailure};

pub(super) fn cleanup(context: &Context<'_>) -> Result<(), StageFailure> {
    let temp = Path::new(&context.plan.directories.temp);
    // The job may have put a link in its place; what it points to is not ours to remove.
    let result = match fs::symlink_metadata(temp) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(data) if data.is_dir() => fs::remove_dir_all(temp),
        Ok(_) => fs::remove_file(temp),
    };
    result.map_err(|error| context.fail(format_args!("cannot remove {}: {error}", temp.display())))
}
