//! Frames of the link to bytes and back: a length, a kind, and JSON or raw output.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::{Decoder, Encoder};

/// Longest frame. An order holds all variables of the job.
const LONGEST: usize = 512 << 20;
/// Longest frame from the build container, which the job could try to speak for.
const LONGEST_FROM_SERVE: usize = 1 << 20;
const HEADER: usize = 5;
const JSON: u8 = 0;
const OUTPUT: u8 = 1;

/// Why the link is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket failed.
    #[error("the socket between helper and build failed")]
    Io(#[from] std::io::Error),
    /// Not a frame of ours.
    #[error("a frame between helper and build is damaged")]
    Damaged,
}

/// A frame: a word, or a piece of output.
#[derive(Clone, Debug)]
pub enum Piece<T> {
    /// A word.
    Word(T),
    /// Output of the script.
    Output {
        /// Bytes of the run before it.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
}

/// Decodes what the other side says (`In`) and encodes anything.
#[derive(Debug)]
pub struct LinkCodec<In> {
    longest: usize,
    marker: PhantomData<fn() -> In>,
}

impl<In> LinkCodec<In> {
    /// For the supervisor's end.
    pub fn from_serve() -> Self {
        Self { longest: LONGEST_FROM_SERVE, marker: PhantomData }
    }

    /// For the end of `serve`.
    pub fn from_supervisor() -> Self {
        Self { longest: LONGEST, marker: PhantomData }
    }
}

impl<In: DeserializeOwned> Decoder for LinkCodec<In> {
    type Item = Piece<In>;
    type Error = LinkError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Piece<In>>, LinkError> {
        let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = header[4];
        if length > self.longest {
            return Err(LinkError::Damaged);
        }
        if buffer.len() < HEADER + length {
            buffer.reserve(HEADER + length - buffer.len());
            return Ok(None);
        }
        buffer.advance(HEADER);
        let mut body = buffer.split_to(length).freeze();
        match kind {
            JSON => serde_json::from_slice(&body)
                .map(|word| Some(Piece::Word(word)))
                .map_err(|_| LinkError::Damaged),
            OUTPUT if body.len() > 8 => {
                let offset = body.get_u64();
                Ok(Some(Piece::Output { offset, bytes: body }))
            }
            _ => Err(LinkError::Damaged),
        }
    }
}

impl<In, Out: Serialize> Encoder<Piece<Out>> for LinkCodec<In> {
    type Error = LinkError;

    fn encode(&mut self, piece: Piece<Out>, out: &mut BytesMut) -> Result<(), LinkError> {
        let start = out.len();
        out.put_u32(0);
        match piece {
            Piece::Word(word) => {
                out.put_u8(JSON);
                serde_json::to_writer(out.writer(), &word).map_err(|_| LinkError::Damaged)?;
            }
            Piece::Output { offset, bytes } => {
                out.put_u8(OUTPUT);
                out.put_u64(offset);
                out.put_slice(&bytes);
            }
        }
        let length = out.len() - start - HEADER;
        if length > LONGEST {
            out.truncate(start);
            return Err(LinkError::Damaged);
        }
        // At most LONGEST, below u32::MAX.
        out[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
        Ok(())
    }
}
