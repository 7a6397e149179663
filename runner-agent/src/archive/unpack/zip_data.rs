//! The data of one entry of a zip archive.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use flate2::{Decompress, FlushDecompress, Status};

use super::pread::PositionedFile;
use super::zip_list::{LOCAL, Listed, u16_at};

/// Files up to this length are unpacked in one go, with one write.
const SMALL: u64 = 256 * 1024;
/// Bytes of a larger one at a time.
const BUFFER: usize = 128 * 1024;
/// Largest window of Zstandard, as a power of two: 8 MiB, which its own tool makes at most without
/// `--long`.
const WINDOW: u32 = 23;

/// Why data was not unpacked.
#[derive(Debug)]
pub(super) enum DataError {
    /// It is not what the list says.
    Damaged(String),
    /// It goes on beyond what the list says.
    Bomb,
    /// It could not be written.
    Write(io::Error),
}

/// Unpacks entries, one after the other; keeps what can be used again.
pub(super) struct Unpacker {
    archive: PositionedFile,
    inflate: Decompress,
    packed: Vec<u8>,
    plain: Vec<u8>,
}

impl Unpacker {
    pub(super) fn new(archive: PositionedFile) -> Self {
        let inflate = Decompress::new(false);
        Self { archive, inflate, packed: Vec::new(), plain: Vec::new() }
    }

    /// Writes the entry's data to `out`.
    pub(super) fn unpack(&mut self, entry: &Listed, out: &mut dyn Write) -> Result<(), DataError> {
        if entry.encrypted {
            return Err(DataError::Damaged("it is encrypted".to_owned()));
        }
        self.go_to_data(entry).map_err(damaged)?;
        if entry.plain <= SMALL && entry.packed <= SMALL && matches!(entry.method, 0 | 8) {
            return self.small(entry, out);
        }
        let data = BufReader::with_capacity(BUFFER, (&mut self.archive).take(entry.packed));
        match entry.method {
            0 => copy(data, entry, out),
            8 => copy(flate2::bufread::DeflateDecoder::new(data), entry, out),
            93 => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(data).map_err(damaged)?;
                decoder.window_log_max(WINDOW).map_err(damaged)?;
                copy(decoder, entry, out)
            }
            method => Err(DataError::Damaged(format!("compression method {method} is not known"))),
        }
    }

    fn go_to_data(&mut self, entry: &Listed) -> io::Result<()> {
        let mut header = [0; LOCAL];
        self.archive.seek(SeekFrom::Start(entry.offset))?;
        self.archive.read_exact(&mut header)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(io::Error::other("its data is not where the list says"));
        }
        let texts = u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
        let start = entry.offset + LOCAL as u64 + texts;
        if start + entry.packed > entry.bound {
            return Err(io::Error::other("its data runs into the next entry"));
        }
        self.archive.seek(SeekFrom::Start(start)).map(drop)
    }

    fn small(&mut self, entry: &Listed, out: &mut dyn Write) -> Result<(), DataError> {
        // Both at most SMALL.
        self.packed.resize(entry.packed as usize, 0);
        self.archive.read_exact(&mut self.packed).map_err(damaged)?;
        let plain = if entry.method == 0 {
            &self.packed
        } else {
            self.inflate.reset(false);
            self.plain.clear();
            // One more byte of room shows whether there is more than the list says.
            self.plain.reserve_exact(entry.plain as usize + 1);
            let finish = FlushDecompress::Finish;
            let status = self.inflate.decompress_vec(&self.packed, &mut self.plain, finish);
            match status.map_err(|error| DataError::Damaged(error.to_string()))? {
                Status::StreamEnd => &self.plain,
                _ if self.plain.len() as u64 > entry.plain => return Err(DataError::Bomb),
                _ => return Err(DataError::Damaged("it is cut short".to_owned())),
            }
        };
        check(entry, plain.len() as u64, crc32fast::hash(plain))?;
        out.write_all(plain).map_err(DataError::Write)
    }
}

fn copy(mut from: impl Read, entry: &Listed, out: &mut dyn Write) -> Result<(), DataError> {
    let mut buffer = vec![0; BUFFER];
    let mut crc = crc32fast::Hasher::new();
    let mut length: u64 = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return check(entry, length, crc.finalize()),
            Ok(count) => {
                length += count as u64;
                // What the list says has been held against the limits; data that goes on is a lie.
                if length > entry.plain {
                    return Err(DataError::Bomb);
                }
                crc.update(&buffer[..count]);
                out.write_all(&buffer[..count]).map_err(DataError::Write)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(damaged(error)),
        }
    }
}

fn check(entry: &Listed, length: u64, crc: u32) -> Result<(), DataError> {
    match () {
        () if length > entry.plain => Err(DataError::Bomb),
        () if length < entry.plain => Err(DataError::Damaged("it is cut short".to_owned())),
        () if crc != entry.crc => Err(DataError::Damaged("its checksum is wrong".to_owned())),
        () => Ok(()),
    }
}

fn damaged(error: io::Error) -> DataError {
    DataError::Damaged(error.to_string())
}
