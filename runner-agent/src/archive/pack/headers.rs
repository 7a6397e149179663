//! The records of a zip archive (APPNOTE 4.3), as bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::archive::entry::{Entry, Kind};

/// Sizes and offsets from here on need the 64-bit fields.
const MOST_32: u64 = 0xffff_ffff;
/// Numbers of entries from here on do.
const MOST_16: u64 = 0xffff;
/// The name is UTF-8.
const UTF8: u16 = 1 << 11;
/// Sizes and checksum follow the data.
const DESCRIPTOR: u16 = 1 << 3;

/// Method numbers.
pub(super) const STORED: u16 = 0;
pub(super) const DEFLATED: u16 = 8;
pub(super) const ZSTD: u16 = 93;

/// Everything about an entry that its records say.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) name: &'a OsStr,
    pub(super) entry: Entry,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) plain: u64,
    /// Where its local header lies.
    pub(super) offset: u64,
    /// Checksum and sizes are not known before the data has been written.
    pub(super) descriptor: bool,
    /// The descriptor has 64-bit sizes.
    pub(super) large: bool,
}

impl Record<'_> {
    fn name_length(&self) -> u16 {
        let slash = u16::from(self.entry.kind == Kind::Directory);
        // The writer has refused longer names.
        self.name.len() as u16 + slash
    }

    fn flags(&self) -> u16 {
        let utf8 = !self.name.is_ascii() && self.name.to_str().is_some();
        (if utf8 { UTF8 } else { 0 }) | (if self.descriptor { DESCRIPTOR } else { 0 })
    }

    /// What is needed to extract it: 4.5 for 64-bit sizes, 6.3 for Zstandard.
    fn version(&self) -> u16 {
        match () {
            () if self.method == ZSTD => 63,
            () if self.large
                || [self.packed, self.plain, self.offset].iter().any(|v| *v >= MOST_32) =>
            {
                45
            }
            () => 20,
        }
    }

    fn common(&self, out: &mut Vec<u8>) {
        let (time, date) = dos(self.entry.modified);
        for value in [self.version(), self.flags(), self.method, time, date] {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn put_name(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name.as_bytes());
        if self.entry.kind == Kind::Directory {
            out.push(b'/');
        }
    }

    /// The header before the data.
    pub(super) fn local(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PK\x03\x04");
        self.common(out);
        let known = !self.descriptor;
        put32(out, if known { self.crc } else { 0 });
        let size = |size: u64| match (known, self.large) {
            (true, _) => size as u32,
            // The sizes are in the 64-bit field, or would be.
            (false, true) => MOST_32 as u32,
            (false, false) => 0,
        };
        put32(out, size(self.packed));
        put32(out, size(self.plain));
        let mut extra = Vec::new();
        if self.large {
            extra.extend_from_slice(&[0x01, 0x00, 16, 0]);
            extra.extend_from_slice(&[0; 16]);
        }
        self.unix_fields(&mut extra);
        put16(out, self.name_length());
        put16(out, extra.len() as u16);
        self.put_name(out);
        out.extend_from_slice(&extra);
    }

    /// What follows the data of an entry with a descriptor.
    pub(super) fn descriptor(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PK\x07\x08");
        put32(out, self.crc);
        for size in [self.packed, self.plain] {
            if self.large { put64(out, size) } else { put32(out, size as u32) }
        }
    }

    /// The entry of the central directory.
    pub(super) fn central(&self, out: &mut Vec<u8>) {
        let mut extra = Vec::new();
        let wide: Vec<u64> = [self.plain, self.packed, self.offset]
            .into_iter()
            .filter(|value| *value >= MOST_32)
            .collect();
        if !wide.is_empty() {
            put16(&mut extra, 1);
            put16(&mut extra, 8 * wide.len() as u16);
            wide.iter().for_each(|value| put64(&mut extra, *value));
        }
        self.unix_fields(&mut extra);
        let (kind, dos) = match self.entry.kind {
            Kind::File => (0o100_000, 0),
            Kind::Directory => (0o040_000, 0x10),
            Kind::Link => (0o120_000, 0),
        };
        out.extend_from_slice(b"PK\x01\x02");
        // Made by: Unix, version 6.3 of the format.
        put16(out, 3 << 8 | 63);
        self.common(out);
        put32(out, self.crc);
        put32(out, self.packed.min(MOST_32) as u32);
        put32(out, self.plain.min(MOST_32) as u32);
        put16(out, self.name_length());
        put16(out, extra.len() as u16);
        // No comment, first disk, no text.
        out.extend_from_slice(&[0; 6]);
        put32(out, (kind | self.entry.mode) << 16 | dos);
        put32(out, self.offset.min(MOST_32) as u32);
        self.put_name(out);
        out.extend_from_slice(&extra);
    }

    /// Time of modification in UTC (0x5455), user and group (0x7875).
    fn unix_fields(&self, out: &mut Vec<u8>) {
        if let Ok(seconds) = i32::try_from(self.entry.modified) {
            out.extend_from_slice(&[0x55, 0x54, 5, 0, 1]);
            out.extend_from_slice(&seconds.to_le_bytes());
        }
        out.extend_from_slice(&[0x75, 0x78, 11, 0, 1, 4]);
        put32(out, self.entry.uid);
        out.push(4);
        put32(out, self.entry.gid);
    }
}

/// The end of the archive.
pub(super) fn end(out: &mut Vec<u8>, entries: u64, length: u64, offset: u64) {
    if entries >= MOST_16 || length >= MOST_32 || offset >= MOST_32 {
        out.extend_from_slice(b"PK\x06\x06");
        put64(out, 44);
        put16(out, 3 << 8 | 63);
        put16(out, 45);
        out.extend_from_slice(&[0; 8]);
        for value in [entries, entries, length, offset] {
            put64(out, value);
        }
        out.extend_from_slice(b"PK\x06\x07");
        put32(out, 0);
        put64(out, offset + length);
        put32(out, 1);
    }
    out.extend_from_slice(b"PK\x05\x06");
    put32(out, 0);
    put16(out, entries.min(MOST_16) as u16);
    put16(out, entries.min(MOST_16) as u16);
    put32(out, length.min(MOST_32) as u32);
    put32(out, offset.min(MOST_32) as u32);
    put16(out, 0);
}

/// DOS time and date, in UTC; 1980 is as early as it gets.
fn dos(seconds: i64) -> (u16, u16) {
    let earliest = (0, 1 << 5 | 1);
    let Ok(time) = jiff::Timestamp::from_second(seconds) else { return earliest };
    let civil = jiff::tz::TimeZone::UTC.to_datetime(time);
    if !(1980..2108).contains(&civil.year()) {
        return earliest;
    }
    // All parts are positive and small.
    let part = |value: i8| u16::try_from(value).unwrap_or(0);
    let time =
        (part(civil.hour()) << 11) | (part(civil.minute()) << 5) | (part(civil.second()) / 2);
    let year = (civil.year() - 1980).cast_unsigned();
    (time, (year << 9) | (part(civil.month()) << 5) | part(civil.day()))
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}
