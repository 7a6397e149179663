//! Which files a list of patterns means, below the project directory.
//!
//! Symbolic links are entries and are never followed: a job cannot name what lies outside.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};

use runner_core::glob::{Glob, static_prefix};

/// Entries by their path relative to the project, in order, with what kind of thing they are.
pub(super) type Entries = BTreeMap<String, Metadata>;

/// Why a pattern was left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// It leads out of the project.
    Outside,
    /// It is empty.
    Empty,
    /// It is malformed.
    Malformed(String),
}

/// Adds what a pattern matches, with everything below it; the result is how much that was.
pub(super) fn collect(
    project: &Path,
    pattern: &str,
    excluded: &[Glob],
    entries: &mut Entries,
) -> Result<usize, Odd> {
    let relative = relative(project, pattern)?;
    let before = entries.len();
    let mut known = 0;
    if relative.contains(['*', '?', '[', '{', '\\']) {
        let glob = Glob::new(&relative).map_err(|error| Odd::Malformed(error.to_string()))?;
        let base = static_prefix(&relative).to_owned();
        visit(project, &base, &mut |path, data| {
            if glob.matches(path) {
                add(project, path, data, excluded, entries, &mut known);
            }
        });
    } else if let Ok(data) = fs::symlink_metadata(project.join(&relative)) {
        add(project, &relative, &data, excluded, entries, &mut known);
    }
    Ok(entries.len() - before + known)
}

/// The pattern as seen from the project: `./a/../b/` is `b`.
pub(super) fn relative(project: &Path, pattern: &str) -> Result<String, Odd> {
    if pattern.is_empty() {
        return Err(Odd::Empty);
    }
    let mut clean = PathBuf::new();
    for component in project.join(pattern).components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    let below = clean.strip_prefix(project).map_err(|_| Odd::Outside)?;
    Ok(below.to_string_lossy().into_owned())
}

/// Adds an entry and, if it is a directory, everything below it.
fn add(
    project: &Path,
    path: &str,
    data: &Metadata,
    excluded: &[Glob],
    entries: &mut Entries,
    known: &mut usize,
) {
    let kind = data.file_type();
    let wanted = kind.is_file() || kind.is_dir() || kind.is_symlink();
    if wanted
        && !path.is_empty()
        && !excluded.iter().any(|glob| glob.matches(path))
        && entries.insert(path.to_owned(), data.clone()).is_some()
    {
        *known += 1;
    }
    if kind.is_dir() {
        visit(project, path, &mut |below, data| {
            let kind = data.file_type();
            if (kind.is_file() || kind.is_dir() || kind.is_symlink())
                && !excluded.iter().any(|glob| glob.matches(below))
                && entries.insert(below.to_owned(), data.clone()).is_some()
            {
                *known += 1;
            }
        });
    }
}

/// Calls back for everything below a directory of the project. What cannot be read is left out, as
/// a file that vanished while it was looked for.
fn visit(project: &Path, base: &str, found: &mut dyn FnMut(&str, &Metadata)) {
    // No component of the base may be a link: it could lead outside.
    let mut place = project.to_owned();
    for component in Path::new(base).components() {
        place.push(component);
        if fs::symlink_metadata(&place).is_ok_and(|data| data.is_symlink()) {
            return;
        }
    }
    let mut pending = vec![base.to_owned()];
    while let Some(directory) = pending.pop() {
        let Ok(children) = fs::read_dir(project.join(&directory)) else { continue };
        for child in children.flatten() {
            // A name that is no UTF-8 cannot be written into a zip archive that others can read.
            let Ok(name) = child.file_name().into_string() else { continue };
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let Ok(data) = child.metadata() else { continue };
            found(&path, &data);
            if data.is_dir() {
                pending.push(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use runner_core::glob::Glob;

    use super::{Entries, Odd, collect, relative};

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/c.txt"), "c").unwrap();
        fs::write(dir.path().join("a/.hidden"), "h").unwrap();
        fs::write(dir.path().join("top.txt"), "t").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("etc")).unwrap();
        dir
    }

    fn names(patterns: &[&str], exclude: &[&str]) -> Vec<String> {
        let dir = project();
        let excluded: Vec<_> = exclude.iter().map(|glob| Glob::new(glob).unwrap()).collect();
        let mut entries = Entries::new();
        for pattern in patterns {
            collect(dir.path(), pattern, &excluded, &mut entries).unwrap();
        }
        entries.into_keys().collect()
    }

    #[test]
    fn stages_a_directory_means_itself_and_everything_below() {
        assert_eq!(names(&["a/"], &[]), ["a", "a/.hidden", "a/b", "a/b/c.txt"]);
        assert_eq!(names(&["**/*.txt"], &[]), ["a/b/c.txt", "top.txt"]);
        assert_eq!(names(&["*"], &["a/**"]), ["etc", "top.txt"]);
        assert_eq!(names(&["a"], &["a/b"]), ["a", "a/.hidden", "a/b/c.txt"]);
    }

    #[test]
    fn links_are_entries_and_lead_nowhere() {
        assert_eq!(names(&["etc"], &[]), ["etc"]);
        assert!(names(&["etc/*"], &[]).is_empty());
        assert!(names(&["etc/host*"], &[]).is_empty());
    }

    #[test]
    fn a_pattern_may_leave_and_come_back_but_not_stay_outside() {
        let project = Path::new("/builds/p");
        assert_eq!(relative(project, "../p/x").unwrap(), "x");
        assert_eq!(relative(project, "/builds/p/./x/").unwrap(), "x");
        assert_eq!(relative(project, "../q"), Err(Odd::Outside));
        assert_eq!(relative(project, "/etc/passwd"), Err(Odd::Outside));
    }
}
