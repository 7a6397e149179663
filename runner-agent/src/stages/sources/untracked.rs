//! Which files git does not track, found without git: after the job's own commands no setting in the
//! checkout is obeyed, because nothing reads one.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::index::Index;

/// What `git ls-files --others` lists: ignored files too; repositories inside the checkout as one
/// name with a slash at its end; names that are no UTF-8 are left out, since no archive can hold
/// them. Sorted.
///
/// `None`: there is no checkout, or its index is one that cannot be read here (split, damaged).
pub(in crate::stages) fn untracked(project: &Path) -> Option<Vec<String>> {
    let git = project.join(".git");
    // A link could lead to another job's checkout.
    if !fs::symlink_metadata(&git).ok()?.is_dir() {
        return None;
    }
    let path = git.join("index");
    let index = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        _ => Some(Index::read(&path).filter(Index::is_complete)?),
    };
    let tracked: HashSet<&[u8]> =
        index.iter().flat_map(Index::entries).map(|entry| entry.path).collect();
    let mut found = Vec::new();
    let mut pending = vec![String::new()];
    while let Some(directory) = pending.pop() {
        // What cannot be read, git does not list either.
        let Ok(entries) = fs::read_dir(project.join(&directory)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| *name != ".git") else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            let path = format!("{directory}{name}");
            // A directory that is tracked itself is a submodule.
            if tracked.contains(path.as_bytes()) {
                continue;
            }
            if !kind.is_dir() {
                found.push(path);
            } else if fs::symlink_metadata(entry.path().join(".git/HEAD")).is_ok() {
                found.push(path + "/");
            } else {
                pending.push(path + "/");
            }
        }
    }
    found.sort_unstable();
    Some(found)
}

/// Whether any tracked file of this name says something that `wanted` is looking for. Only regular
/// files in the checkout count.
pub(super) fn any_tracked(project: &Path, index: &Index, name: &str, wanted: &str) -> bool {
    let is_named = |path: &[u8]| {
        path.strip_suffix(name.as_bytes())
            .is_some_and(|before| before.is_empty() || before.ends_with(b"/"))
    };
    index.entries().filter(|entry| is_named(entry.path)).any(|entry| {
        let path = project.join(std::ffi::OsStr::from_bytes(entry.path));
        fs::symlink_metadata(&path).is_ok_and(|data| data.is_file())
            && fs::read(&path)
                .is_ok_and(|text| memchr::memmem::find(&text, wanted.as_bytes()).is_some())
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::untracked;

    fn git(directory: &Path, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("git").current_dir(directory).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output.stdout
    }

    #[test]
    fn stages_83_it_lists_what_git_lists() {
        let directory = tempfile::tempdir().unwrap();
        let project = directory.path();
        git(project, &["init", "--quiet"]);
        for (path, tracked) in [
            ("tracked", true),
            ("dir/tracked", true),
            ("dir/new", false),
            ("new dir/a\nb \"ü\"", false),
            ("ignored.log", false),
            ("deep/er/still/file", false),
            (".gitignore", true),
        ] {
            let file = project.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "*.log\n").unwrap();
            if tracked {
                git(project, &["add", "-f", path]);
            }
        }
        fs::create_dir(project.join("empty")).unwrap();
        std::os::unix::fs::symlink("nowhere", project.join("link")).unwrap();
        git(project, &["init", "--quiet", "inner"]);
        fs::write(project.join("inner/file"), "").unwrap();
        let listed = git(project, &["ls-files", "-o", "-z"]);
        let mut expected: Vec<_> =
            String::from_utf8(listed).unwrap().split_terminator('\0').map(str::to_owned).collect();
        expected.sort_unstable();
        assert_eq!(untracked(project).unwrap(), expected);
    }

    #[test]
    fn without_a_checkout_nothing_is_known() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(untracked(directory.path()), None);
        fs::write(directory.path().join(".git"), "gitdir: /elsewhere").unwrap();
        assert_eq!(untracked(directory.path()), None);
    }
}
