//! Which files a list of patterns means, below the project directory.
//!
//! Symbolic links are entries and are never followed, not even on the way to a file that is named
//! without a glob: a job cannot name what lies outside.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};

use runner_core::glob::{Glob, static_prefix};
use runner_core::log::Message;

use super::sources::untracked;
use crate::archive::{Entries, Entry};

/// What goes into an archive.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// Absolute; what the author calls it.
    pub(super) project: PathBuf,
    /// Where it is, whatever its name leads to by now.
    pub(super) directory: PathBuf,
    /// Patterns, expanded.
    pub(super) paths: Vec<String>,
    /// Patterns of what stays out, expanded.
    pub(super) exclude: Vec<String>,
    /// Also everything git does not track, ignored files included.
    pub(super) untracked: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Selected {
    pub(super) entries: Entries,
    /// What the author should know, in order.
    pub(super) messages: Vec<Message>,
}

/// Why a pattern was left out.
#[derive(Debug, PartialEq, Eq)]
enum Odd {
    Outside,
    Empty,
    Malformed(String),
}

impl Selection {
    /// Looks for the files. It reads directories, so it may take long: not for the supervisor's own
    /// thread.
    pub(super) fn find(&self) -> Selected {
        let mut messages = Vec::new();
        let excluded = Excluded::new(self, &mut messages);
        let mut walk = Walk {
            project: &self.project,
            directory: &self.directory,
            excluded,
            entries: Entries::new(),
            found: 0,
        };
        for pattern in &self.paths {
            walk.found = 0;
            messages.push(match walk.pattern(pattern) {
                Ok(()) if walk.found == 0 => Message::warning(format_args!(
                    "{pattern}: no matching files. Ensure that the artifact path is relative to the \
                     working directory ({})",
                    self.project.display()
                )),
                Ok(()) => Message::plain(format_args!(
                    "{pattern}: found {} matching artifact files and directories",
                    walk.found
                )),
                Err(Odd::Empty) => Message::warning("No matching files. Path is empty."),
                Err(Odd::Outside) => Message::warning(format_args!(
                    "processPath: artifact path is not a subpath of project directory: {pattern}"
                )),
                Err(Odd::Malformed(error)) => Message::warning(format_args!("{pattern}: {error}")),
            });
        }
        if self.untracked {
            walk.found = 0;
            for name in untracked(&self.directory).unwrap_or_default() {
                // The name is exact: nothing in it is a pattern.
                let name = name.trim_end_matches('/');
                if let Ok(data) = fs::symlink_metadata(self.directory.join(name)) {
                    walk.add(OsStr::new(name), &data);
                }
            }
            messages.push(match walk.found {
                0 => Message::warning("untracked: no files"),
                count => Message::plain(format_args!("untracked: found {count} files")),
            });
        }
        for (rule, _, count) in walk.excluded.rules.iter().filter(|(_, _, count)| *count > 0) {
            messages.push(Message::plain(format_args!("{rule}: excluded {count} files")));
        }
        Selected { entries: walk.entries, messages }
    }
}

/// The patterns of what stays out, with how often each did. One that cannot be used leaves the
/// others in force; GitLab Runner stops at it.
struct Excluded {
    rules: Vec<(String, Glob, usize)>,
}

impl Excluded {
    fn new(selection: &Selection, messages: &mut Vec<Message>) -> Self {
        let mut rules = Vec::new();
        for pattern in &selection.exclude {
            match relative(&selection.project, pattern).map(|relative| Glob::new(&relative)) {
                Ok(Ok(glob)) => rules.push((pattern.clone(), glob, 0)),
                Ok(Err(error)) => {
                    messages.push(Message::warning(format_args!("{pattern}: {error}")));
                }
                Err(_) => messages.push(Message::warning(format_args!(
                    "{pattern}: this exclude pattern is not below the project directory"
                ))),
            }
        }
        Self { rules }
    }

    fn has(&mut self, path: &str) -> bool {
        let rule = self.rules.iter_mut().find(|(_, glob, _)| glob.matches(path));
        rule.map(|(_, _, count)| *count += 1).is_some()
    }
}

struct Walk<'a> {
    project: &'a Path,
    directory: &'a Path,
    excluded: Excluded,
    entries: Entries,
    /// What the current rule has found, known from another rule or not.
    found: usize,
}

impl Walk<'_> {
    /// Adds what a pattern matches, with everything below it.
    fn pattern(&mut self, pattern: &str) -> Result<(), Odd> {
        let relative = relative(self.project, pattern)?;
        if !relative.contains(['*', '?', '[', '{', '\\']) {
            if !self.leads_through_a_link(&relative)
                && let Ok(data) = fs::symlink_metadata(self.directory.join(&relative))
            {
                self.tree(OsStr::new(&relative), &data);
            }
            return Ok(());
        }
        let glob = Glob::new(&relative).map_err(|error| Odd::Malformed(error.to_string()))?;
        let base = static_prefix(&relative);
        let place = self.directory.join(base);
        let is_link = fs::symlink_metadata(&place).is_ok_and(|data| data.is_symlink());
        if self.leads_through_a_link(base) || (is_link && !base.is_empty()) {
            return Ok(());
        }
        // `a/**` matches `a` itself, which no walk below it meets.
        if !base.is_empty()
            && glob.matches(base)
            && let Ok(data) = fs::symlink_metadata(&place)
        {
            self.add(OsStr::new(base), &data);
        }
        let mut pending = vec![OsString::from(base)];
        while let Some(directory) = pending.pop() {
            for (path, data) in children(self.directory, &directory) {
                if glob.matches(&path.to_string_lossy()) {
                    // With everything below, so there is nothing left to look for there.
                    self.tree(&path, &data);
                } else if data.is_dir() {
                    pending.push(path);
                }
            }
        }
        Ok(())
    }

    /// No component before the last may be a link: it could lead outside.
    fn leads_through_a_link(&self, path: &str) -> bool {
        let above = Path::new(path).ancestors().skip(1);
        above.filter(|above| !above.as_os_str().is_empty()).any(|above| {
            fs::symlink_metadata(self.directory.join(above)).is_ok_and(|d| d.is_symlink())
        })
    }

    /// Adds an entry and, if it is a directory, everything below it.
    fn tree(&mut self, path: &OsStr, data: &Metadata) {
        self.add(path, data);
        if !data.is_dir() {
            return;
        }
        let mut pending = vec![path.to_owned()];
        while let Some(directory) = pending.pop() {
            for (path, data) in children(self.directory, &directory) {
                self.add(&path, &data);
                if data.is_dir() {
                    pending.push(path);
                }
            }
        }
    }

    fn add(&mut self, path: &OsStr, data: &Metadata) {
        // Neither the project itself nor sockets, devices and pipes.
        let Some(entry) = Entry::of(data).filter(|_| !path.is_empty()) else { return };
        if !self.excluded.has(&path.to_string_lossy()) {
            self.entries.insert(path.to_owned(), entry);
            self.found += 1;
        }
    }
}

/// What a directory of the project holds. What cannot be read is left out, as a file that vanished
/// while it was looked for.
fn children(project: &Path, directory: &OsStr) -> Vec<(OsString, Metadata)> {
    let Ok(children) = fs::read_dir(project.join(directory)) else { return Vec::new() };
    children
        .flatten()
        .filter_map(|child| {
            let mut path = directory.to_owned();
            if !path.is_empty() {
                path.push("/");
            }
            path.push(child.file_name());
            Some((path, child.metadata().ok()?))
        })
        .collect()
}

/// The pattern as seen from the project: `./a/../b/` is `b`.
fn relative(project: &Path, pattern: &str) -> Result<String, Odd> {
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

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
