//! What everybody else packs and unpacks with.

use std::fs::{self, File};
use std::process::Command;

use runner_agent::archive::pack::Format;

use crate::support::{Sight, assert_same, odd_tree, packed_as, run, tree, unpacked};

const EXTRACT: &str = "import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as z:
    assert z.testzip() is None
    z.extractall(sys.argv[2])
    for i in z.infolist():
        print(i.filename, oct(i.external_attr >> 16), *i.date_time)";

const PACK: &str = "import os, sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED) as z:
    for d, dirs, files in os.walk('.'):
        for n in dirs + files:
            p = os.path.join(d, n)
            if not os.path.islink(p): z.write(p)";

#[test]
fn unzip_reads_what_is_packed_here() {
    let from = odd_tree();
    let work = tempfile::tempdir().unwrap();
    let (archive, to) = (work.path().join("a.zip"), work.path().join("to"));
    packed_as(from.path(), Format::Zip, &archive);
    run(Command::new("unzip").arg("-tq").arg(&archive));
    // `-X` and `-K`: with owners and set-uid bits, which it leaves out else.
    run(Command::new("unzip").args(["-q", "-X", "-K"]).arg(&archive).arg("-d").arg(&to));
    let (mut wanted, mut seen) = (tree(from.path()), tree(&to));
    // It takes the back slash for a separator of other systems, and leaves links their new time.
    for tree in [&mut wanted, &mut seen] {
        tree.retain(|path, _| !path.to_string_lossy().contains("back"));
        tree.values_mut().for_each(Sight::forget_time_of_link);
    }
    assert_same(&seen, &wanted, "");
}

#[test]
fn pythons_zipfile_reads_what_is_packed_here_and_the_other_way_round() {
    let from = odd_tree();
    let work = tempfile::tempdir().unwrap();
    let (archive, to) = (work.path().join("a.zip"), work.path().join("to"));
    packed_as(from.path(), Format::Zip, &archive);
    let list = run(Command::new("python3").args(["-c", EXTRACT]).arg(&archive).arg(&to));
    assert!(list.contains("plain.txt 0o100755 2009 2 13 23 31 30\n"), "{list}");
    assert!(list.contains("-dash 0o104755"), "{list}");
    assert!(list.contains("empty/ 0o40"), "{list}");
    assert!(list.contains("link 0o120777"), "{list}");
    assert!(list.contains("Ünïcødé 日本.txt"), "{list}");
    for (path, sight) in tree(from.path()) {
        let slash = if sight.mode().starts_with("40") { "/" } else { "" };
        // Nobody can choose a link's permissions.
        let mode = if sight.is_link() { "120777" } else { sight.mode() };
        let line = format!("{}{slash} 0o{mode} ", path.display());
        assert!(list.contains(&line), "{line:?} is not in {list}");
        if slash.is_empty() && !sight.is_link() {
            let (theirs, ours) = (fs::read(to.join(&path)), fs::read(from.path().join(&path)));
            assert!(theirs.unwrap() == ours.unwrap(), "{path:?}");
        }
    }

    let theirs = work.path().join("theirs.zip");
    run(Command::new("python3").args(["-c", PACK]).arg(&theirs).current_dir(from.path()));
    let back = tempfile::tempdir().unwrap();
    unpacked(File::open(&theirs).unwrap(), back.path()).unwrap();
    let (mut seen, mut wanted) = (tree(back.path()), tree(from.path()));
    // It follows links, and its times are local ones in steps of two seconds.
    wanted.retain(|_, sight| !sight.is_link());
    for tree in [&mut wanted, &mut seen] {
        tree.values_mut().for_each(Sight::forget_time);
    }
    assert_same(&seen, &wanted, "");
}

#[test]
fn what_zip_packs_comes_out_here() {
    let from = odd_tree();
    let work = tempfile::tempdir().unwrap();
    let archive = work.path().join("a.zip");
    let mut zip = Command::new("zip");
    run(zip.args(["-q", "-r", "-y"]).arg(&archive).arg(".").current_dir(from.path()));
    let to = tempfile::tempdir().unwrap();
    unpacked(File::open(&archive).unwrap(), to.path()).unwrap();
    assert_same(&tree(to.path()), &tree(from.path()), "");
    // As a stream: sizes behind the data, 64-bit fields.
    let streamed = work.path().join("s.zip");
    let mut zip = Command::new("zip");
    zip.args(["-q", "-r", "-y", "-", "."]).current_dir(from.path());
    zip.stdout(File::create(&streamed).unwrap());
    run(&mut zip);
    let to = tempfile::tempdir().unwrap();
    unpacked(File::open(&streamed).unwrap(), to.path()).unwrap();
    assert_same(&tree(to.path()), &tree(from.path()), "");
}

#[test]
fn tar_reads_what_is_packed_here_and_the_other_way_round() {
    let from = odd_tree();
    let work = tempfile::tempdir().unwrap();
    let (archive, to) = (work.path().join("a.tar.zst"), work.path().join("to"));
    packed_as(from.path(), Format::TarZstd, &archive);
    fs::create_dir(&to).unwrap();
    let mut tar = Command::new("tar");
    run(tar.args(["--zstd", "-xpf"]).arg(&archive).arg("-C").arg(&to));
    assert_same(&tree(&to), &tree(from.path()), "");
    for format in ["gnu", "pax", "ustar"] {
        let theirs = work.path().join(format);
        let mut tar = Command::new("tar");
        tar.args(["--zstd", "--format", format, "-cf"]).arg(&theirs);
        if format == "ustar" {
            // It has no room for long names.
            tar.args(["--exclude", "nnn*", "--exclude", "long-link"]);
        }
        run(tar.arg("-C").arg(from.path()).arg("."));
        let back = tempfile::tempdir().unwrap();
        unpacked(File::open(&theirs).unwrap(), back.path()).unwrap();
        let mut wanted = tree(from.path());
        if format == "ustar" {
            wanted.retain(|path, _| {
                !path.starts_with("n".repeat(200)) && !path.ends_with("long-link")
            });
        }
        assert_same(&tree(back.path()), &wanted, format);
    }
}
