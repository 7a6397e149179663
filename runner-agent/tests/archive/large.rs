//! More than 32 bits can count.

use std::fs::{self, File};
use std::process::Command;

use runner_agent::archive::pack::Format;

use crate::support::{packed_as, run, unpacked};

/// A little more than 4 GiB, sparse: it takes no room, and nearly none when packed.
const LENGTH: u64 = (4 << 30) + 12_345;

const CHECK: &str = "import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as z:
    assert z.testzip() is None
    assert [(i.filename, i.file_size) for i in z.infolist()] == [('after', 6), ('big', int(sys.argv[2]))], z.infolist()
    assert z.read('after') == b'after\\n'";

#[test]
#[ignore = "minutes without optimisation, and 4 GiB of disk: cargo test --release -p runner-agent --test archive large -- --ignored"]
fn a_file_of_more_than_4_gib_is_packed_and_unpacked_and_others_read_it() {
    let from = tempfile::tempdir().unwrap();
    File::create(from.path().join("big")).unwrap().set_len(LENGTH).unwrap();
    fs::write(from.path().join("after"), "after\n").unwrap();
    let work = tempfile::tempdir().unwrap();
    let (zip, tar) = (work.path().join("a.zip"), work.path().join("a.tar.zst"));
    packed_as(from.path(), Format::Zip, &zip);
    run(Command::new("unzip").arg("-tq").arg(&zip));
    run(Command::new("python3").args(["-c", CHECK]).arg(&zip).arg(LENGTH.to_string()));
    packed_as(from.path(), Format::TarZstd, &tar);
    let compare = ["--zstd", "--compare", "-f"];
    run(Command::new("tar").args(compare).arg(&tar).arg("-C").arg(from.path()));
    // One after the other: each takes 4 GiB.
    for archive in [&zip, &tar] {
        let to = tempfile::tempdir_in(work.path()).unwrap();
        unpacked(File::open(archive).unwrap(), to.path()).unwrap();
        assert_eq!(fs::metadata(to.path().join("big")).unwrap().len(), LENGTH);
        assert_eq!(fs::read(to.path().join("after")).unwrap(), b"after\n");
    }
}
