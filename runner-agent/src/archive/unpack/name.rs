//! Names and targets in archives, before anything is done with them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use super::UnpackError;

/// The name as a path that cannot lead out. `None`: the directory itself.
pub(super) fn inside(name: &[u8]) -> Result<Option<PathBuf>, UnpackError> {
    let outside = || UnpackError::Outside(shown(name));
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return Err(outside()),
        }
    }
    if name.contains(&0) || name.is_empty() {
        return Err(outside());
    }
    Ok((!path.as_os_str().is_empty()).then_some(path))
}

/// Whether a link at `path` with this target may be made; see the module's page.
pub(super) fn check_target(path: &Path, target: &[u8]) -> Result<(), UnpackError> {
    let refused = || UnpackError::Link(path.display().to_string());
    if target.is_empty() || target.contains(&0) {
        return Err(refused());
    }
    let target = Path::new(OsStr::from_bytes(target));
    if target.is_absolute() {
        return Ok(());
    }
    let mut depth = path.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth = depth.checked_sub(1).ok_or_else(refused)?,
            _ => {}
        }
    }
    Ok(())
}

/// For messages.
pub(super) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
