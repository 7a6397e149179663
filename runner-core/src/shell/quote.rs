//! One word for any POSIX shell.

/// Appends `text` as one shell word.
///
/// Single quotes, with a quote written as `'\''`: the one form that bash, dash and busybox read
/// alike and in which no other byte means anything, in any locale (no multi-byte encoding has `'`
/// as a later byte). GitLab Runner's default `$'…'` is not understood by dash, and its POSIX mode
/// leaves `;` unquoted.
///
/// A NUL cannot be part of a shell word or of an environment and is left out.
pub fn quote_into(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'\'');
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'\'', 0, rest) {
        out.extend_from_slice(&rest[..at]);
        if rest[at] == b'\'' {
            out.extend_from_slice(br"'\''");
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'\'');
}

/// `text` as one shell word; see [`quote_into`].
#[must_use]
pub fn quote(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    quote_into(&mut out, text);
    out
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn only_quotes_and_nul_are_special() {
        assert_eq!(quote(b""), b"''");
        assert_eq!(quote(b"a;id $(x) `y` \\ \n\"\xff"), b"'a;id $(x) `y` \\ \n\"\xff'");
        assert_eq!(quote(b"it's"), br"'it'\''s'");
        assert_eq!(quote(b"a\0b"), b"'ab'");
    }
}
