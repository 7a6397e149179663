//! Removes what the runner itself left behind: file variables, `$GITLAB_ENV`; and of the checkout
//! what the job wants to be gone.

use std::fs;
use std::io;
use std::path::Path;

use runner_core::plan::ProjectCleanup;

use super::context::{Context, StageFailure};
use super::sources::project;

pub(super) fn cleanup(context: &Context<'_>, extent: ProjectCleanup) -> Result<(), StageFailure> {
    let project = Path::new(&context.plan.directories.project);
    let cleaned = match extent {
        ProjectCleanup::Keep => Ok(()),
        // The job may have put a link in its place; where that leads nothing is removed.
        ProjectCleanup::KeepRepository => match fs::symlink_metadata(project) {
            Ok(data) if data.is_dir() => project::empty(project, &[".git"]),
            _ => Ok(()),
        },
        ProjectCleanup::Remove => project::remove(project),
    };
    // The rest is to be removed all the same.
    let cleaned = cleaned
        .map_err(|error| context.fail(format_args!("cannot clean {}: {error}", project.display())));
    remove_temp(context).and(cleaned)
}

fn remove_temp(context: &Context<'_>) -> Result<(), StageFailure> {
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
