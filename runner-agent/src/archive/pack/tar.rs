//! Writes a tar archive in one Zstandard frame.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread::available_parallelism;

use tar::{Builder, EntryType, Header};
use zstd::stream::write::Encoder;
use zstd::zstd_safe::CParameter;

use super::{PackError, unreadable};
use crate::archive::entry::{Entries, Entry, Kind};
use crate::archive::origin::Origin;

/// Most threads; each has a few MiB of its own at the levels used here.
const MOST_THREADS: u32 = 4;
/// Bytes that one of them compresses at a time. The library's own choice, four windows, makes 79 MiB
/// of it all.
const JOB: u32 = 2 << 20;

pub(super) fn pack(
    root: &Origin,
    entries: &Entries,
    level: i32,
    out: &mut dyn Write,
) -> Result<(), PackError> {
    let mut encoder = Encoder::new(out, level).map_err(PackError::Write)?;
    let threads = available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    encoder
        .multithread(threads.min(MOST_THREADS))
        .and_then(|()| encoder.set_parameter(CParameter::JobSize(JOB)))
        .and_then(|()| encoder.include_checksum(true))
        .map_err(PackError::Write)?;
    let mut tar = Builder::new(io::BufWriter::with_capacity(128 * 1024, encoder));
    for (name, entry) in entries {
        let mut header = header(*entry);
        match entry.kind {
            Kind::Directory => {
                let mut path = name.clone();
                path.push("/");
                tar.append_data(&mut header, path, io::empty()).map_err(PackError::Write)?;
            }
            Kind::Link => {
                let Some(target) = root.link(name.as_ref()) else { continue };
                append_link(&mut tar, &mut header, name.as_ref(), target.as_ref())
                    .map_err(PackError::Write)?;
            }
            Kind::File => {
                let file = root.file(name.as_ref()).map_err(unreadable(name))?;
                let Some(file) = file else { continue };
                // The header has said how long it is: one that became shorter is filled up.
                let content = file.chain(io::repeat(0)).take(entry.size);
                tar.append_data(&mut header, name, content).map_err(PackError::Write)?;
            }
        }
    }
    let encoder = tar.into_inner().and_then(|buffer| Ok(buffer.into_inner()?));
    encoder.and_then(Encoder::finish).and_then(|out| out.flush()).map_err(PackError::Write)
}

fn header(entry: Entry) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(match entry.kind {
        Kind::File => EntryType::Regular,
        Kind::Directory => EntryType::Directory,
        Kind::Link => EntryType::Symlink,
    });
    header.set_mode(entry.mode);
    header.set_mtime(entry.modified.try_into().unwrap_or(0));
    header.set_uid(entry.uid.into());
    header.set_gid(entry.gid.into());
    header.set_size(if entry.kind == Kind::File { entry.size } else { 0 });
    header
}

/// A target stays as it is: `Builder::append_link` would tidy `./x` and refuse nothing.
fn append_link<W: Write>(
    tar: &mut Builder<W>,
    header: &mut Header,
    name: &Path,
    target: &Path,
) -> io::Result<()> {
    if target.as_os_str().as_bytes().len() < 100 {
        header.set_link_name_literal(target.as_os_str().as_bytes())?;
        tar.append_data(header, name, io::empty())
    } else {
        tar.append_link(header, name, target)
    }
}
