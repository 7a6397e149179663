//! Unpacks a zip archive below a directory, whatever the archive says.
//!
//! Nothing is written outside: names that lead out are refused, directories on the way that are
//! links are refused, and links are made last, when no file can be written through them any more.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

/// Most bytes that one archive may unpack to, so that a bomb fills no node. GitLab's own limit for
/// an archive is far below.
const MOST: u64 = 64 << 30;

/// Why an archive was not unpacked (whole).
#[derive(Debug, thiserror::Error)]
pub(super) enum UnpackError {
    /// A name that leads out of the directory.
    #[error("the archive was refused: its entry {0:?} lies outside of the project directory")]
    Outside(String),
    /// A link that leads out of the directory.
    #[error("the archive was refused: its link {0:?} leads out of the project directory")]
    Link(String),
    /// More data than any archive may hold.
    #[error("the archive was refused: it unpacks to more than {} GiB", MOST >> 30)]
    TooLarge,
    /// Not a zip archive, or a broken one.
    #[error("the archive is damaged: {0}")]
    Damaged(ZipError),
    /// The file system does not let us.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: String,
        /// Why.
        error: io::Error,
    },
}

/// Unpacks all of it.
///
/// # Errors
/// At the first entry that must not or cannot be written.
pub(super) fn unpack(file: File, root: &Path) -> Result<(), UnpackError> {
    let mut archive = ZipArchive::new(file).map_err(UnpackError::Damaged)?;
    let (mut links, mut modes, mut left) = (Vec::new(), Vec::new(), MOST);
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(UnpackError::Damaged)?;
        let name = entry.name().map_err(UnpackError::Damaged)?.into_owned();
        let path = inside(&name)?;
        let failed = |error| UnpackError::Io { path: name.clone(), error };
        let mode = entry.unix_mode().unwrap_or(0o644) & 0o7777;
        if entry.is_symlink() {
            let mut target = String::new();
            entry.by_ref().take(4096).read_to_string(&mut target).map_err(failed)?;
            links.push((path, target));
            continue;
        }
        if entry.is_dir() {
            make_directories(root, &path).map_err(failed)?;
            modes.push((root.join(&path), mode));
            continue;
        }
        let place = root.join(&path);
        if let Some(parent) = path.parent() {
            make_directories(root, parent).map_err(failed)?;
        }
        remove(&place).map_err(failed)?;
        let mut out = File::create_new(&place).map_err(failed)?;
        let copied = io::copy(&mut entry.by_ref().take(left + 1), &mut out).map_err(failed)?;
        left = left.checked_sub(copied).ok_or(UnpackError::TooLarge)?;
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    for (path, target) in links {
        make_link(root, &path, &target)?;
    }
    // Deepest first, so that a directory without the right to write can still be filled.
    for (path, mode) in modes.into_iter().rev() {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(mode));
    }
    Ok(())
}

/// The name as a path that cannot lead out.
fn inside(name: &str) -> Result<PathBuf, UnpackError> {
    let outside = || UnpackError::Outside(name.to_owned());
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return Err(outside()),
        }
    }
    if path.as_os_str().is_empty() || name.contains('\0') { Err(outside()) } else { Ok(path) }
}

/// Makes directories one by one; what is in the way is removed, a link above all.
fn make_directories(root: &Path, path: &Path) -> io::Result<()> {
    let mut place = root.to_owned();
    for component in path.components() {
        place.push(component);
        match fs::symlink_metadata(&place) {
            Ok(data) if data.is_dir() => {}
            Ok(_) => {
                fs::remove_file(&place)?;
                fs::create_dir(&place)?;
            }
            Err(_) => fs::create_dir(&place)?,
        }
    }
    Ok(())
}

fn remove(place: &Path) -> io::Result<()> {
    match fs::symlink_metadata(place) {
        Err(_) => Ok(()),
        Ok(data) if data.is_dir() => fs::remove_dir_all(place),
        Ok(_) => fs::remove_file(place),
    }
}

fn make_link(root: &Path, path: &Path, target: &str) -> Result<(), UnpackError> {
    let name = || path.display().to_string();
    let failed = |error| UnpackError::Io { path: name(), error };
    let mut depth = path.components().count() - 1;
    for component in Path::new(target).components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return Err(UnpackError::Link(name())),
        }
    }
    if let Some(parent) = path.parent() {
        make_directories(root, parent).map_err(failed)?;
    }
    let place = root.join(path);
    remove(&place).map_err(failed)?;
    symlink(target, &place).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::{UnpackError, unpack};

    fn archive(fill: impl FnOnce(&mut ZipWriter<File>)) -> File {
        let mut writer = ZipWriter::new(tempfile::tempfile().unwrap());
        fill(&mut writer);
        writer.finish().unwrap()
    }

    fn file(writer: &mut ZipWriter<File>, name: &str, mode: u32) {
        writer.start_file(name, SimpleFileOptions::default().unix_permissions(mode)).unwrap();
        writer.write_all(b"content").unwrap();
    }

    #[test]
    fn files_modes_and_links_come_back() {
        let root = tempfile::tempdir().unwrap();
        let zip = archive(|zip| {
            file(zip, "bin/tool", 0o755);
            zip.add_symlink("link", "bin/tool", SimpleFileOptions::default()).unwrap();
        });
        unpack(zip, root.path()).unwrap();
        let mode = fs::metadata(root.path().join("bin/tool")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(fs::read(root.path().join("link")).unwrap(), b"content");
    }

    #[test]
    fn nothing_is_written_outside_of_the_project() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("project");
        fs::create_dir(&root).unwrap();
        for name in ["../evil", "/tmp/evil", "a/../../evil"] {
            let zip = archive(|zip| file(zip, name, 0o644));
            assert!(matches!(unpack(zip, &root), Err(UnpackError::Outside(_))), "{name}");
        }
        for target in ["/etc", "..", "a/../../x"] {
            let zip = archive(|zip| {
                zip.add_symlink("link", target, SimpleFileOptions::default()).unwrap();
            });
            assert!(matches!(unpack(zip, &root), Err(UnpackError::Link(_))), "{target}");
        }
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_that_lies_in_the_way_is_not_written_through() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("project");
        let victim = outer.path().join("victim");
        fs::create_dir(&root).unwrap();
        fs::create_dir(&victim).unwrap();
        std::os::unix::fs::symlink(&victim, root.join("dir")).unwrap();
        unpack(archive(|zip| file(zip, "dir/file", 0o644)), &root).unwrap();
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
        assert_eq!(fs::read(root.join("dir/file")).unwrap(), b"content");
    }

    #[test]
    fn a_damaged_archive_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let mut zip = tempfile::tempfile().unwrap();
        zip.write_all(b"PK\x03\x04 not really").unwrap();
        assert!(matches!(unpack(zip, root.path()), Err(UnpackError::Damaged(_))));
    }
}
