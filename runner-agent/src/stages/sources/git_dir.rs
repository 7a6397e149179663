//! `.git` without git: making a fresh one, and taking one of an earlier job into use.
//!
//! Whoever wrote to the checkout before must not decide what git does now. So what is known to be
//! data stays and everything else goes: settings, hooks, attributes, locks of a git that was
//! killed, and whatever else git may learn to read. (GitLab Runner deletes a list of files; what is
//! not on it, such as `commondir`, is obeyed.)

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::config::Abilities;
use super::index::Index;
use super::{module_config, plain};

/// Files that are kept, of a repository and of a submodule's.
const FILES: &[&str] = &["HEAD", "packed-refs", "index", "shallow", "FETCH_HEAD", "ORIG_HEAD"];
/// Directories that are kept.
const DIRECTORIES: &[&str] = &["objects", "refs", "lfs", "modules"];
/// How deep submodules may be nested: their names may have slashes, so this is about path components.
const DEEPEST: usize = 64;

/// A checkout of an earlier job, by its directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leftover<'a>(pub(super) &'a Path);

impl Leftover<'_> {
    /// Leaves what is data. The result says whether there was a repository.
    pub(super) fn clean(self) -> io::Result<bool> {
        let git = self.0.join(".git");
        match fs::symlink_metadata(&git) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
            // A `.git` that is a file or a link leads elsewhere: begin anew.
            Ok(data) if !data.is_dir() => {
                fs::remove_file(&git)?;
                return Ok(false);
            }
            Ok(_) => {}
        }
        self.clean_repository(&git, &[], DEEPEST)?;
        // What makes git take a directory for a repository.
        Ok(git.join("HEAD").is_file() && git.join("objects").is_dir() && git.join("refs").is_dir())
    }

    fn clean_repository(self, git: &Path, more: &[&str], depth: usize) -> io::Result<()> {
        for entry in fs::read_dir(git)? {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            let known = |list: &[&str]| list.iter().any(|known| name == *known);
            // A link is neither: git would write where it leads.
            if kind.is_file() && (known(FILES) || known(more))
                || kind.is_dir() && known(DIRECTORIES)
            {
                continue;
            }
            remove(&entry.path())?;
        }
        clean_refs(&git.join("refs"))?;
        remove_locks(&git.join("objects"))?;
        remove_locks(&git.join("objects/info"))?;
        let index = git.join("index");
        if !Index::read(&index).is_some_and(|index| index.is_trustworthy()) {
            remove_if_there(&index)?;
        }
        self.clean_modules(&git.join("modules"), depth)
    }

    /// Repositories of submodules, whose names may have slashes.
    fn clean_modules(self, directory: &Path, depth: usize) -> io::Result<()> {
        let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if !entry.file_type()?.is_dir() || depth == 0 {
                remove(&path)?;
            } else if path.join("HEAD").symlink_metadata().is_err() {
                self.clean_modules(&path, depth - 1)?;
            } else if self.has_harmless_settings(&path)? {
                self.clean_repository(&path, &["config"], depth - 1)?;
            } else {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn has_harmless_settings(self, repository: &Path) -> io::Result<bool> {
        let config = repository.join("config");
        let Some(text) = plain::read(&config) else { return Ok(false) };
        let Some(kept) = module_config::harmless(&text, repository, self.0) else {
            return Ok(false);
        };
        fs::write(&config, &kept)?;
        Ok(!kept.is_empty())
    }
}

/// Removes locks and links below `refs`.
fn clean_refs(directory: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            clean_refs(&entry.path())?;
        } else if !kind.is_file() || is_lock(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn remove_locks(directory: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_lock(path)) {
        remove(&path)?;
    }
    Ok(())
}

fn is_lock(path: &Path) -> bool {
    path.extension() == Some(OsStr::new("lock"))
}

/// Removes anything; a link itself, never what it points to.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => super::project::remove_tree(path),
        false => fs::remove_file(path),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes what `git init` makes, without a process and without the image's templates and hooks.
/// What is there already stays.
pub(super) fn create(git: &Path) -> io::Result<()> {
    for directory in ["objects/info", "objects/pack", "refs/heads", "refs/tags", "info", "hooks"] {
        fs::create_dir_all(git.join(directory))?;
    }
    let head = git.join("HEAD");
    // GitLab Runner's name for the branch that nobody is on.
    if fs::read(&head).map_or(true, |content| content.is_empty()) {
        fs::write(head, "ref: refs/heads/none\n")?;
    }
    Ok(())
}

/// Whether objects were left out of the packs on purpose (`--filter`).
pub(super) fn is_partial(git: &Path) -> bool {
    let Ok(entries) = fs::read_dir(git.join("objects/pack")) else { return false };
    entries.flatten().any(|entry| entry.path().extension() == Some(OsStr::new("promisor")))
}

/// Finds out what `git init` finds out.
pub(super) fn abilities(git: &Path) -> Abilities {
    let probe = git.join("PodwrightProbe");
    let modes = fs::write(&probe, "")
        .and_then(|()| {
            let mode = fs::metadata(&probe)?.permissions().mode();
            fs::set_permissions(&probe, fs::Permissions::from_mode(mode ^ 0o100))?;
            Ok(fs::metadata(&probe)?.permissions().mode() != mode)
        })
        .unwrap_or(true);
    let ignores_case = git.join("pODWRIGHTpROBE").exists();
    let _ = fs::remove_file(&probe);
    let links = symlink("HEAD", &probe).is_ok();
    let _ = fs::remove_file(&probe);
    Abilities { modes, links, ignores_case }
}
