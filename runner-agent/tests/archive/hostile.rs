//! Archives that nobody's build makes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read, Seek, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use rstest::rstest;
use runner_agent::archive::pack::{Format, pack};
use runner_agent::archive::unpack::{Limits, UnpackError, unpack};
use runner_agent::archive::{Entry, Kind, Level, Origin};
use tar::{Builder, EntryType, Header};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::support::{packed, unpacked};

/// What an archive is made of here: a name and a content, or a target.
enum Part {
    File(&'static str, &'static str),
    Link(&'static str, &'static str),
    Hard(&'static str, &'static str),
}
use Part::{File as Plain, Hard, Link};

#[derive(Clone, Copy, Debug)]
enum Kinds {
    Zip,
    Tar,
}

fn archive(kind: Kinds, parts: &[Part]) -> File {
    let bytes = match kind {
        Kinds::Zip => {
            let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
            for part in parts {
                match part {
                    Plain(name, content) => {
                        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
                        zip.write_all(content.as_bytes()).unwrap();
                    }
                    Link(name, target) => {
                        zip.add_symlink(*name, *target, SimpleFileOptions::default()).unwrap();
                    }
                    Hard(..) => unreachable!("zip has no hard links"),
                }
            }
            zip.finish().unwrap().into_inner()
        }
        Kinds::Tar => {
            let mut tar = Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
            for part in parts {
                let (name, kind, text) = match part {
                    Plain(name, content) => (name, EntryType::Regular, content),
                    Link(name, target) => (name, EntryType::Symlink, target),
                    Hard(name, target) => (name, EntryType::Link, target),
                };
                let data = if kind.is_file() { text.as_bytes() } else { &[] };
                raw(&mut tar, name, kind, text, data);
            }
            tar.into_inner().unwrap().finish().unwrap()
        }
    };
    file(&bytes)
}

/// An entry as it is, past the checks of the `tar` crate.
fn raw(tar: &mut Builder<impl Write>, name: &str, kind: EntryType, target: &str, data: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    if !kind.is_file() {
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    }
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    header.set_cksum();
    tar.append(&header, data).unwrap();
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// A project in a directory with something worth writing to beside it.
fn project() -> (tempfile::TempDir, std::path::PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("project");
    fs::create_dir(&root).unwrap();
    fs::create_dir(outer.path().join("victim")).unwrap();
    (outer, root)
}

fn is_untouched(outer: &Path) -> bool {
    fs::read_dir(outer).unwrap().count() == 2
        && fs::read_dir(outer.join("victim")).unwrap().count() == 0
}

#[rstest]
#[case::up(&[Plain("../evil", "")])]
#[case::up_later(&[Plain("a/../../evil", "")])]
#[case::absolute(&[Plain("/tmp/podwright-evil", "")])]
#[case::up_link(&[Link("../victim/evil", "x")])]
#[case::link_to_parent(&[Link("out", "..")])]
#[case::link_past_the_root(&[Link("a/out", "../../victim")])]
#[case::link_that_winds(&[Link("out", "a/b/../../../victim")])]
#[case::below_a_link(&[Link("dir", "a"), Plain("dir/evil", "")])]
#[case::below_an_absolute_link(&[Link("dir", "/tmp"), Plain("dir/podwright-evil", "")])]
#[case::link_below_a_link(&[Link("a", "b"), Link("a/b", "c")])]
fn stages_94_nothing_is_written_outside_of_the_project(
    #[values(Kinds::Zip, Kinds::Tar)] kind: Kinds,
    #[case] parts: &[Part],
) {
    let (outer, root) = project();
    let error = unpacked(archive(kind, parts), &root).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("the archive was refused: "), "{text}");
    assert!(is_untouched(outer.path()));
}

#[rstest]
#[case(&[Link("link", "../victim"), Hard("evil", "link/x")])]
#[case(&[Hard("evil", "../victim")])]
#[case(&[Hard("evil", "/etc/passwd")])]
#[case(&[Hard("evil", "dir/secret")])]
#[case(&[Hard("evil", "dir")])]
fn stages_94_hard_links_name_files_of_the_project_only(#[case] parts: &[Part]) {
    let (outer, root) = project();
    fs::write(outer.path().join("victim/secret"), "s").unwrap();
    symlink("../victim", root.join("dir")).unwrap();
    assert!(unpacked(archive(Kinds::Tar, parts), &root).is_err());
    assert!(!root.join("evil").exists());
    assert_eq!(fs::read(outer.path().join("victim/secret")).unwrap(), b"s");
}

#[rstest]
fn stages_94_links_that_lie_in_the_way_are_not_written_through(
    #[values(Kinds::Zip, Kinds::Tar)] kind: Kinds,
) {
    let (outer, root) = project();
    symlink("../victim", root.join("dir")).unwrap();
    symlink("../victim/new", root.join("file")).unwrap();
    let parts = [Plain("dir/sub/file", "1"), Plain("file", "2")];
    unpacked(archive(kind, &parts), &root).unwrap();
    assert!(is_untouched(outer.path()));
    assert_eq!(fs::read(root.join("dir/sub/file")).unwrap(), b"1");
    assert_eq!(fs::read(root.join("file")).unwrap(), b"2");
}

/// Small files are written behind the reader's back.
#[rstest]
#[case::the_same_file_twice(&[Plain("a", "1"), Plain("a", "2")], &[("a", "2")])]
#[case::a_file_in_the_place_of_a_directory(&[Plain("a/b", "1"), Plain("a", "2")], &[("a", "2")])]
#[case::a_directory_in_the_place_of_a_file(&[Plain("a", "1"), Plain("a/b/c", "2")], &[("a/b/c", "2")])]
#[case::another_name(&[Plain("a", "1"), Hard("b", "a"), Plain("a", "2")], &[("a", "2"), ("b", "1")])]
#[case::another_name_twice(
    &[Plain("a", "1"), Plain("b", "0"), Hard("b", "a"), Hard("c", "b")],
    &[("a", "1"), ("b", "1"), ("c", "1")]
)]
fn entries_of_a_tar_archive_count_in_their_order(
    #[case] parts: &[Part],
    #[case] expected: &[(&str, &str)],
) {
    // Other files around them, so that the order of threads would show.
    let names: Vec<String> = (0..200).map(|n| format!("other/{n}")).collect();
    let names: &'static [String] = names.leak();
    let mut all = Vec::new();
    for (index, name) in names.iter().enumerate() {
        all.push(Plain(name, "x"));
        let step = if index % 60 == 50 { parts } else { &[] };
        all.extend(step.iter().map(|part| match part {
            Plain(name, content) => Plain(name, content),
            Link(name, target) => Link(name, target),
            Hard(name, target) => Hard(name, target),
        }));
    }
    for _ in 0..3 {
        let (_outer, root) = project();
        unpacked(archive(Kinds::Tar, &all), &root).unwrap();
        for (name, content) in expected {
            assert_eq!(fs::read_to_string(root.join(name)).unwrap(), *content, "{name}");
        }
    }
}

#[test]
fn what_comes_before_a_cut_of_a_tar_archive_is_written() {
    let (_outer, root) = project();
    let mut tar = Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    raw(&mut tar, "first", EntryType::Regular, "", b"1");
    raw(&mut tar, "large", EntryType::Regular, "", &crate::support::noise(400_000));
    let bytes = tar.into_inner().unwrap().finish().unwrap();
    assert!(unpacked(file(&bytes[..bytes.len() / 2]), &root).is_err());
    assert_eq!(fs::read_to_string(root.join("first")).unwrap(), "1");
}

#[test]
fn a_zip_archive_is_judged_before_anything_is_written() {
    let (_outer, root) = project();
    let parts = [Plain("good", "1"), Plain("../evil", "2")];
    assert!(unpacked(archive(Kinds::Zip, &parts), &root).is_err());
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}

#[rstest]
fn too_many_bytes_or_entries_are_refused(#[values(Kinds::Zip, Kinds::Tar)] kind: Kinds) {
    let (_outer, root) = project();
    let parts = || archive(kind, &[Plain("a", "12345"), Plain("b", "12345")]);
    let limits = |bytes, entries| Limits { bytes, entries };
    let result = unpack(parts(), &root, limits(9, 10));
    assert!(matches!(result, Err(UnpackError::TooLarge(9))), "{result:?}");
    assert!(matches!(unpack(parts(), &root, limits(10, 1)), Err(UnpackError::TooMany(1))));
    assert!(unpack(parts(), &root, limits(10, 2)).is_ok());
}

#[test]
fn data_that_goes_on_beyond_what_the_list_says_is_a_bomb() {
    let (_outer, root) = project();
    let mut bytes = Vec::new();
    let mut zip = archive(Kinds::Zip, &[Plain("a", "123456789")]);
    zip.read_to_end(&mut bytes).unwrap();
    // The length in the list: behind method, times, checksum and packed length.
    let list = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    bytes[list + 24] = 3;
    assert!(matches!(unpacked(file(&bytes), &root), Err(UnpackError::Bomb)));
    assert!(!root.join("a").exists() || fs::read(root.join("a")).unwrap().len() <= 3);
}

#[test]
fn data_that_is_used_twice_is_a_bomb() {
    let (_outer, root) = project();
    let mut bytes = Vec::new();
    let mut zip = archive(Kinds::Zip, &[Plain("a", "1"), Plain("b", "1")]);
    zip.read_to_end(&mut bytes).unwrap();
    // Both names of the list for the first one's data.
    let list = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    bytes[list + 42..list + 46].fill(0);
    assert!(matches!(unpacked(file(&bytes), &root), Err(UnpackError::Bomb)));
}

#[test]
fn a_name_of_gigabytes_in_a_tar_archive_takes_no_memory() {
    let (_outer, root) = project();
    for kind in [EntryType::GNULongName, EntryType::XHeader] {
        let mut out = zstd::Encoder::new(Vec::new(), 1).unwrap();
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(3 << 20);
        header.set_cksum();
        out.write_all(header.as_bytes()).unwrap();
        out.write_all(&vec![b'n'; 3 << 20]).unwrap();
        let bytes = out.finish().unwrap();
        let error = unpacked(file(&bytes), &root).unwrap_err().to_string();
        assert!(error.contains("too long"), "{error}");
    }
}

#[test]
fn devices_and_pipes_are_refused() {
    let (_outer, root) = project();
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let mut tar = Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
        raw(&mut tar, "device", kind, "", &[]);
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        assert!(matches!(unpacked(file(&bytes), &root), Err(UnpackError::Special(_))));
    }
}

#[test]
fn every_cut_and_every_flipped_byte_is_noticed_or_harmless() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("a"), "a".repeat(500)).unwrap();
    fs::write(from.path().join("b"), crate::support::noise(300)).unwrap();
    for format in crate::support::FORMATS {
        let mut bytes = Vec::new();
        packed(from.path(), format, Level::Default).unwrap().read_to_end(&mut bytes).unwrap();
        for cut in 0..bytes.len() {
            let root = tempfile::tempdir().unwrap();
            assert!(unpacked(file(&bytes[..cut]), root.path()).is_err(), "{format:?} {cut}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x41;
            let root = tempfile::tempdir().unwrap();
            if unpacked(file(&flipped), root.path()).is_ok() {
                // Names, times and modes carry no checksum in zip; content does.
                for child in fs::read_dir(root.path()).unwrap() {
                    let content = fs::read(child.unwrap().path()).unwrap_or_default();
                    let known = [vec![b'a'; 500], crate::support::noise(300), Vec::new()];
                    assert!(known.contains(&content), "{format:?} {at}");
                }
            }
        }
    }
}

#[test]
fn other_formats_are_named() {
    let (_outer, root) = project();
    let error = unpacked(file(b"\x1f\x8b\x08\x00 gzip"), &root).unwrap_err();
    assert_eq!(error.to_string(), "\"gzip\" format: unsupported archive format");
    let error = unpacked(file(b"<html>not found</html>"), &root).unwrap_err();
    assert!(error.to_string().starts_with("the archive is damaged: "));
    assert!(unpacked(file(b""), &root).is_err());
}

#[test]
fn more_entries_than_16_bits_can_count_are_listed_by_others_too() {
    let entry = Entry { kind: Kind::Directory, mode: 0o755, size: 0, modified: 0, uid: 0, gid: 0 };
    let entries: BTreeMap<_, _> = (0..70_000).map(|n| (format!("d{n}").into(), entry)).collect();
    let work = tempfile::tempdir().unwrap();
    let archive = work.path().join("many.zip");
    let mut out = File::create(&archive).unwrap();
    let origin = Origin::open(work.path()).unwrap();
    pack(&origin, &entries, Format::Zip, Level::Default, &mut out).unwrap();
    let count = "import sys, zipfile; print(len(zipfile.ZipFile(sys.argv[1]).namelist()))";
    let mut python = std::process::Command::new("python3");
    let counted = crate::support::run(python.args(["-c", count]).arg(&archive));
    assert_eq!(counted.trim(), "70000");
    let limits = Limits { entries: 69_999, ..Limits::default() };
    let result = unpack(File::open(&archive).unwrap(), work.path(), limits);
    assert!(matches!(result, Err(UnpackError::TooMany(69_999))), "{result:?}");
}
