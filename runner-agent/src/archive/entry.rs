//! What goes into an archive.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Entries by their path relative to the project, in the order of their bytes: archives of the same
/// files are the same.
pub type Entries = BTreeMap<OsString, Entry>;

/// What an archive says about a file beside its name and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What kind of thing it is.
    pub kind: Kind,
    /// Permissions with the set-uid, set-gid and sticky bits.
    pub mode: u32,
    /// Bytes, when it was listed. A file is packed up to this length, so one that still grows makes
    /// no endless archive.
    pub size: u64,
    /// Seconds since 1970.
    pub modified: i64,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Kinds of things that archives hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory; its content has entries of its own.
    Directory,
    /// A symbolic link.
    Link,
}

impl Entry {
    /// From what `lstat` says. `None`: sockets, devices and pipes are in no archive.
    pub fn of(data: &Metadata) -> Option<Self> {
        let kind = match data.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Link,
            _ => return None,
        };
        Some(Self {
            kind,
            mode: data.mode() & 0o7777,
            size: data.len(),
            modified: data.mtime(),
            uid: data.uid(),
            gid: data.gid(),
        })
    }
}
