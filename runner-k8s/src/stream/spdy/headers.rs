//! The compressed name/value blocks of SYN_STREAM and its like (SPDY/3.1 draft, section 2.6.10).
//!
//! All blocks that one side sends are one zlib stream, cut by sync flushes, that begins with a
//! dictionary known to both sides.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Longest block after decompression, in bytes: what bounds a zlib bomb.
pub const MAX_BLOCK: usize = 16 * 1024;

/// The words of the draft's dictionary that carry their length (`u32`) in front of them …
const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// … and its end, which is plain text.
const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416\
417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request\
401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service \
UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, \
Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,\
text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,\
utf-,*,enq=0.";

/// A block that cannot be read, or not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadersError {
    /// Not a zlib stream with this dictionary.
    #[error("a header block that cannot be decompressed")]
    Zlib,
    /// It grows beyond [`MAX_BLOCK`].
    #[error("a header block of more than {MAX_BLOCK} bytes")]
    TooLong,
    /// A length points outside of the block.
    #[error("a header block that is cut off")]
    CutOff,
}

fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::new();
    for word in WORDS {
        dictionary.put_u32(word.len() as u32);
        dictionary.put_slice(word.as_bytes());
    }
    dictionary.put_slice(TEXT.as_bytes());
    dictionary
}

/// Compresses one side's blocks.
#[derive(Debug)]
pub struct Encoder(Compress);

impl Encoder {
    /// For the first block of a connection.
    ///
    /// # Errors
    /// When zlib refuses the dictionary.
    pub fn new() -> Result<Self, HeadersError> {
        // A window of 2 KiB is enough for some short words, and costs 6 KiB instead of 256.
        let mut zlib = Compress::new_with_window_bits(Compression::fast(), true, 11);
        zlib.set_dictionary(&dictionary()).map_err(|_| HeadersError::Zlib)?;
        Ok(Self(zlib))
    }

    /// The block of these headers. Names are lower case; several values are joined by NUL.
    ///
    /// # Errors
    /// When zlib fails.
    pub fn encode(&mut self, headers: &[(&str, &str)]) -> Result<Bytes, HeadersError> {
        let mut plain = Vec::new();
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            for text in [name, value] {
                plain.put_u32(text.len() as u32);
                plain.put_slice(text.as_bytes());
            }
        }
        // zlib grows by some bytes per block at most; the sync flush needs room to be complete.
        let mut out = Vec::with_capacity(plain.len() + 128);
        match self.0.compress_vec(&plain, &mut out, FlushCompress::Sync) {
            Ok(Status::Ok) if out.len() < out.capacity() => Ok(out.into()),
            _ => Err(HeadersError::Zlib),
        }
    }
}

/// Decompresses one side's blocks.
#[derive(Debug)]
pub struct Decoder(Decompress);

impl Default for Decoder {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Decoder {
    /// The headers of a block.
    ///
    /// # Errors
    /// When it cannot be read, or is too long. Later blocks cannot be read then, either.
    pub fn decode(&mut self, block: &[u8]) -> Result<Vec<(Bytes, Bytes)>, HeadersError> {
        let mut plain = Vec::with_capacity(MAX_BLOCK + 1);
        let begin = self.0.total_in();
        loop {
            let used = (self.0.total_in() - begin) as usize;
            match self.0.decompress_vec(&block[used..], &mut plain, FlushDecompress::Sync) {
                Ok(_) => break,
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(|_| HeadersError::Zlib)?;
                }
                Err(_) => return Err(HeadersError::Zlib),
            }
        }
        if plain.len() > MAX_BLOCK {
            return Err(HeadersError::TooLong);
        }
        if (self.0.total_in() - begin) as usize != block.len() {
            return Err(HeadersError::Zlib);
        }
        parse(plain.into())
    }
}

fn parse(mut plain: Bytes) -> Result<Vec<(Bytes, Bytes)>, HeadersError> {
    let text = |plain: &mut Bytes| {
        let length = plain.try_get_u32().map_err(|_| HeadersError::CutOff)? as usize;
        if length > plain.len() {
            return Err(HeadersError::CutOff);
        }
        Ok(plain.split_to(length))
    };
    let count = plain.try_get_u32().map_err(|_| HeadersError::CutOff)?;
    // A pair has at least 8 bytes, so the block's own length bounds the list.
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push((text(&mut plain)?, text(&mut plain)?));
    }
    Ok(headers)
}

/// The SYN_STREAM frames that open these streams, each with its headers.
///
/// # Errors
/// When zlib fails.
pub fn open_streams<'a>(
    streams: impl IntoIterator<Item = (super::frame::StreamId, &'a [(&'a str, &'a str)])>,
    out: &mut BytesMut,
) -> Result<(), HeadersError> {
    let mut encoder = Encoder::new()?;
    for (stream, headers) in streams {
        let headers = encoder.encode(headers)?;
        super::frame::encode(&super::frame::Frame::SynStream { stream, fin: false, headers }, out);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compress, Compression, FlushCompress};
    use proptest::prelude::*;

    use super::{Decoder, Encoder, HeadersError, MAX_BLOCK, dictionary};

    #[test]
    fn the_dictionary_is_that_of_the_draft() {
        let dictionary = dictionary();
        assert_eq!(dictionary.len(), 1423);
        // zlib names a dictionary by its Adler-32; this is the one in every SPDY/3 stream.
        let mut zlib = Compress::new(Compression::fast(), true);
        assert_eq!(zlib.set_dictionary(&dictionary).unwrap(), 0xe3c6_a7c2);
    }

    #[test]
    fn headers_survive_the_way_block_after_block() {
        let (mut encoder, mut decoder) = (Encoder::new().unwrap(), Decoder::default());
        for kind in ["error", "stdin", "stdout", "stderr"] {
            let block = encoder.encode(&[("streamtype", kind), ("port", "80")]).unwrap();
            let headers = decoder.decode(&block).unwrap();
            assert_eq!(headers[0], ("streamtype".into(), kind.to_owned().into()));
            assert_eq!(headers[1], ("port".into(), "80".into()));
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut zlib = Compress::new(Compression::best(), true);
        zlib.set_dictionary(&dictionary()).unwrap();
        let mut bomb = Vec::with_capacity(MAX_BLOCK);
        let zeros = vec![0; 4 << 20];
        zlib.compress_vec(&zeros, &mut bomb, FlushCompress::Sync).unwrap();
        assert!(bomb.len() < MAX_BLOCK);
        assert_eq!(Decoder::default().decode(&bomb), Err(HeadersError::TooLong));
    }

    #[test]
    fn lengths_that_point_outside_are_refused() {
        let mut plain = Vec::new();
        plain.write_all(&[255, 255, 255, 255, 0, 0, 0, 200, b'x']).unwrap();
        assert_eq!(super::parse(plain.into()), Err(HeadersError::CutOff));
        assert_eq!(super::parse(vec![0, 0].into()), Err(HeadersError::CutOff));
    }

    proptest! {
        #[test]
        fn any_bytes_give_headers_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Decoder::default().decode(&bytes);
        }
    }
}
