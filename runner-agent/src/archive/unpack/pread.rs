//! A file that several threads read at places of their own.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Bytes read at a time: a small file of an archive with its header.
const BUFFER: usize = 32 * 1024;

/// Reads ahead and forgets at a jump. Clones share the file and nothing else.
#[derive(Debug)]
pub(super) struct PositionedFile {
    file: Arc<File>,
    length: u64,
    position: u64,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    start: u64,
}

impl PositionedFile {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), length, position: 0, buffer: Vec::new(), start: 0 })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

impl Clone for PositionedFile {
    fn clone(&self) -> Self {
        Self {
            file: Arc::clone(&self.file),
            length: self.length,
            position: self.position,
            buffer: Vec::new(),
            start: 0,
        }
    }
}

impl Read for PositionedFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let offset = self.position.wrapping_sub(self.start);
        let inside = self.position >= self.start && offset < self.buffer.len() as u64;
        if !inside {
            if out.len() >= BUFFER {
                let count = self.file.read_at(out, self.position)?;
                self.position += count as u64;
                return Ok(count);
            }
            self.buffer.resize(BUFFER, 0);
            let count = self.file.read_at(&mut self.buffer, self.position)?;
            self.buffer.truncate(count);
            self.start = self.position;
        }
        // Below BUFFER.
        let from = (self.position - self.start) as usize;
        let count = out.len().min(self.buffer.len() - from);
        out[..count].copy_from_slice(&self.buffer[from..from + count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for PositionedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
