//! Whose the files of the checkout are.
//!
//! The job's own user must be able to change them, and `chmod` wants more than being allowed to
//! write: so they belong to that user wherever this process can see to it. No file of a checkout is
//! made writable for everybody.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use runner_core::plan::{BuildUser, Directories};
use runner_core::shell::ENV_FILE;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, openat, statat};
use rustix::thread::{CapabilitySet, capabilities};

/// How deep directories may be nested. Deeper ones cannot be reached by path anyway.
const DEEPEST: usize = 2048;

/// Whether this process can give files away and run programs as somebody else.
pub(crate) fn may_give() -> bool {
    let needed = CapabilitySet::CHOWN | CapabilitySet::SETUID | CapabilitySet::SETGID;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// Lets what this process makes be changed by its group where it cannot be given away: containers
/// that run as different users share a group at best (`fsGroup`; OpenShift's group 0).
pub(crate) fn share_with_group() {
    if !may_give() {
        rustix::process::umask(Mode::WOTH);
    }
}

/// Gives the job's directories to the job's own user, as far as this process may; `all`: with what is
/// in the checkout.
pub(crate) fn hand_over(directories: &Directories, user: BuildUser, all: bool) {
    let (project, temp) = (Path::new(&directories.project), Path::new(&directories.temp));
    if may_give() {
        // What cannot be given away (a volume with its own rules) shows when it is used.
        for above in project.ancestors().skip(1) {
            if above == Path::new(&directories.builds) || !above.starts_with(&directories.builds) {
                break;
            }
            let (uid, gid) = ids(user);
            let _ = chownat(CWD, above, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        }
        let _ = give(temp, user);
        if all {
            let _ = give(project, user);
        }
    }
    // Without its file variables and `$GITLAB_ENV` no job can run; nothing else is opened to all.
    if Shared::of(temp, user.uid, user.gid).is_some_and(|shared| !shared.is_writable) {
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        let _ = open(temp, 0o777).and_then(|()| open(&temp.join(ENV_FILE), 0o666));
    }
}

/// Who runs this program.
pub(crate) fn own_user() -> BuildUser {
    BuildUser { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
}

/// The owner of a file or directory itself, not of what it points to.
pub(crate) fn owner(path: &Path) -> io::Result<u32> {
    Ok(statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?.st_uid)
}

/// Gives a directory with everything in it to a user.
///
/// Works on open directories, never on paths below `path`: what runs beside may exchange a directory
/// for a link meanwhile.
///
/// # Errors
/// When this process may not; what vanishes meanwhile is no error.
pub(crate) fn give(path: &Path, user: BuildUser) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    chownat(CWD, path, ids(user).0, ids(user).1, AtFlags::SYMLINK_NOFOLLOW)?;
    let mut open = vec![Dir::new(openat(CWD, path, flags, Mode::empty())?)?];
    while let Some(directory) = open.last_mut() {
        let Some(entry) = directory.read() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let (uid, gid) = ids(user);
        let parent = directory.fd()?;
        match chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => continue,
            other => other?,
        }
        let may_be_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        if may_be_directory && open.len() < DEEPEST {
            let parent = open.last().map(Dir::fd).transpose()?;
            let child = parent.map(|parent| openat(parent, name, flags, Mode::empty()));
            if let Some(Ok(child)) = child {
                open.push(Dir::new(child)?);
            }
        }
    }
    Ok(())
}

/// A checkout that is not the job's own user's and cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    owner: u32,
    is_writable: bool,
}

impl Shared {
    /// `None`: it is the user's own, or there is none.
    pub(crate) fn of(project: &Path, uid: u32, gid: u32) -> Option<Self> {
        let data = statat(CWD, project, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let mode = Mode::from_raw_mode(data.st_mode);
        // The kubelet sets the group's bit on volumes of pods with an `fsGroup`, which all
        // containers are members of.
        let is_in_group = data.st_gid == gid || mode.contains(Mode::SGID);
        let is_writable =
            uid == 0 || mode.contains(Mode::WOTH) || is_in_group && mode.contains(Mode::WGRP);
        (data.st_uid != uid).then_some(Self { owner: data.st_uid, is_writable })
    }

    /// For the job's author, when the job can do less than it expects.
    pub(crate) fn warning(self, uid: u32) -> Option<String> {
        let Self { owner, is_writable } = self;
        (!is_writable).then(|| {
            format!(
                "the checkout belongs to user {owner} and the job runs as user {uid}, which cannot \
                 change it: let helper and build run as the same user, or set fs_group in \
                 [runners.kubernetes.pod_security_context]"
            )
        })
    }
}

fn ids(user: BuildUser) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use runner_core::plan::BuildUser;

    use super::{give, may_give, owner};

    #[test]
    fn stages_61_everything_is_given_and_links_are_not_followed() {
        if !may_give() {
            return eprintln!("left out: needs the right to change owners");
        }
        let directory = tempfile::tempdir().unwrap();
        let outside = directory.path().join("outside");
        fs::write(&outside, "").unwrap();
        let project = directory.path().join("project");
        fs::create_dir_all(project.join("a/b/c")).unwrap();
        fs::write(project.join("a/b/file"), "").unwrap();
        symlink(&outside, project.join("a/link")).unwrap();
        symlink(directory.path(), project.join("a/up")).unwrap();
        give(&project, BuildUser { uid: 1234, gid: 5678 }).unwrap();
        for path in ["", "a", "a/b", "a/b/c", "a/b/file", "a/link", "a/up"] {
            assert_eq!(owner(&project.join(path)).unwrap(), 1234, "{path}");
        }
        assert_ne!(owner(&outside).unwrap(), 1234);
    }
}
