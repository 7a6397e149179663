//! Makes the directories and says where the job runs.

use std::fs;
use std::io;
use std::path::Path;

use runner_core::log::Message;
use runner_core::outcome::{Infra, InfraKind, Outcome};
use runner_core::shell::ENV_FILE;

use super::context::{Context, StageFailure};
use crate::beneath::Directory;

pub(super) fn prepare(context: &Context<'_>, via: &str) -> Result<(), StageFailure> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    context.say(&Message::plain(place(&host, via)))?;
    let directories = &context.plan.directories;
    // The job's own user gets them before its first command; see `ownership`.
    fs::create_dir_all(&directories.builds)
        .and_then(|()| fs::create_dir_all(&directories.project))
        .and_then(|()| temporary(Path::new(&directories.builds), Path::new(&directories.temp)))
        .and_then(|()| env_file(&Path::new(&directories.temp).join(ENV_FILE)))
        .map_err(|error| {
            let message = format!(
                "prepare environment: cannot prepare the directory {}: {error}. Check that the \
                 volume for builds can be written by the helper's user",
                directories.temp
            );
            StageFailure(Outcome::Infra(Infra::new(InfraKind::System, message)))
        })
}

/// Where the job runs, and by whom; an embedder's manager may have no name.
fn place(host: &str, via: &str) -> String {
    match via {
        "" => format!("Running on {host}..."),
        via => format!("Running on {host} via {via}..."),
    }
}

/// The directory for file variables and git's credentials: a real one. An earlier job of the same builds
/// directory may have left a link there, and would find next to where it leads what this job had to keep
/// to itself; cleaning up removes only the link. One in the place of a directory above is refused.
fn temporary(builds: &Path, path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|data| !data.is_dir()) {
        fs::remove_file(path)?;
    }
    match Directory::make(builds, path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(error),
        // Where the project is the builds directory itself this is beside it.
        _ => fs::create_dir_all(path),
    }
}

/// An empty `$GITLAB_ENV`.
fn env_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::File::create_new(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_manager_without_a_name_is_not_mentioned() {
        assert_eq!(place("pod-1", "manager-1"), "Running on pod-1 via manager-1...");
        assert_eq!(place("pod-1", ""), "Running on pod-1...");
    }
}
