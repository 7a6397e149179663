//! The list at the end of a zip archive (APPNOTE 4.3.12 to 4.3.16).
//!
//! Read here and not by a crate, because the whole of it has to be judged before anything is
//! unpacked, and set-uid bits, seconds and owners have to survive.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use super::UnpackError;
use super::limits::Limits;
use super::pread::PositionedFile;

/// Length of the record at the very end, without its comment.
const END: usize = 22;
/// Length of an entry of the list, without its three texts.
const CENTRAL: usize = 46;
/// Length of the record that says where the 64-bit one lies.
const LOCATOR: usize = 20;
/// Length of the header before an entry's data, without its two texts.
pub(super) const LOCAL: usize = 30;

/// What the list says about an entry.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: Vec<u8>,
    /// Kind and permissions, where the archive was made by something that knows them.
    pub(super) mode: Option<u32>,
    pub(super) method: u16,
    pub(super) encrypted: bool,
    pub(super) crc: u32,
    /// Bytes in the archive.
    pub(super) packed: u64,
    /// Bytes of the file.
    pub(super) plain: u64,
    /// Where its local header lies in the file.
    pub(super) offset: u64,
    /// Where the next entry or the list begins: its data ends before.
    pub(super) bound: u64,
    /// Seconds since 1970.
    pub(super) modified: Option<i64>,
    pub(super) owner: Option<(u32, u32)>,
}

/// Where the list lies.
struct End {
    entries: u64,
    length: u64,
    /// As the archive says.
    offset: u64,
    /// What precedes the archive in the file: added to all its offsets.
    before: u64,
}

/// Reads the list.
pub(super) fn read(file: &PositionedFile, limits: Limits) -> Result<Vec<Listed>, UnpackError> {
    let mut file = file.clone();
    let end = end(&mut file).map_err(broken)?;
    if end.entries > limits.entries {
        return Err(UnpackError::TooMany(limits.entries));
    }
    let start = end.before + end.offset;
    file.seek(SeekFrom::Start(start)).map_err(broken)?;
    let mut list = BufReader::with_capacity(64 * 1024, file.take(end.length));
    let mut all = Vec::new();
    for _ in 0..end.entries {
        all.push(entry(&mut list, end.before).map_err(broken)?);
    }
    bound(&mut all, start)?;
    Ok(all)
}

/// Gives every entry the end that its data must not pass: data that two entries share is a bomb.
fn bound(all: &mut [Listed], list: u64) -> Result<(), UnpackError> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_unstable_by_key(|index| all[*index].offset);
    let mut next = list;
    for index in order.into_iter().rev() {
        let entry = &mut all[index];
        let least = entry.packed.checked_add(LOCAL as u64);
        let fits = least.and_then(|length| entry.offset.checked_add(length));
        if fits.is_none_or(|end| end > next) {
            return Err(match entry.offset <= list {
                true => UnpackError::Bomb,
                false => UnpackError::Damaged("its list names data that is not there".to_owned()),
            });
        }
        entry.bound = next;
        next = entry.offset;
    }
    Ok(())
}

/// Finds the end of the archive.
fn end(file: &mut PositionedFile) -> io::Result<End> {
    let length = file.length();
    // A comment of up to 64 KiB may follow.
    let most = (END + usize::from(u16::MAX)) as u64;
    let from = length.saturating_sub(most);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(most).read_to_end(&mut tail)?;
    let starts = (0..(tail.len() + 1).saturating_sub(END)).rev();
    let at = starts
        .into_iter()
        .find(|at| {
            tail[*at..].starts_with(b"PK\x05\x06")
                && at + END + usize::from(u16_at(&tail, at + 20)) <= tail.len()
        })
        .ok_or_else(|| io::Error::other("it has no end; it is cut short or no zip archive"))?;
    let position = from + at as u64;
    let mut end = End {
        entries: u16_at(&tail, at + 10).into(),
        length: u32_at(&tail, at + 12).into(),
        offset: u32_at(&tail, at + 16).into(),
        before: 0,
    };
    let mut list_ends = position;
    let wide = end.entries == 0xffff || end.length == 0xffff_ffff || end.offset == 0xffff_ffff;
    if wide && at >= LOCATOR && tail[at - LOCATOR..].starts_with(b"PK\x06\x07") {
        let place = u64_at(&tail, at - LOCATOR + 8);
        let mut record = [0; 56];
        file.seek(SeekFrom::Start(place))?;
        file.read_exact(&mut record)?;
        if !record.starts_with(b"PK\x06\x06") {
            return Err(io::Error::other("its 64-bit end is not where it should be"));
        }
        end.entries = u64_at(&record, 32);
        end.length = u64_at(&record, 40);
        end.offset = u64_at(&record, 48);
        list_ends = place;
    }
    let said = end.offset.checked_add(end.length);
    end.before = said
        .and_then(|said| list_ends.checked_sub(said))
        .ok_or_else(|| io::Error::other("its list does not fit into it"))?;
    if end.entries > end.length / CENTRAL as u64 {
        return Err(io::Error::other("its list is too short for its entries"));
    }
    Ok(end)
}

fn entry(list: &mut impl Read, before: u64) -> io::Result<Listed> {
    let mut fixed = [0; CENTRAL];
    list.read_exact(&mut fixed)?;
    if !fixed.starts_with(b"PK\x01\x02") {
        return Err(io::Error::other("its list has an entry that is none"));
    }
    let mut text = |length: u16| {
        let mut bytes = vec![0; usize::from(length)];
        list.read_exact(&mut bytes).map(|()| bytes)
    };
    let name = text(u16_at(&fixed, 28))?;
    let extra = text(u16_at(&fixed, 30))?;
    text(u16_at(&fixed, 32))?;
    // Unix and macOS keep kind and permissions in the upper half.
    let knows_modes = matches!(fixed[5], 3 | 19);
    let mode = Some(u32_at(&fixed, 38) >> 16).filter(|mode| knows_modes && *mode != 0);
    let (packed, plain, offset) = (u32_at(&fixed, 20), u32_at(&fixed, 24), u32_at(&fixed, 42));
    // The 64-bit field has only those values that did not fit, in this order.
    let mut wide = field(&extra, 1).unwrap_or_default();
    let mut value = |narrow: u32| {
        if narrow != 0xffff_ffff || wide.len() < 8 {
            return u64::from(narrow);
        }
        let value = u64_at(wide, 0);
        wide = &wide[8..];
        value
    };
    let (plain, packed, offset) = (value(plain), value(packed), value(offset));
    Ok(Listed {
        name,
        mode,
        method: u16_at(&fixed, 10),
        encrypted: u16_at(&fixed, 8) & 1 == 1,
        crc: u32_at(&fixed, 16),
        packed,
        plain,
        offset: offset.checked_add(before).ok_or(io::ErrorKind::InvalidData)?,
        bound: 0,
        modified: field(&extra, 0x5455).and_then(seconds),
        owner: field(&extra, 0x7875).and_then(owner),
    })
}

/// The extended time stamp: a set of flags, then the time of modification.
fn seconds(data: &[u8]) -> Option<i64> {
    let [flags, a, b, c, d, ..] = data else { return None };
    (flags & 1 == 1).then(|| i32::from_le_bytes([*a, *b, *c, *d]).into())
}

/// Info-ZIP's owner: version, then user and group, each with its length.
fn owner(data: &[u8]) -> Option<(u32, u32)> {
    match data {
        [1, 4, a, b, c, d, 4, e, f, g, h, ..] => {
            Some((u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h])))
        }
        _ => None,
    }
}

/// The data of an extra field.
fn field(mut extra: &[u8], wanted: u16) -> Option<&[u8]> {
    while let [a, b, c, d, rest @ ..] = extra {
        let data = rest.get(..usize::from(u16::from_le_bytes([*c, *d])))?;
        if u16::from_le_bytes([*a, *b]) == wanted {
            return Some(data);
        }
        extra = &rest[data.len()..];
    }
    None
}

// The callers have seen to it that the bytes are there.

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | (u32::from(u16_at(bytes, at + 2)) << 16)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}

fn broken(error: io::Error) -> UnpackError {
    UnpackError::Damaged(error.to_string())
}
