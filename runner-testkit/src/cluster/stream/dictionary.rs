//! The dictionary that SPDY/3 header blocks are compressed with (SPDY/3.1 draft, section 2.6.10).

use bytes::BufMut;

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

pub(super) fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::new();
    for word in WORDS {
        dictionary.put_u32(word.len() as u32);
        dictionary.put_slice(word.as_bytes());
    }
    dictionary.put_slice(TEXT.as_bytes());
    dictionary
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_dictionary_is_that_of_the_draft() {
        let dictionary = super::dictionary();
        assert_eq!(dictionary.len(), 1423);
        // zlib names a dictionary by its Adler-32; this is the one in every SPDY/3 stream.
        let mut zlib = flate2::Compress::new(flate2::Compression::fast(), true);
        assert_eq!(zlib.set_dictionary(&dictionary).unwrap(), 0xe3c6_a7c2);
    }
}
