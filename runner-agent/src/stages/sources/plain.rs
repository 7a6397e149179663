//! Small files that the job may have exchanged for anything.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Longest configuration, `HEAD` or `.git` file of a repository that is read, in bytes. A configuration with
/// a thousand submodules is a tenth of it.
const LONGEST: u64 = 1 << 20;

/// What stands in a file, if it is one and not a link, a pipe that nobody writes to, a device without
/// end, or longer than any honest one. The supervisor reads it by itself: what it waits for, all wait for.
pub(super) fn read(path: &Path) -> Option<String> {
    let mut options = fs::OpenOptions::new();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = options.read(true).custom_flags(flags).open(path).ok()?;
    let data = file.metadata().ok()?;
    if !data.is_file() || data.len() > LONGEST {
        return None;
    }
    let mut text = String::new();
    // It may have grown since.
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_plain_files_of_a_sane_length_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "text").unwrap();
        assert_eq!(read(&path("file")).as_deref(), Some("text"));
        let mode = rustix::fs::Mode::from(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        symlink("/dev/zero", path("device")).unwrap();
        symlink("file", path("link")).unwrap();
        fs::File::create(path("long")).unwrap().set_len(LONGEST + 1).unwrap();
        for name in ["pipe", "device", "link", "long", "missing", "."] {
            assert_eq!(read(&path(name)), None, "{name}");
        }
    }
}
