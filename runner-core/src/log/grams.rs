//! Searches for any number of longer patterns by looking at one 4-byte group in `stride` bytes.
//!
//! Each occurrence of a pattern covers one of the text positions `0, stride, 2·stride …` within its
//! first `stride` bytes. If all patterns have at least `stride + 3` bytes, the four bytes there are
//! one of the pattern's first `stride` groups of four. So a table of all those groups is asked: a
//! hash, and a bit in a table that fits the L1 cache.

/// Bytes in a sample.
const GRAM: usize = 4;
/// Longest distance of samples; with more there is nothing left to gain.
const MAX_STRIDE: usize = 8;
/// Shortest pattern.
const MIN_PATTERN: usize = 8;
/// Words of the bit table: 16 KiB, half of the L1 cache. 100 values fill 0.4 % of it.
const WORDS: usize = 2048;
/// log2 of the bits in the table.
const BITS: u32 = 17;

pub(super) struct Grams {
    stride: usize,
    table: Box<[u64; WORDS]>,
    /// Sorted by gram, then by falling offset: the first that fits begins first.
    entries: Vec<Entry>,
    patterns: Vec<Vec<u8>>,
}

struct Entry {
    gram: u32,
    /// Of the gram in the pattern.
    offset: usize,
    pattern: usize,
}

impl Grams {
    /// All patterns have at least 8 bytes.
    pub(super) fn new(patterns: Vec<Vec<u8>>) -> Self {
        let shortest = patterns.iter().map(Vec::len).min().unwrap_or(MIN_PATTERN);
        debug_assert!(shortest >= MIN_PATTERN);
        let stride = (shortest + 1 - GRAM).min(MAX_STRIDE);
        let mut entries = Vec::with_capacity(patterns.len() * stride);
        let mut table: Box<[u64; WORDS]> = Box::new([0; WORDS]);
        for (index, pattern) in patterns.iter().enumerate() {
            for offset in 0..stride {
                let gram = gram(&pattern[offset..]);
                let (word, bit) = slot(gram);
                table[word] |= 1 << bit;
                entries.push(Entry { gram, offset, pattern: index });
            }
        }
        entries.sort_unstable_by_key(|entry| (entry.gram, std::cmp::Reverse(entry.offset)));
        Self { stride, table, entries, patterns }
    }

    /// A pattern that begins within this many bytes of the end may have no whole sample yet.
    pub(super) fn tail(&self) -> usize {
        self.stride + GRAM - 2
    }

    /// The first place at or after `from` where a pattern fits the input as far as that goes.
    pub(super) fn find(&self, input: &[u8], from: usize) -> Option<usize> {
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
                any |= self.probe(gram(&window[sample * STRIDE..]));
            }
            if any != 0 {
                let mut samples = (at..).step_by(STRIDE).take(AT_ONCE);
                if let Some(found) = samples.find_map(|sample| self.verify(input, from, sample)) {
                    return Some(found);
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
        let (word, bit) = slot(gram);
        (self.table[word] >> bit) & 1
    }

    /// The first place from which on a pattern fits the input, given the sample at `at`.
    #[inline(always)]
    fn verify(&self, input: &[u8], from: usize, at: usize) -> Option<usize> {
        let gram = gram(&input[at..]);
        if self.probe(gram) == 0 { None } else { self.look_up(gram, input, from, at) }
    }

    #[cold]
    fn look_up(&self, gram: u32, input: &[u8], from: usize, at: usize) -> Option<usize> {
        let first = self.entries.partition_point(|entry| entry.gram < gram);
        let entries = self.entries[first..].iter().take_while(|entry| entry.gram == gram);
        entries
            .filter_map(|entry| {
                let start = at.checked_sub(entry.offset).filter(|&start| start >= from)?;
                let (pattern, input) = (&self.patterns[entry.pattern], &input[start..]);
                let length = pattern.len().min(input.len());
                (pattern[..length] == input[..length]).then_some(start)
            })
            .next()
    }
}

#[inline(always)]
fn gram(bytes: &[u8]) -> u32 {
    let bytes: [u8; GRAM] = [bytes[0], bytes[1], bytes[2], bytes[3]];
    u32::from_le_bytes(bytes)
}

/// Word and bit of a gram in the table.
#[inline(always)]
fn slot(gram: u32) -> (usize, u32) {
    // Fibonacci hashing: the upper bits of the product depend on all bits of the gram.
    let hash = gram.wrapping_mul(0x9e37_79b1) >> (32 - BITS);
    ((hash >> 6) as usize & (WORDS - 1), hash & 63)
}
