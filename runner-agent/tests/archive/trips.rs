//! There and back.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use runner_agent::archive::pack::{Format, PackError};
use runner_agent::archive::unpack::{Limits, unpack_tar_zstd};
use runner_agent::archive::{Level, Origin};

use crate::support::{FORMATS, assert_same, entries, noise, odd_tree, packed, tree, unpacked};

const LEVELS: [Level; 5] =
    [Level::Fastest, Level::Fast, Level::Default, Level::Slow, Level::Slowest];

#[test]
fn stages_84_85_86_links_modes_times_and_odd_names_survive_in_every_format_at_every_level() {
    let from = odd_tree();
    let wanted = tree(from.path());
    for format in FORMATS {
        for level in LEVELS {
            let to = tempfile::tempdir().unwrap();
            unpacked(packed(from.path(), format, level).unwrap(), to.path()).unwrap();
            assert_same(&tree(to.path()), &wanted, &format!("{format:?} {level:?}"));
        }
    }
}

#[test]
fn archives_of_the_same_files_are_the_same() {
    let from = odd_tree();
    for format in FORMATS {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut bytes = Vec::new();
            let mut archive = packed(from.path(), format, Level::Default).unwrap();
            archive.read_to_end(&mut bytes).unwrap();
            seen.push(bytes);
        }
        assert!(seen[0] == seen[1] && seen[1] == seen[2], "{format:?}");
    }
}

#[test]
fn stages_95_unpacking_replaces_whatever_is_in_the_way() {
    let from = odd_tree();
    let wanted = tree(from.path());
    for format in FORMATS {
        let outer = tempfile::tempdir().unwrap();
        let victim = outer.path().join("victim");
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("file"), "untouched").unwrap();
        let to = outer.path().join("project");
        fs::create_dir(&to).unwrap();
        // A link where a file goes, one where a directory goes, a directory where a link goes, a
        // file where a directory goes, and the same links as in the archive.
        symlink("../victim/file", to.join("plain.txt")).unwrap();
        symlink("../victim", to.join("deep")).unwrap();
        fs::create_dir_all(to.join("link/with/content")).unwrap();
        fs::write(to.join("empty"), "a file").unwrap();
        symlink("nowhere", to.join("dangling")).unwrap();
        unpacked(packed(from.path(), format, Level::Default).unwrap(), &to).unwrap();
        assert_same(&tree(&to), &wanted, &format!("{format:?}"));
        assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
        // And once more over itself; what is not in the archive stays.
        fs::write(to.join("stays"), "here").unwrap();
        unpacked(packed(from.path(), format, Level::Default).unwrap(), &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("stays")).unwrap(), "here");
    }
}

#[test]
fn a_tar_archive_is_unpacked_while_it_comes_in() {
    let from = odd_tree();
    let archive = packed(from.path(), Format::TarZstd, Level::Default).unwrap();
    let to = tempfile::tempdir().unwrap();
    unpack_tar_zstd(OneByOne(archive), to.path(), Limits::default()).unwrap();
    assert_same(&tree(to.path()), &tree(from.path()), "");
}

/// Gives few bytes at a time, as a network does.
struct OneByOne<R>(R);

impl<R: Read> Read for OneByOne<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let most = out.len().min(777);
        self.0.read(&mut out[..most])
    }
}

#[test]
fn files_that_vanish_shrink_or_grow_meanwhile_leave_a_sound_archive() {
    for format in FORMATS {
        let from = tempfile::tempdir().unwrap();
        for name in ["grows", "shrinks", "vanishes", "becomes-a-link", "stays"] {
            fs::write(from.path().join(name), noise(3_000_000)).unwrap();
        }
        let listed = entries(from.path());
        fs::write(from.path().join("grows"), noise(5_000_000)).unwrap();
        fs::write(from.path().join("shrinks"), noise(1_500_000)).unwrap();
        fs::remove_file(from.path().join("vanishes")).unwrap();
        fs::remove_file(from.path().join("becomes-a-link")).unwrap();
        symlink("/etc/passwd", from.path().join("becomes-a-link")).unwrap();
        let mut archive = tempfile::tempfile().unwrap();
        let origin = Origin::open(from.path()).unwrap();
        let level = Level::Default;
        runner_agent::archive::pack::pack(&origin, &listed, format, level, &mut archive).unwrap();
        archive.rewind().unwrap();
        let to = tempfile::tempdir().unwrap();
        unpacked(archive, to.path()).unwrap();
        let read = |name: &str| fs::read(to.path().join(name)).ok();
        assert!(read("grows").unwrap() == noise(3_000_000), "{format:?}");
        assert!(read("stays").unwrap() == noise(3_000_000));
        assert!(read("shrinks").unwrap().starts_with(&noise(1_500_000)));
        assert!(read("vanishes").is_none() && read("becomes-a-link").is_none());
    }
}

#[test]
fn a_name_that_is_no_utf_8_survives() {
    let from = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(from.path().join(name), "latin").unwrap();
    for format in FORMATS {
        let to = tempfile::tempdir().unwrap();
        unpacked(packed(from.path(), format, Level::Default).unwrap(), to.path()).unwrap();
        assert_eq!(fs::read(to.path().join(name)).unwrap(), b"latin", "{format:?}");
    }
}

#[test]
fn stages_88_gzip_is_one_member_for_each_file_and_raw_is_the_file() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("a.xml"), "<a/>").unwrap();
    fs::create_dir(from.path().join("é")).unwrap();
    let archive = packed(from.path(), Format::Gzip, Level::Default);
    assert!(matches!(archive, Err(PackError::NotRegular(name)) if name == *"é"));

    let mut one = Vec::new();
    fs::remove_dir(from.path().join("é")).unwrap();
    packed(from.path(), Format::Raw, Level::Default).unwrap().read_to_end(&mut one).unwrap();
    assert_eq!(one, b"<a/>");

    fs::write(from.path().join("é%.xml"), "<b/>").unwrap();
    let both = packed(from.path(), Format::Gzip, Level::Default).unwrap();
    let mut text = String::new();
    MultiGzDecoder::new(both).read_to_string(&mut text).unwrap();
    assert_eq!(text, "<a/><b/>");
    let mut bytes = Vec::new();
    packed(from.path(), Format::Gzip, Level::Default).unwrap().read_to_end(&mut bytes).unwrap();
    let names = String::from_utf8_lossy(&bytes).into_owned();
    assert!(names.contains("a.xml\0a.xml\0"), "{names:?}");
    assert!(names.contains("e:%C3%A9%25.xml\0e:%C3%A9%25.xml\0"), "{names:?}");

    let two = packed(from.path(), Format::Raw, Level::Default);
    assert!(matches!(two, Err(PackError::NotOne)));
}

#[test]
fn a_full_disk_or_a_lost_reader_is_an_error_and_no_hang() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let from = odd_tree();
    let (origin, listed) = (Origin::open(from.path()).unwrap(), entries(from.path()));
    for format in FORMATS {
        let result =
            runner_agent::archive::pack::pack(&origin, &listed, format, Level::Default, &mut Full);
        assert!(matches!(result, Err(PackError::Write(_))), "{format:?}");
    }
    let missing =
        unpacked(packed(from.path(), Format::Zip, Level::Fast).unwrap(), Path::new("/none"));
    assert!(missing.is_err());
}
