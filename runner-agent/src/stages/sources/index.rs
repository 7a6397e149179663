//! Git's index, read without git: which files a repository tracks.
//!
//! It is the one thing in `.git` that is read after the job's own commands, so it is only data here:
//! versions 2 to 4, both object formats, no program, no configuration.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Linux knows no longer paths.
const LONGEST_PATH: usize = 4096;
/// An index of three million files. More is somebody's attack on this process' memory.
const LONGEST_FILE: u64 = 512 << 20;
/// The same for the paths, which version 4 compresses.
const MOST_NAMES: usize = 512 << 20;
/// What an entry has before its object's name: times, device, inode, mode, owner, size.
const STAT: usize = 40;

/// The entries of an index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    names: Vec<u8>,
    entries: Vec<Place>,
    /// No entries are in another file or stand for whole directories.
    is_complete: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Place {
    start: usize,
    end: usize,
    mode: u32,
    is_hidden: bool,
}

/// A tracked file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// From the top of the checkout.
    pub(crate) path: &'a [u8],
    /// A submodule.
    pub(crate) is_submodule: bool,
}

impl Index {
    /// `None`: there is none, or none that this understands.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let mut options = fs::OpenOptions::new();
        // A job may have put a link or a pipe there.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = options.read(true).custom_flags(flags).open(path).ok()?;
        let data = file.metadata().ok()?;
        if !data.is_file() || data.len() > LONGEST_FILE {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(LONGEST_FILE).read_to_end(&mut bytes).ok()?;
        Self::parse(&bytes)
    }

    /// The file does not say how long object names are; only one length makes sense of it.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        parse(bytes, 20).or_else(|| parse(bytes, 32))
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.entries.iter().map(|place| Entry {
            path: &self.names[place.start..place.end],
            is_submodule: place.mode & 0o170_000 == 0o160_000,
        })
    }

    /// Whether all tracked files are in it.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether git makes the files what they should be with it: none is excused from being looked
    /// at (`--assume-unchanged`, `--skip-worktree`, a sparse checkout of an earlier job).
    pub(crate) fn is_trustworthy(&self) -> bool {
        self.is_complete && !self.entries.iter().any(|place| place.is_hidden)
    }
}

fn parse(bytes: &[u8], hash: usize) -> Option<Index> {
    let mut at = Reader { bytes, at: 0 };
    if at.take(4)? != b"DIRC" {
        return None;
    }
    let version = at.number()?;
    if !(2..=4).contains(&version) {
        return None;
    }
    let count = usize::try_from(at.number()?).ok()?;
    let mut index = Index { is_complete: true, ..Index::default() };
    // An entry has more bytes than this; so a wrong count asks for no memory.
    index.entries.reserve(count.min(bytes.len() / STAT));
    let mut path: Vec<u8> = Vec::new();
    for _ in 0..count {
        let began = at.at;
        let mode = u32::from_be_bytes(at.take(STAT)?[24..28].try_into().ok()?);
        at.take(hash)?;
        let flags = at.short()?;
        let more = match flags & 0x4000 {
            0 => 0,
            _ if version == 2 => return None,
            _ => at.short()?,
        };
        let kept = match version {
            4 => path.len().checked_sub(at.offset()?)?,
            _ => 0,
        };
        let end = at.bytes[at.at..].iter().take(LONGEST_PATH).position(|byte| *byte == 0)?;
        path.truncate(kept);
        path.extend_from_slice(at.take(end)?);
        // With the zero at its end, or with as many as fill eight bytes.
        let length = at.at - began;
        at.take(if version == 4 { 1 } else { 8 - length % 8 })?;
        if path.is_empty() || path.len() > LONGEST_PATH {
            return None;
        }
        let start = index.names.len();
        index.names.extend_from_slice(&path);
        if index.names.len() > MOST_NAMES {
            return None;
        }
        index.is_complete &= mode & 0o170_000 != 0o040_000;
        let is_hidden = flags & 0x8000 != 0 || more & 0x4000 != 0;
        index.entries.push(Place { start, end: index.names.len(), mode, is_hidden });
    }
    while bytes.len() - at.at > hash {
        let name = at.take(4)?;
        let length = usize::try_from(at.number()?).ok()?;
        at.take(length)?;
        index.is_complete &= name != b"link";
    }
    (bytes.len() - at.at == hash).then_some(index)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let found = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(found)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A number of any length, as in packs' offsets: seven bits a byte, each further byte adds one.
    fn offset(&mut self) -> Option<usize> {
        let mut byte = self.take(1)?[0];
        let mut value = usize::from(byte & 127);
        while byte & 128 != 0 {
            byte = self.take(1)?[0];
            value = value.checked_add(1)?.checked_mul(128)? + usize::from(byte & 127);
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use proptest::prelude::*;

    use super::Index;

    fn git(directory: &Path, arguments: &[&str]) {
        let output = Command::new("git")
            .current_dir(directory)
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(arguments)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    fn repository(format: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        git(directory.path(), &["init", "--quiet", "--object-format", format]);
        for name in ["a", "dir/b", "dir/bc", "dir/ü and \"more\"", &"x".repeat(200)] {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "text").unwrap();
        }
        git(directory.path(), &["add", "."]);
        directory
    }

    fn paths(directory: &Path) -> Vec<String> {
        let index = Index::read(&directory.join(".git/index")).unwrap();
        index.entries().map(|entry| String::from_utf8(entry.path.to_vec()).unwrap()).collect()
    }

    #[test]
    fn real_indexes_of_every_version_and_format() {
        for format in ["sha1", "sha256"] {
            let directory = repository(format);
            let expected =
                ["a", "dir/b", "dir/bc", "dir/ü and \"more\"", &"x".repeat(200)].map(str::to_owned);
            for version in ["2", "3", "4"] {
                git(directory.path(), &["update-index", "--index-version", version]);
                assert_eq!(paths(directory.path()), expected, "{format} {version}");
            }
        }
    }

    #[test]
    fn stages_43_files_that_git_would_not_look_at_are_noticed() {
        for flag in ["--assume-unchanged", "--skip-worktree"] {
            let directory = repository("sha1");
            let index = directory.path().join(".git/index");
            assert!(Index::read(&index).unwrap().is_trustworthy());
            git(directory.path(), &["update-index", flag, "dir/b"]);
            assert!(!Index::read(&index).unwrap().is_trustworthy(), "{flag}");
        }
    }

    #[test]
    fn an_index_that_is_not_all_there_says_so() {
        let directory = repository("sha1");
        git(directory.path(), &["update-index", "--split-index"]);
        let index = Index::read(&directory.path().join(".git/index"));
        assert!(index.is_none_or(|index| !index.is_complete()));
    }

    #[test]
    fn what_is_no_index_is_none() {
        let directory = repository("sha1");
        let index = directory.path().join(".git/index");
        let bytes = std::fs::read(&index).unwrap();
        for end in 0..bytes.len() {
            assert_eq!(Index::parse(&bytes[..end]), None, "{end}");
        }
        std::fs::remove_file(&index).unwrap();
        std::os::unix::fs::symlink("/proc/kcore", &index).unwrap();
        assert_eq!(Index::read(&index), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            version in 2u8..5, count: u8, body in proptest::collection::vec(any::<u8>(), 0..400)
        ) {
            let mut bytes = b"DIRC\0\0\0".to_vec();
            bytes.extend([version, 0, 0, 0, count % 4]);
            bytes.extend(body);
            let _ = Index::parse(&bytes);
        }
    }
}
