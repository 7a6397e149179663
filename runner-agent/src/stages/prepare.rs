//! Makes the directories and says where the job runs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use runner_core::log::Message;
use runner_core::shell::ENV_FILE;

use super::context::{Context, StageFailure};

pub(super) fn prepare(context: &Context<'_>, via: &str) -> Result<(), StageFailure> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    context.say(&Message::plain(format_args!("Running on {host} via {via}...")))?;
    let directories = &context.plan.directories;
    open_to_all(Path::new(&directories.builds))
        .and_then(|()| open_to_all(Path::new(&directories.project)))
        .and_then(|()| open_to_all(Path::new(&directories.temp)))
        .and_then(|()| env_file(&Path::new(&directories.temp).join(ENV_FILE)))
        .map_err(|error| {
            context.fail(format_args!("cannot prepare the directory {}: {error}", directories.temp))
        })
}

/// Makes a directory that the build container's user can write, whoever that is. The directory lies
/// in a volume of this job alone.
fn open_to_all(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    // Somebody else's directory (a volume with its own rules) stays as it is.
    let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o777));
    Ok(())
}

/// An empty `$GITLAB_ENV` that the build container's user can write.
fn env_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::File::create_new(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}
