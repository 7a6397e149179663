//! Finds, fast, where something to mask may begin. Everything before that place is passed on as it
//! is; the exact (and slower) automata look at the rest.
//!
//! Two searchers share the work:
//!
//! * Patterns of 8 bytes and more (GitLab's minimum for a masked variable) go by *sampled 4-grams*:
//!   when all of them have at least `stride + 3` bytes, each occurrence covers one of the text
//!   positions `0, stride, 2·stride …` within its first `stride` bytes, so it is enough to look at
//!   one 4-byte group in `stride` bytes: a hash, a bit in a table that fits the L1 cache. Case is
//!   folded, so URL parameters need no second pass. Its cost grows with neither number nor length.
//! * Shorter ones (most token prefixes) go through the packed (Teddy) searcher, which is quick up to
//!   a few dozen patterns; beyond that through an automaton.
//!
//! A candidate is compared with its pattern as far as the input goes, so false alarms are rare.

use aho_corasick::packed::{self, MatchKind as PackedKind};
use aho_corasick::{AhoCorasick, Input, MatchKind, Span};

use super::url::PARAMETERS;

/// Patterns from this length on are searched by sampling.
const LONG: usize = 8;
/// Bytes in a sample.
const GRAM: usize = 4;
/// Longest distance of samples: more gains nothing, and URL parameters have 11 bytes at least.
const MAX_STRIDE: usize = 8;
/// The packed searcher gets slow beyond this (it has 16 buckets for all patterns).
const MAX_PACKED: usize = 60;
/// Words of the bit table: 16 KiB, so that it stays in the L1 cache. 100 values fill 0.5 % of it.
const WORDS: usize = 2048;
/// log2 of the bits in the table.
const BITS: u32 = 17;

pub(super) struct Scanner {
    short: Short,
    /// Bytes at the input's end in which a short pattern may begin without being found.
    short_tail: usize,
    grams: Grams,
    /// A pattern contains a line feed.
    multiline: bool,
}

enum Short {
    None,
    Packed(packed::Searcher),
    Automaton(AhoCorasick),
}

/// What is known about one input, so that no searcher looks at a byte twice.
pub(super) struct Cursor {
    short: Option<usize>,
    long: Option<usize>,
    /// From here on a pattern may begin without being found.
    pub(super) tail: usize,
}

impl Scanner {
    pub(super) fn new(phrases: &[Vec<u8>], prefixes: &[Vec<u8>]) -> Self {
        let all = || phrases.iter().chain(prefixes);
        let multiline = all().any(|pattern| pattern.contains(&b'\n'));
        let mut short: Vec<&[u8]> =
            all().map(Vec::as_slice).filter(|pattern| pattern.len() < LONG).collect();
        short.sort_unstable();
        short.dedup();
        let short_tail = short.iter().map(|pattern| pattern.len() - 1).max().unwrap_or(0);
        let long = all().filter(|pattern| pattern.len() >= LONG).cloned();
        Self { short: Short::new(&short), short_tail, grams: Grams::new(long), multiline }
    }

    pub(super) fn cursor(&self, input: &[u8]) -> Cursor {
        // No pattern goes beyond a final line feed when none contains one; then all of them are
        // found even at the very end. Logs come in whole lines mostly.
        let tail = if input.last() == Some(&b'\n') && !self.multiline {
            input.len()
        } else {
            input.len().saturating_sub(self.short_tail.max(self.grams.tail()))
        };
        Cursor { short: Some(0), long: Some(0), tail }
    }

    /// The end of the bytes from `at` on in which no pattern begins.
    pub(super) fn clean_until(&self, input: &[u8], at: usize, cursor: &mut Cursor) -> usize {
        // A place before `at` is used up: the automata went past it. The initial 0 as well, but
        // for `at == 0`, where it must not be mistaken for a find.
        if cursor.short.is_some_and(|found| found < at || at == 0) {
            cursor.short = self.short.find(input, at);
        }
        if cursor.long.is_some_and(|found| found < at || at == 0) {
            cursor.long = self.grams.find(input, at);
        }
        let found = [cursor.short, cursor.long].into_iter().flatten().min().unwrap_or(usize::MAX);
        found.min(cursor.tail).max(at)
    }
}

impl Short {
    fn new(patterns: &[&[u8]]) -> Self {
        if patterns.is_empty() {
            return Self::None;
        }
        let packed = (patterns.len() <= MAX_PACKED)
            .then(|| {
                packed::Config::new()
                    .match_kind(PackedKind::LeftmostFirst)
                    .builder()
                    .extend(patterns)
                    .build()
            })
            .flatten();
        match packed {
            Some(searcher) => Self::Packed(searcher),
            // Too many patterns, or a machine without the vector instructions.
            None => Self::Automaton(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostFirst)
                    .build(patterns)
                    .expect("patterns of less than 8 bytes never exceed the automaton's limits"),
            ),
        }
    }

    fn find(&self, input: &[u8], from: usize) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Packed(searcher) => searcher
                .find_in(input, Span { start: from, end: input.len() })
                .map(|found| found.start()),
            Self::Automaton(automaton) => {
                automaton.find(Input::new(input).range(from..)).map(|found| found.start())
            }
        }
    }
}

struct Grams {
    stride: usize,
    table: Box<[u64; WORDS]>,
    /// Sorted by gram, then by falling offset: the first that fits begins first.
    entries: Vec<Entry>,
    patterns: Vec<Pattern>,
}

struct Entry {
    gram: u32,
    offset: u32,
    pattern: u32,
}

struct Pattern {
    bytes: Vec<u8>,
    any_case: bool,
}

impl Grams {
    fn new(long: impl Iterator<Item = Vec<u8>>) -> Self {
        let mut patterns: Vec<_> = long.map(|bytes| Pattern { bytes, any_case: false }).collect();
        for name in PARAMETERS {
            for mark in [b"?", b"&"] {
                patterns.push(Pattern { bytes: [&mark[..], name].concat(), any_case: true });
            }
        }
        let shortest = patterns.iter().map(|pattern| pattern.bytes.len()).min().unwrap_or(LONG);
        let stride = (shortest + 1 - GRAM).min(MAX_STRIDE);
        let mut entries = Vec::with_capacity(patterns.len() * stride);
        let mut table: Box<[u64; WORDS]> = Box::new([0; WORDS]);
        for (pattern, index) in patterns.iter().zip(0..) {
            for offset in 0..stride {
                let gram = folded(&pattern.bytes[offset..]);
                let slot = slot(gram);
                table[slot.0] |= 1 << slot.1;
                entries.push(Entry { gram, offset: offset as u32, pattern: index });
            }
        }
        entries.sort_unstable_by_key(|entry| (entry.gram, std::cmp::Reverse(entry.offset)));
        Self { stride, table, entries, patterns }
    }

    /// A pattern that begins within this many bytes of the end may have no whole sample yet.
    fn tail(&self) -> usize {
        self.stride + GRAM - 2
    }

    fn find(&self, input: &[u8], from: usize) -> Option<usize> {
        // The stride as a constant lets the compiler drop the bounds checks in the loop.
        match self.stride {
            5 => self.find_by::<5>(input, from),
            6 => self.find_by::<6>(input, from),
            7 => self.find_by::<7>(input, from),
            _ => self.find_by::<MAX_STRIDE>(input, from),
        }
    }

    fn find_by<const STRIDE: usize>(&self, input: &[u8], from: usize) -> Option<usize> {
        const AT_ONCE: usize = 8;
        let mut at = from + STRIDE - 1;
        while let Some(window) = input.get(at..at + (AT_ONCE - 1) * STRIDE + GRAM) {
            let mut any = 0;
            for sample in 0..AT_ONCE {
                any |= self.probe(folded(&window[sample * STRIDE..]));
            }
            if any != 0 {
                for sample in (at..).step_by(STRIDE).take(AT_ONCE) {
                    if let Some(found) = self.verify(input, from, sample) {
                        return Some(found);
                    }
                }
            }
            at += AT_ONCE * STRIDE;
        }
        while at + GRAM <= input.len() {
            if let Some(found) = self.verify(input, from, at) {
                return Some(found);
            }
            at += STRIDE;
        }
        None
    }

    #[inline(always)]
    fn probe(&self, gram: u32) -> u64 {
        let slot = slot(gram);
        (self.table[slot.0] >> slot.1) & 1
    }

    /// The first place from which on a pattern fits the input, given the sample at `at`.
    fn verify(&self, input: &[u8], from: usize, at: usize) -> Option<usize> {
        let gram = folded(&input[at..]);
        if self.probe(gram) == 0 {
            return None;
        }
        let first = self.entries.partition_point(|entry| entry.gram < gram);
        self.entries[first..]
            .iter()
            .take_while(|entry| entry.gram == gram)
            .filter_map(|entry| {
                let start = at.checked_sub(entry.offset as usize)?;
                let pattern = &self.patterns[entry.pattern as usize];
                (start >= from && pattern.fits(&input[start..])).then_some(start)
            })
            .next()
    }
}

impl Pattern {
    fn fits(&self, input: &[u8]) -> bool {
        let length = self.bytes.len().min(input.len());
        let (pattern, input) = (&self.bytes[..length], &input[..length]);
        if self.any_case { pattern.eq_ignore_ascii_case(input) } else { pattern == input }
    }
}

/// Four bytes with bit 5 set, which makes letters lower case (and a few other bytes look alike:
/// the comparison that follows tells them apart).
#[inline(always)]
fn folded(bytes: &[u8]) -> u32 {
    let bytes: [u8; GRAM] = [bytes[0], bytes[1], bytes[2], bytes[3]];
    u32::from_le_bytes(bytes) | 0x2020_2020
}

#[inline(always)]
fn slot(gram: u32) -> (usize, u32) {
    // Fibonacci hashing: the upper bits of the product depend on all bits of the gram.
    let hash = gram.wrapping_mul(0x9e37_79b1) >> (32 - BITS);
    ((hash >> 6) as usize & (WORDS - 1), hash & 63)
}
