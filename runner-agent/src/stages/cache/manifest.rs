//! What a cache held: enough to see whether it has changed.
//!
//! GitLab Runner compares times only, so that a deleted file goes unnoticed and its archive is sent
//! again for nothing.

use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::archive::{Entries, Kind};

/// What a cache held when it was restored or archived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The object in the store that holds just this. `None`: only the local archive does.
    pub(super) object: Option<String>,
    /// Digest of names, kinds, permissions, lengths and times.
    pub(super) digest: String,
}

impl Manifest {
    pub(super) fn of(entries: &Entries, object: Option<String>) -> Self {
        let mut digest = Sha256::new();
        for (name, entry) in entries {
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name.as_bytes());
            digest.update([entry.kind as u8]);
            digest.update(entry.mode.to_le_bytes());
            // The time of a directory tells of files that came and went; the others are listed.
            if entry.kind != Kind::Directory {
                digest.update(entry.size.to_le_bytes());
                digest.update(entry.modified.to_le_bytes());
            }
        }
        let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { object, digest }
    }
}

#[cfg(test)]
mod tests {
    use super::Manifest;
    use crate::archive::{Entries, Entry, Kind};

    #[test]
    fn stages_75_every_change_that_matters_is_seen() {
        let file = Entry { kind: Kind::File, mode: 0o644, size: 1, modified: 9, uid: 0, gid: 0 };
        let directory = Entry { kind: Kind::Directory, mode: 0o755, ..file };
        let of = |list: &[(&str, Entry)]| {
            let entries: Entries = list.iter().map(|(name, e)| ((*name).into(), *e)).collect();
            Manifest::of(&entries, None)
        };
        let known = of(&[("d", directory), ("d/f", file)]);
        assert_eq!(known, of(&[("d", Entry { modified: 10, ..directory }), ("d/f", file)]));
        for changed in [
            of(&[("d", directory)]),
            of(&[("d", directory), ("d/f", file), ("d/g", file)]),
            of(&[("d", directory), ("d/g", file)]),
            of(&[("d", directory), ("d/f", Entry { size: 2, ..file })]),
            of(&[("d", directory), ("d/f", Entry { modified: 10, ..file })]),
            of(&[("d", directory), ("d/f", Entry { mode: 0o755, ..file })]),
            of(&[("d", directory), ("d/f", Entry { kind: Kind::Link, ..file })]),
        ] {
            assert_ne!(changed, known);
        }
    }
}
