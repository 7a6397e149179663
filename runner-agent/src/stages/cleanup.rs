//! Removes what the runner itself left behind: file variables, `$GITLAB_ENV`; and what the job did, where
//! it wants that.

use std::fs;
use std::io;
use std::path::Path;

use runner_core::log::Message;

use super::context::{Context, StageFailure};
use crate::beneath::Directory;

pub(super) async fn cleanup(context: &Context<'_>) -> Result<(), StageFailure> {
    let places = &context.plan.directories;
    let (project, temp) = (Path::new(&places.project), Path::new(&places.temp));
    // First: git's own files are in what is removed below.
    let exchanged = [project, temp].into_iter().find_map(|path| exchanged(context, path));
    let checkout = match exchanged {
        None => super::sources::clean_up(context).await,
        // What it leads to is not ours to clean, and the next job does not follow it, either.
        Some(error) => Ok(context.say(&Message::warning(error))?),
    };
    remove(context, temp)
        .map_err(|error| context.fail(format_args!("cannot remove {}: {error}", temp.display())))?;
    checkout
}

/// What the job has put in a directory's place, if it has.
fn exchanged(context: &Context<'_>, path: &Path) -> Option<io::Error> {
    Directory::open(Path::new(&context.plan.directories.builds), path).err().filter(is_exchanged)
}

fn is_exchanged(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotADirectory
}

/// Removes a directory, or what the job has put there, and nothing that a link leads to.
fn remove(context: &Context<'_>, path: &Path) -> io::Result<()> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let builds = Path::new(&context.plan.directories.builds);
    match Directory::open(builds, above) {
        Ok(above) => remove_in(&above, Path::new(name)),
        // A link on the way: the job has been told.
        Err(error) if is_exchanged(&error) || error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_in(above: &Directory, name: &Path) -> io::Result<()> {
    let path = above.path().join(name);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}
