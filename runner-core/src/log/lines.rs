//! Physical lines: each gets a header with its time and stream, and ends with a line feed.
//!
//! A line ends at `\n`, at 8 KiB, at the stream's end, and after a carriage return that does not
//! belong to a line feed. In the last case, and at 8 KiB, the next line is marked as its
//! continuation (`+`); GitLab joins the two again before it shows them.
//!
//! GitLab Runner ends a line at the end of a *write* that has a `\r` and no `\n`, so there it is a
//! matter of luck what one line is. Here the rule is about bytes alone:
//!
//! * a run of `\r`, and the "erase line" sequence `ESC [ 0 K` if it follows immediately, ends the
//!   line when the next byte is not `\n`. (With the sequence, because section markers end that way:
//!   they come out as GitLab Runner writes them.)
//! * `\r` at the very beginning of a line does not end it: progress bars print it before their text,
//!   and there would be nothing to show.
//!
//! So a progress bar's state is in the trace when its next state begins, without a timer.

use memchr::{memchr, memchr2};
use serde::{Deserialize, Serialize};

use super::checkpoint::is_default;
use super::stamp::{LENGTH, Stamper};

/// Longest content of a physical line in bytes. The header and the line feed are not counted.
const MAX_LINE: usize = 8 * 1024;
/// Bytes of a header.
const HEADER: usize = LENGTH + 5;
/// Erases to the end of the line.
const ERASE: [u8; 4] = *b"\x1b[0K";

/// A stream's unfinished line. It holds masked text only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Lines {
    /// The content so far, at most [`MAX_LINE`] bytes of whole characters.
    #[serde(default, rename = "t", skip_serializing_if = "Vec::is_empty", with = "text")]
    content: Vec<u8>,
    /// When it began, in microseconds since the epoch. `None`: nothing has come yet.
    #[serde(default, rename = "b", skip_serializing_if = "is_default")]
    began: Option<i64>,
    /// It continues the line before it.
    #[serde(default, rename = "c", skip_serializing_if = "is_default")]
    continues: bool,
    /// There is something other than carriage returns in it.
    #[serde(default, rename = "x", skip_serializing_if = "is_default")]
    has_text: bool,
    /// It ends unless a line feed comes: so many bytes of `\r ESC [ 0 K` are at its end.
    #[serde(default, rename = "r", skip_serializing_if = "is_default")]
    returning: u8,
}

/// Where finished lines go, and what their headers say.
pub(super) struct Page<'a> {
    /// See [`label`](super::stream::label).
    pub(super) label: [u8; 4],
    /// The time of what is being written, in microseconds since the epoch.
    pub(super) now: i64,
    pub(super) stamper: &'a mut Stamper,
    pub(super) out: &'a mut Vec<u8>,
}

impl Page<'_> {
    #[inline]
    fn header(&mut self, began: i64, continues: bool) {
        let mut header = [b' '; HEADER];
        header[..LENGTH].copy_from_slice(self.stamper.format(began));
        header[LENGTH..HEADER - 1].copy_from_slice(&self.label);
        if continues {
            header[HEADER - 1] = b'+';
        }
        self.out.extend_from_slice(&header);
    }
}

impl Lines {
    /// Takes valid UTF-8, whole characters only.
    pub(super) fn push(&mut self, mut text: &[u8], page: &mut Page<'_>) {
        // One quick look saves the slower search for two bytes in most logs.
        let has_return = memchr(b'\r', text).is_some();
        while let Some(&first) = text.first() {
            if self.returning > 0 {
                if self.after_return(first, page) {
                    text = &text[1..];
                }
                continue;
            }
            let end = if has_return { memchr2(b'\n', b'\r', text) } else { memchr(b'\n', text) };
            let Some(end) = end else {
                self.append(text, page);
                return;
            };
            if text[end] == b'\r' {
                self.append(&text[..end], page);
                self.carriage_return(page);
            } else if self.began.is_none() && end <= MAX_LINE {
                // The usual case: a whole line, which need not be kept anywhere.
                page.header(page.now, self.continues);
                page.out.extend_from_slice(&text[..=end]);
                self.continues = false;
            } else {
                self.append(&text[..end], page);
                self.line_feed(page);
            }
            text = &text[end + 1..];
        }
    }

    /// Something that is no line end is known to come next, only not yet which bytes: the line
    /// begins now.
    pub(super) fn begin(&mut self, page: &mut Page<'_>) {
        match self.returning {
            0 => {}
            1 | 5 => self.break_line(page),
            // An unfinished `ESC [ 0 K`: the next byte decides where the line breaks.
            _ => return,
        }
        self.began.get_or_insert(page.now);
    }

    /// The stream is over: what there is becomes a line.
    pub(super) fn finish(&mut self, page: &mut Page<'_>) {
        if self.began.is_some() {
            self.emit(page);
        }
        *self = Self::default();
    }

    /// Whether a state that was read from a checkpoint can exist.
    pub(super) fn is_possible(&self) -> bool {
        let erasing = match self.returning {
            returning @ 2..=5 => &ERASE[..usize::from(returning) - 1],
            _ => &[],
        };
        self.returning <= 5
            && self.content.len() <= MAX_LINE
            && (self.began.is_some() || self.content.is_empty())
            && self.content.ends_with(erasing)
    }

    /// Adds text without line ends.
    fn append(&mut self, mut text: &[u8], page: &mut Page<'_>) {
        if text.is_empty() {
            return;
        }
        self.began.get_or_insert(page.now);
        while self.content.len() + text.len() > MAX_LINE {
            let mut room = MAX_LINE - self.content.len();
            while is_continuation(text[room]) {
                room -= 1;
            }
            self.content.extend_from_slice(&text[..room]);
            self.emit(page);
            self.continues = true;
            self.began = Some(page.now);
            text = &text[room..];
        }
        self.content.extend_from_slice(text);
        self.has_text = true;
    }

    fn carriage_return(&mut self, page: &mut Page<'_>) {
        let has_text = self.has_text;
        self.append(b"\r", page);
        // A full line breaks before the `\r`, which is then the first byte of the next one.
        self.has_text = has_text && self.content != b"\r";
        self.returning = u8::from(self.has_text);
    }

    /// Decides about the byte after `\r` or a part of `\r ESC [ 0 K`. `false`: the line is broken and
    /// the byte still has to be looked at.
    fn after_return(&mut self, byte: u8, page: &mut Page<'_>) -> bool {
        let full = self.content.len() == MAX_LINE;
        match (self.returning, byte) {
            (1 | 5, b'\n') => self.line_feed(page),
            (1, b'\r') if !full => self.content.push(byte),
            (seen @ 1..=4, _) if !full && byte == ERASE[usize::from(seen) - 1] => {
                self.content.push(byte);
                self.returning += 1;
            }
            _ => {
                self.break_line(page);
                return false;
            }
        }
        true
    }

    /// Ends the line after its `\r`, or after the whole `\r ESC [ 0 K`.
    fn break_line(&mut self, page: &mut Page<'_>) {
        let begun = match self.returning {
            returning @ 2..=4 => &ERASE[..usize::from(returning) - 1],
            _ => &[],
        };
        self.content.truncate(self.content.len() - begun.len());
        self.emit(page);
        self.continues = true;
        self.append(begun, page);
    }

    fn line_feed(&mut self, page: &mut Page<'_>) {
        self.emit(page);
        self.continues = false;
    }

    fn emit(&mut self, page: &mut Page<'_>) {
        page.header(self.began.unwrap_or(page.now), self.continues);
        page.out.extend_from_slice(&self.content);
        page.out.push(b'\n');
        self.content.clear();
        self.began = None;
        self.has_text = false;
        self.returning = 0;
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// Content in a checkpoint: readable, and a third of the size of a list of numbers.
mod text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(content: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(std::str::from_utf8(content).map_err(serde::ser::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        String::deserialize(from).map(String::into_bytes)
    }
}
