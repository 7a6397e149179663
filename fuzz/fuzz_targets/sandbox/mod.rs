//! A project with things beside it that no archive may touch.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use runner_agent::archive::unpack::{Limits, Unpacked};

/// Small, so that bombs are found by their refusal and not by a full disk.
pub const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 200 };

pub struct Sandbox(tempfile::TempDir);

impl Sandbox {
    /// With links in the project that lead out of it.
    pub fn new() -> Self {
        let sandbox = Self(tempfile::tempdir().expect("a directory"));
        for name in ["project", "victim"] {
            fs::create_dir(sandbox.0.path().join(name)).expect("a directory");
        }
        fs::write(sandbox.0.path().join("victim/file"), "untouched").expect("a file");
        symlink("../victim", sandbox.project().join("a")).expect("a link");
        symlink("../victim/file", sandbox.project().join("b")).expect("a link");
        sandbox
    }

    pub fn project(&self) -> PathBuf {
        self.0.path().join("project")
    }

    /// Nothing has changed but the project.
    pub fn check(&self, unpacked: Option<Unpacked>) {
        let names = |path: PathBuf| fs::read_dir(path).expect("it is there").count();
        assert_eq!(names(self.0.path().to_owned()), 2);
        let victim = self.0.path().join("victim");
        assert_eq!(names(victim.clone()), 1);
        let content = fs::read(victim.join("file")).expect("it is there");
        assert_eq!(content, b"untouched");
        let links = fs::metadata(victim.join("file")).expect("it is there");
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&links), 1, "no other name for it");
        if let Some(unpacked) = unpacked {
            assert!(unpacked.bytes <= LIMITS.bytes && unpacked.entries <= LIMITS.entries);
        }
        // What an archive made unreadable must not stay behind.
        make_removable(&self.project());
    }
}

fn make_removable(directory: &std::path::Path) {
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
    let _ = fs::set_permissions(directory, mode);
    for child in fs::read_dir(directory).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_removable(&child.path());
        }
    }
}
