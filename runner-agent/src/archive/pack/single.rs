//! Reports: one gzip member for each file, or a file as it is.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use flate2::{Compression, GzBuilder};

use super::{PackError, unreadable};
use crate::archive::entry::{Entries, Entry, Kind};
use crate::archive::origin::Origin;

/// One member after the other, which unpacks to the files one after the other.
pub(super) fn gzip(root: &Origin, entries: &Entries, out: &mut dyn Write) -> Result<(), PackError> {
    for (name, entry) in entries {
        regular(name, *entry)?;
        let file = root.file(name.as_ref()).map_err(unreadable(name))?;
        let Some(file) = file else { continue };
        let base = Path::new(name).file_name().unwrap_or(name);
        let member = GzBuilder::new()
            .filename(encoded(base.as_bytes()))
            .comment(encoded(name.as_bytes()))
            .mtime(u32::try_from(entry.modified).unwrap_or(0));
        let mut member = member.write(&mut *out, Compression::default());
        copy(&mut file.take(entry.size), &mut member, name)?;
        member.finish().map_err(PackError::Write)?;
    }
    Ok(())
}

/// The one file.
pub(super) fn raw(root: &Origin, entries: &Entries, out: &mut dyn Write) -> Result<(), PackError> {
    let mut all = entries.iter();
    let (Some((name, entry)), None) = (all.next(), all.next()) else {
        return Err(PackError::NotOne);
    };
    regular(name, *entry)?;
    match root.file(name.as_ref()).map_err(unreadable(name))? {
        Some(file) => copy(&mut file.take(entry.size), out, name),
        None => Err(PackError::NotRegular(name.clone())),
    }
}

fn regular(name: &OsString, entry: Entry) -> Result<(), PackError> {
    if entry.kind == Kind::File { Ok(()) } else { Err(PackError::NotRegular(name.clone())) }
}

/// Copies, and tells apart which side has failed.
fn copy(from: &mut dyn Read, to: &mut dyn Write, name: &OsString) -> Result<(), PackError> {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count]).map_err(PackError::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(name)(error)),
        }
    }
}

/// Gzip's header has Latin-1 only; what is not ASCII is written as GitLab reads it: `e:` and
/// percent-encoding.
fn encoded(name: &[u8]) -> Vec<u8> {
    if name.iter().all(|byte| byte.is_ascii() && *byte != b'%' && *byte != 0) {
        return name.to_vec();
    }
    let mut out = b"e:".to_vec();
    for byte in name {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(*byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out
}
