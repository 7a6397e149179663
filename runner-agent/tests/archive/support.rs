//! Trees of files, made and compared.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Seek;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use runner_agent::archive::pack::{Format, PackError, pack};
use runner_agent::archive::unpack::{Limits, UnpackError, Unpacked, unpack};
use runner_agent::archive::{Entries, Entry, Level, Origin};

pub(crate) const FORMATS: [Format; 3] = [Format::Zip, Format::ZipZstd, Format::TarZstd];

/// What can be seen of a file: kind and permissions, seconds, and content or target as length and
/// checksum.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    mode: String,
    modified: i64,
    content: (usize, u32),
}

pub(crate) type Tree = BTreeMap<PathBuf, Sight>;

/// Everything below a directory.
pub(crate) fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    walk(root, &mut |path, data| {
        let kind = data.mode() & 0o170_000;
        let content = match () {
            () if data.is_file() => fs::read(root.join(path)).unwrap(),
            () if data.is_symlink() => {
                fs::read_link(root.join(path)).unwrap().as_os_str().as_bytes().to_vec()
            }
            () => Vec::new(),
        };
        // Nobody can choose a link's permissions.
        let mode = if data.is_symlink() { 0 } else { data.mode() & 0o7777 };
        let content = (content.len(), crc32fast::hash(&content));
        let mode = format!("{:o}", kind | mode);
        tree.insert(path.to_owned(), Sight { mode, modified: data.mtime(), content });
    });
    tree
}

impl Sight {
    /// Kind and permissions, octal.
    pub(crate) fn mode(&self) -> &str {
        &self.mode
    }

    pub(crate) fn is_link(&self) -> bool {
        self.mode.starts_with("12")
    }

    pub(crate) fn forget_time(&mut self) {
        self.modified = 0;
    }

    pub(crate) fn forget_time_of_link(&mut self) {
        if self.mode.starts_with("12") {
            self.modified = 0;
        }
    }
}

/// Says what differs, and not what 2 MB of content look like.
#[track_caller]
pub(crate) fn assert_same(seen: &Tree, wanted: &Tree, what: &str) {
    let paths: std::collections::BTreeSet<_> = seen.keys().chain(wanted.keys()).collect();
    let different: Vec<_> = paths
        .into_iter()
        .filter(|path| seen.get(*path) != wanted.get(*path))
        .map(|path| format!("{}: {:?}, not {:?}", path.display(), seen.get(path), wanted.get(path)))
        .collect();
    assert!(different.is_empty(), "{what}: {different:#?}");
}

/// All entries below a directory, as an archive wants them.
pub(crate) fn entries(root: &Path) -> Entries {
    let mut entries = Entries::new();
    walk(root, &mut |path, data| {
        entries.extend(Entry::of(data).map(|entry| (path.as_os_str().to_owned(), entry)));
    });
    entries
}

fn walk(root: &Path, found: &mut dyn FnMut(&Path, &fs::Metadata)) {
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for child in fs::read_dir(directory).unwrap() {
            let child = child.unwrap();
            let data = child.metadata().unwrap();
            found(child.path().strip_prefix(root).unwrap(), &data);
            if data.is_dir() {
                pending.push(child.path());
            }
        }
    }
}

/// Packs all of a directory into a file without a name.
pub(crate) fn packed(root: &Path, format: Format, level: Level) -> Result<File, PackError> {
    let mut file = tempfile::tempfile().unwrap();
    pack(&Origin::open(root).unwrap(), &entries(root), format, level, &mut file)?;
    file.rewind().unwrap();
    Ok(file)
}

/// The same, into a file with a name for other programs.
pub(crate) fn packed_as(root: &Path, format: Format, archive: &Path) {
    let mut file = File::create(archive).unwrap();
    let origin = Origin::open(root).unwrap();
    pack(&origin, &entries(root), format, Level::Default, &mut file).unwrap();
}

pub(crate) fn unpacked(file: File, root: &Path) -> Result<Unpacked, UnpackError> {
    unpack(file, root, Limits::default())
}

/// A tree with everything that has ever been forgotten by an archiver.
pub(crate) fn odd_tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["empty", "deep/er/still", "locked"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for (name, content) in [
        ("plain.txt", "plain\n".repeat(1000).into_bytes()),
        ("nothing", Vec::new()),
        ("deep/er/still/file", b"x".to_vec()),
        ("locked/inside", b"inside".to_vec()),
        ("-dash", b"-".to_vec()),
        ("back\\slash", b"\\".to_vec()),
        ("Ünïcødé 日本.txt", b"u".to_vec()),
        ("blank  s ", b" ".to_vec()),
        ("quote'\"$(id)`id`", b"q".to_vec()),
        (".hidden", b"h".to_vec()),
        ("noise", noise(300_000)),
        // More than two blocks of the compressor, and not a multiple of one.
        ("large", (0..2_500_000u32).flat_map(|n| (n / 7).to_le_bytes()[..1].to_vec()).collect()),
    ] {
        fs::write(at(name), content).unwrap();
    }
    let long = "n".repeat(200);
    fs::create_dir_all(at(&long)).unwrap();
    fs::write(at(&format!("{long}/{long}")), "long").unwrap();
    symlink("plain.txt", at("link")).unwrap();
    symlink("deep/../deep/./er", at("link-to-directory")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink("loop", at("loop")).unwrap();
    symlink("t".repeat(150), at("long-link")).unwrap();
    for (name, mode) in [
        ("plain.txt", 0o755),
        ("nothing", 0o600),
        ("-dash", 0o4755),
        ("locked/inside", 0o400),
        ("locked", 0o555),
    ] {
        fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
    }
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_891);
    File::open(at("plain.txt")).unwrap().set_modified(old).unwrap();
    File::open(at("empty")).unwrap().set_modified(old).unwrap();
    dir
}

/// Bytes that nothing compresses, the same every time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| step()).collect()
}

/// Runs a program; its output where it succeeded.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{complaint}");
    text
}
