//! The archive of a cache in the cache directory, where GitLab Runner has it too.
//!
//! Where the cache directory is a volume that jobs mount as well, anything may lie in it. Links are not
//! followed below it, pipes are not waited for, and what is written takes the place of what was there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use runner_core::cache::CacheKey;
use rustix::fs::OFlags;
use tempfile::NamedTempFile;

use super::manifest::Manifest;
use crate::beneath::Directory;

/// Its name, whatever its format.
const ARCHIVE: &str = "cache.zip";
/// The key in a directory whose name may be a digest.
const METADATA: &str = "metadata.json";
/// What it held when it was restored or archived last.
const MANIFEST: &str = "manifest.json";
/// Longest manifest that is believed: it holds a name and a digest.
const LONGEST_MANIFEST: u64 = 64 * 1024;

/// The place of one cache.
#[derive(Clone, Debug)]
pub(super) struct Local {
    root: PathBuf,
    directory: PathBuf,
    alternate: PathBuf,
    human: String,
}

impl Local {
    pub(super) fn new(root: &Path, key: &CacheKey) -> Self {
        Self {
            root: root.to_owned(),
            directory: root.join(&key.local),
            alternate: root.join(&key.local_alternate),
            human: key.human.clone(),
        }
    }

    pub(super) fn archive(&self) -> PathBuf {
        self.directory.join(ARCHIVE)
    }

    /// Opens the archive, if there is one. One from before `FF_HASH_CACHE_KEYS` changed is moved.
    pub(super) fn open(&self) -> Option<File> {
        if self.plain(&self.directory, ARCHIVE).is_none() {
            let old = self.alternate.join(ARCHIVE);
            let moved = self.plain(&self.alternate, ARCHIVE).is_some()
                && Directory::make(&self.root, &self.directory).is_ok()
                && fs::rename(old, self.archive()).is_ok();
            if !moved {
                return None;
            }
        }
        self.plain(&self.directory, ARCHIVE)
    }

    /// A regular file of this directory of the cache's.
    fn plain(&self, directory: &Path, name: &str) -> Option<File> {
        let directory = Directory::open(&self.root, directory).ok()?;
        let mut options = fs::OpenOptions::new();
        // Flags of open(2) fit an i32 on every Linux.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let path = directory.path().join(name);
        let file = options.read(true).custom_flags(flags).open(path).ok()?;
        file.metadata().is_ok_and(|data| data.is_file()).then_some(file)
    }

    /// Puts a file in the place of whatever has this name.
    fn replace(&self, name: &str, text: &[u8], mode: u32) -> io::Result<()> {
        let directory = Directory::make(&self.root, &self.directory)?;
        let mut file = tempfile::Builder::new()
            .prefix("note_")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(directory.path())?;
        file.write_all(text)?;
        file.persist(directory.path().join(name)).map(drop).map_err(|error| error.error)
    }

    /// Seconds since 1970 of its last change.
    pub(super) fn modified(&self) -> Option<i64> {
        Some(self.plain(&self.directory, ARCHIVE)?.metadata().ok()?.mtime())
    }

    /// A file that may become the archive.
    pub(super) fn fresh(&self) -> io::Result<NamedTempFile> {
        Directory::make(&self.root, &self.directory)?;
        let _ = fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o700));
        tempfile::Builder::new()
            .prefix("archive_")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(&self.directory)
    }

    /// Makes a file the archive.
    pub(super) fn keep(&self, file: NamedTempFile, modified: Option<i64>) -> io::Result<File> {
        let file = file.persist(self.archive()).map_err(|error| error.error)?;
        if let Some(time) = modified.and_then(|seconds| u64::try_from(seconds).ok()) {
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(time))?;
        }
        let about = serde_json::json!({ "cachekey": self.human }).to_string();
        self.replace(METADATA, about.as_bytes(), 0o640)?;
        Ok(file)
    }

    pub(super) fn manifest(&self) -> Option<Manifest> {
        let mut text = Vec::new();
        let file = self.plain(&self.directory, MANIFEST)?;
        file.take(LONGEST_MANIFEST).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Notes what the cache holds. Without the note it is only archived once too often.
    pub(super) fn note(&self, manifest: &Manifest) {
        let _ = serde_json::to_vec(manifest)
            .map_err(io::Error::from)
            .and_then(|text| self.replace(MANIFEST, &text, 0o644));
    }

    /// Forgets what was noted: what is there now is something else.
    pub(super) fn forget(&self) {
        let _ = fs::remove_file(self.directory.join(MANIFEST));
    }
}

/// Whether the cache directory outlives the pod: it is a volume and not the container's own disk. Only
/// then is it worth keeping a second copy of what a cache server has.
pub(super) fn outlives_pod(root: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|data| data.dev()).ok();
    let existing = root.ancestors().find(|path| path.exists());
    match (existing.and_then(device), device(Path::new("/"))) {
        (Some(cache), Some(own)) => cache != own,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};

    use runner_core::cache::{CacheKey, KeyForm};

    use super::Local;

    #[test]
    fn stages_74_the_archive_has_the_objects_time_and_its_key_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let key = CacheKey::new("a/\"b\"", KeyForm::Hashed).unwrap();
        let local = Local::new(root.path(), &key);
        assert!(local.open().is_none());
        let mut file = local.fresh().unwrap();
        file.write_all(b"content").unwrap();
        local.keep(file, Some(1_234_567_890)).unwrap();
        assert_eq!(local.modified(), Some(1_234_567_890));
        let metadata = local.archive().with_file_name("metadata.json");
        assert_eq!(fs::read_to_string(metadata).unwrap(), r#"{"cachekey":"a/\"b\""}"#);
        assert_eq!(fs::read_dir(root.path().join(&key.local)).unwrap().count(), 2);
    }

    #[test]
    fn stages_66_an_archive_under_the_other_form_of_its_key_is_taken_over() {
        let root = tempfile::tempdir().unwrap();
        let plain = Local::new(root.path(), &CacheKey::new("k", KeyForm::Plain).unwrap());
        let mut file = plain.fresh().unwrap();
        file.write_all(b"old").unwrap();
        plain.keep(file, None).unwrap();
        let hashed = Local::new(root.path(), &CacheKey::new("k", KeyForm::Hashed).unwrap());
        let mut content = String::new();
        hashed.open().unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "old");
        assert!(plain.modified().is_none());
    }
}
