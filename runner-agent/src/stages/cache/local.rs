//! The archive of a cache in the cache directory, where GitLab Runner has it too.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use runner_core::cache::CacheKey;
use tempfile::NamedTempFile;

use super::manifest::Manifest;

/// Its name, whatever its format.
const ARCHIVE: &str = "cache.zip";
/// The key in a directory whose name may be a digest.
const METADATA: &str = "metadata.json";
/// What it held when it was restored or archived last.
const MANIFEST: &str = "manifest.json";

/// The place of one cache.
#[derive(Clone, Debug)]
pub(super) struct Local {
    directory: PathBuf,
    alternate: PathBuf,
    human: String,
}

impl Local {
    pub(super) fn new(root: &Path, key: &CacheKey) -> Self {
        Self {
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
        if !self.archive().exists() {
            let old = self.alternate.join(ARCHIVE);
            let moved = old.exists()
                && fs::create_dir_all(&self.directory).is_ok()
                && fs::rename(old, self.archive()).is_ok();
            if !moved {
                return None;
            }
        }
        File::open(self.archive()).ok()
    }

    /// Seconds since 1970 of its last change.
    pub(super) fn modified(&self) -> Option<i64> {
        fs::metadata(self.archive()).ok().map(|data| data.mtime())
    }

    /// A file that may become the archive.
    pub(super) fn fresh(&self) -> io::Result<NamedTempFile> {
        fs::create_dir_all(&self.directory)?;
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
        let metadata = self.directory.join(METADATA);
        fs::write(&metadata, serde_json::json!({ "cachekey": self.human }).to_string())?;
        fs::set_permissions(&metadata, fs::Permissions::from_mode(0o640))?;
        Ok(file)
    }

    pub(super) fn manifest(&self) -> Option<Manifest> {
        serde_json::from_slice(&fs::read(self.directory.join(MANIFEST)).ok()?).ok()
    }

    /// Notes what the cache holds. Without the note it is only archived once too often.
    pub(super) fn note(&self, manifest: &Manifest) {
        let noted = || -> io::Result<()> {
            fs::create_dir_all(&self.directory)?;
            fs::write(self.directory.join(MANIFEST), serde_json::to_vec(manifest)?)
        };
        let _ = noted();
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
