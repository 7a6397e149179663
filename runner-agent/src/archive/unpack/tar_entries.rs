//! The entries of a tar archive, one after the other, with memory bounded whatever they say.
//!
//! The `tar` crate reads the headers; what it would read into memory without a bound (long names,
//! extended headers, of which a bomb can have gigabytes) is read here.

use std::io::{self, Read};

use tar::{EntryType, Header};

/// Most bytes of a long name or an extended header. Go and GNU tar need a few hundred.
const LONGEST_EXTENSION: u64 = 1 << 20;
const BLOCK: u64 = 512;

/// What the headers before an entry's data say.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) kind: EntryType,
    pub(super) name: Vec<u8>,
    /// Target of a link; empty for others.
    pub(super) target: Vec<u8>,
    /// Bytes of data that follow.
    pub(super) size: u64,
    pub(super) mode: Option<u32>,
    /// Seconds since 1970.
    pub(super) modified: Option<i64>,
}

/// What extended headers say about the next entry.
#[derive(Debug, Default)]
struct Extended {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    modified: Option<i64>,
}

/// Reads a tar archive.
pub(super) struct Entries<R> {
    input: R,
    /// Data of the last entry that nobody has read yet.
    left: u64,
    /// Bytes between the data's end and the next block.
    padding: u64,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next entry; data of the last one that was not read is skipped. `None`: the archive is over.
    pub(super) fn next(&mut self) -> io::Result<Option<Head>> {
        let mut extended = Extended::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size()?;
            let kind = header.entry_type();
            let here =
                kind.is_pax_local_extensions() || kind.is_gnu_longname() || kind.is_gnu_longlink();
            let size = if here { size } else { extended.size.unwrap_or(size) };
            self.left = if has_data(kind) { size } else { 0 };
            self.padding = (BLOCK - self.left % BLOCK) % BLOCK;
            match kind {
                EntryType::XGlobalHeader => {}
                EntryType::XHeader => extended.read(&self.extension()?)?,
                EntryType::GNULongName => extended.name = Some(without_nul(self.extension()?)),
                EntryType::GNULongLink => extended.target = Some(without_nul(self.extension()?)),
                kind => {
                    let link = || header.link_name_bytes().unwrap_or_default().into_owned();
                    return Ok(Some(Head {
                        kind,
                        name: extended.name.unwrap_or_else(|| header.path_bytes().into_owned()),
                        target: extended.target.unwrap_or_else(link),
                        size: self.left,
                        mode: header.mode().ok().map(|mode| mode & 0o7777),
                        modified: extended
                            .modified
                            .or_else(|| header.mtime().ok()?.try_into().ok()),
                    }));
                }
            }
        }
    }

    /// A header block. `None`: the archive is over, by its mark or because there is no more of it.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut filled = 0;
        while filled < bytes.len() {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The sum counts its own eight bytes as blanks.
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum();
        if header.cksum()? != sum + 8 * 32 {
            return Err(io::Error::other("a header of the tar archive has a wrong checksum"));
        }
        Ok(Some(header))
    }

    /// The data of an extended header.
    fn extension(&mut self) -> io::Result<Vec<u8>> {
        if self.left > LONGEST_EXTENSION {
            return Err(io::Error::other("a name or header in the tar archive is too long"));
        }
        let mut data = Vec::new();
        self.by_ref().read_to_end(&mut data)?;
        Ok(data)
    }

    fn skip(&mut self) -> io::Result<()> {
        io::copy(&mut self.by_ref(), &mut io::sink())?;
        let padding = std::mem::take(&mut self.padding);
        let skipped = io::copy(&mut (&mut self.input).take(padding), &mut io::sink())?;
        if skipped < padding { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Reads to the end of the stream, so that the compression's checksum is looked at.
    pub(super) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self.input, &mut io::sink()).map(drop)
    }
}

/// Reads the data of the last entry.
impl<R: Read> Read for Entries<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || out.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let count = self.input.read(&mut out[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Links and directories have none, whatever their header's size says.
fn has_data(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
    )
}

fn without_nul(mut name: Vec<u8>) -> Vec<u8> {
    if let Some(end) = name.iter().position(|byte| *byte == 0) {
        name.truncate(end);
    }
    name
}

impl Extended {
    /// Records `length key=value\n`, of which the length counts all.
    fn read(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let malformed =
                || io::Error::other("an extended header of the tar archive is malformed");
            let blank = data.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
            let length: usize = number(&data[..blank]).ok_or_else(malformed)?;
            let record = data.get(blank + 1..length).ok_or_else(malformed)?;
            data = &data[length..];
            let record = record.strip_suffix(b"\n").ok_or_else(malformed)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or_else(malformed)?),
                b"mtime" => {
                    let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
                    self.modified = number(whole);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}
