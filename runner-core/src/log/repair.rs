//! Makes UTF-8 of whatever programs print: GitLab refuses a trace that is none.

use serde::{Deserialize, Serialize};

/// U+FFFD.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// The beginning of a character whose rest has not come yet.
///
/// Each stream has its own, so that a character survives when output of another stream comes between
/// its bytes; GitLab Runner repairs after mixing the streams. Each longest invalid part becomes one
/// replacement character, as in browsers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Repair {
    /// At most 3 bytes.
    begun: Vec<u8>,
}

impl Repair {
    pub(super) fn is_idle(&self) -> bool {
        self.begun.is_empty()
    }

    /// Whether a state that was read from a checkpoint can exist.
    pub(super) fn is_possible(&self) -> bool {
        self.begun.is_empty()
            || std::str::from_utf8(&self.begun)
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    }

    /// Takes bytes and hands out valid UTF-8, whole characters only.
    pub(super) fn push(&mut self, mut bytes: &[u8], out: &mut impl FnMut(&[u8])) {
        while let (false, Some((&next, rest))) = (self.begun.is_empty(), bytes.split_first()) {
            self.begun.push(next);
            match std::str::from_utf8(&self.begun) {
                Ok(character) => {
                    out(character.as_bytes());
                    self.begun.clear();
                }
                Err(error) if error.error_len().is_none() => {}
                Err(_) => {
                    // The byte does not go on with the character, but may begin something.
                    self.begun.clear();
                    out(REPLACEMENT);
                    continue;
                }
            }
            bytes = rest;
        }
        // `is_ascii` is several times faster than the full check, and most logs are ASCII.
        if bytes.is_ascii() {
            if !bytes.is_empty() {
                out(bytes);
            }
            return;
        }
        while let Err(error) = std::str::from_utf8(bytes) {
            let (valid, rest) = bytes.split_at(error.valid_up_to());
            if !valid.is_empty() {
                out(valid);
            }
            let Some(invalid) = error.error_len() else {
                self.begun.extend_from_slice(rest);
                return;
            };
            out(REPLACEMENT);
            bytes = &rest[invalid..];
        }
        if !bytes.is_empty() {
            out(bytes);
        }
    }

    /// The stream is over: a begun character is invalid.
    pub(super) fn finish(&mut self, out: &mut impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            self.begun.clear();
            out(REPLACEMENT);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::Repair;

    #[rstest]
    #[case::plain(b"abc", "abc")]
    #[case::valid("a\u{e9}\u{20ac}\u{1f600}z".as_bytes(), "a\u{e9}\u{20ac}\u{1f600}z")]
    #[case::lone_byte(b"a\xffb", "a\u{fffd}b")]
    #[case::two_lone_bytes(b"\xff\xfe", "\u{fffd}\u{fffd}")]
    #[case::cut_short(b"\xe2\x82x", "\u{fffd}x")]
    #[case::cut_short_by_another(b"\xe2\x82\xe2\x82\xac", "\u{fffd}\u{20ac}")]
    #[case::incomplete_at_the_end(b"a\xf0\x9f\x98", "a\u{fffd}")]
    #[case::surrogate(b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}")]
    fn api_52_invalid_bytes_are_replaced(#[case] input: &[u8], #[case] expected: &str) {
        for size in 1..=input.len() {
            let (mut repair, mut out) = (Repair::default(), Vec::new());
            for piece in input.chunks(size) {
                repair.push(piece, &mut |valid| out.extend_from_slice(valid));
            }
            repair.finish(&mut |valid| out.extend_from_slice(valid));
            assert_eq!(String::from_utf8(out).unwrap(), expected, "pieces of {size}");
            assert_eq!(expected, String::from_utf8_lossy(input));
        }
    }
}
