//! The directory of the checkout: making, emptying and removing it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::plain;

/// Makes it, and what is above it.
pub(super) fn make(project: &Path) -> io::Result<()> {
    match fs::symlink_metadata(project) {
        // An earlier job may have put a link or a file there.
        Ok(data) if !data.is_dir() => fs::remove_file(project)?,
        _ => {}
    }
    fs::create_dir_all(project)
}

/// Removes it with everything in it; a directory that is a volume of its own is emptied.
pub(super) fn remove(project: &Path) -> io::Result<()> {
    let result = match fs::symlink_metadata(project) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(data) if data.is_dir() => remove_tree(project),
        Ok(_) => fs::remove_file(project),
    };
    match result {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => empty(project, &[]),
        other => other,
    }
}

/// Removes everything in it but these.
pub(super) fn empty(project: &Path, but: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(project)? {
        let entry = entry?;
        if but.iter().any(|kept| entry.file_name() == *kept) {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => remove_tree(&entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Removes a directory, also one whose directories cannot be written (Go's module cache is such).
/// The second look is only for those: GitLab Runner changes all modes before it removes anything.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(path);
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn make_writable(path: &Path) {
    let mut pending = vec![path.to_owned()];
    while let Some(directory) = pending.pop() {
        if !fs::symlink_metadata(&directory).is_ok_and(|data| data.is_dir()) {
            continue;
        }
        // What is not ours cannot be changed; the removal will say so.
        let _ = fs::set_permissions(&directory, fs::Permissions::from_mode(0o700));
        pending.extend(directories(&directory));
    }
}

fn directories(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let entries = entries.flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// Whether there is anything beside `.git`.
pub(super) fn has_files(project: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(project) else { return true };
    entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != ".git"))
}

/// Empties every directory in these submodules that is a repository, unless its `.git` is the way to one
/// in `.git/modules`: git would obey the settings in there as soon as it visits the submodule.
///
/// Nothing is lost that git would keep: in submodules whatever is not tracked is removed anyway.
/// Repositories elsewhere in the checkout stay (a build may keep its dependencies that way); git does not
/// go into them.
pub(super) fn remove_foreign_repositories(
    project: &Path,
    submodules: impl IntoIterator<Item = PathBuf>,
) -> io::Result<()> {
    let modules = project.join(".git/modules");
    let mut pending: Vec<_> = submodules.into_iter().collect();
    while let Some(directory) = pending.pop() {
        if !fs::symlink_metadata(&directory).is_ok_and(|data| data.is_dir()) {
            continue;
        }
        let git = directory.join(".git");
        match fs::symlink_metadata(&git) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(data) if data.is_file() && leads_into(&git, &directory, &modules) => {}
            Ok(_) => empty(&directory, &[])?,
        }
        pending.extend(directories(&directory));
    }
    Ok(())
}

/// Whether the file says `gitdir: ` and a path that ends below `modules`.
fn leads_into(file: &Path, directory: &Path, modules: &Path) -> bool {
    let Some(text) = plain::read(file) else { return false };
    let Some(target) = text.strip_prefix("gitdir: ") else { return false };
    let target = fs::canonicalize(directory.join(target.trim_end_matches('\n')));
    match (target, fs::canonicalize(modules)) {
        (Ok(target), Ok(modules)) => target != modules && target.starts_with(modules),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::{empty, make, remove, remove_foreign_repositories};

    #[test]
    fn stages_44_leftovers_go_whatever_their_modes_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        let project = directory.path().join("project");
        fs::create_dir_all(project.join("a/b")).unwrap();
        fs::write(project.join("a/b/file"), "").unwrap();
        symlink(&outside, project.join("link")).unwrap();
        for path in ["a/b/file", "a/b", "a"] {
            fs::set_permissions(project.join(path), fs::Permissions::from_mode(0o555)).unwrap();
        }
        remove(&project).unwrap();
        assert!(!project.exists() && outside.join("kept").exists());
        symlink(&outside, &project).unwrap();
        make(&project).unwrap();
        assert!(fs::symlink_metadata(&project).unwrap().is_dir());
        fs::write(project.join("x"), "").unwrap();
        fs::write(project.join("y"), "").unwrap();
        empty(&project, &["y"]).unwrap();
        assert!(!project.join("x").exists() && project.join("y").exists());
    }

    #[test]
    fn stages_57_repositories_that_a_job_planted_in_submodules_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let project = directory.path();
        fs::create_dir_all(project.join(".git/modules/sub")).unwrap();
        for path in ["sub/deep/planted/.git", "link", "elsewhere", "build/dependency/.git"] {
            fs::create_dir_all(project.join(path)).unwrap();
        }
        fs::write(project.join("sub/.git"), "gitdir: ../.git/modules/sub\n").unwrap();
        fs::write(project.join("elsewhere/.git"), "gitdir: ../.git/modules/../..\n").unwrap();
        symlink("../.git/modules/sub", project.join("link/.git")).unwrap();
        let submodules = ["sub", "link", "elsewhere", "none"].map(|path| project.join(path));
        remove_foreign_repositories(project, submodules).unwrap();
        for path in ["sub/.git", ".git", "build/dependency/.git", "sub/deep/planted"] {
            assert!(project.join(path).exists(), "{path}");
        }
        for path in ["sub/deep/planted/.git", "elsewhere/.git", "link/.git"] {
            assert!(fs::symlink_metadata(project.join(path)).is_err(), "{path}");
        }
    }
}
