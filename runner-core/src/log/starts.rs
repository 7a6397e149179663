//! Searches for patterns by their first few bytes, many bytes of input at a time.

use aho_corasick::packed::{self, MatchKind as PackedKind};
use aho_corasick::{AhoCorasick, Input, MatchKind, Span};

use super::url::PARAMETERS;

/// Bytes of a pattern that are searched for at most; the rest is compared.
pub(super) const MAX_TEXT: usize = 7;
/// The packed searcher refuses, or gets slower than an automaton, with more.
const MAX_PACKED: usize = 60;

pub(super) struct Starts {
    engine: Engine,
    /// In the engine's order.
    starts: Vec<Start>,
}

enum Engine {
    Packed(packed::Searcher),
    Automaton(AhoCorasick),
}

/// What is searched for, and the patterns that begin with it.
pub(super) struct Start {
    text: Vec<u8>,
    wholes: Vec<Vec<u8>>,
    any_case: bool,
}

/// The starts of patterns that are searched for as they are. Shorter ones come first.
pub(super) fn texts<'a>(patterns: impl Iterator<Item = &'a Vec<u8>>) -> Vec<Start> {
    let mut starts: Vec<Start> = Vec::new();
    for pattern in patterns {
        let text = &pattern[..pattern.len().min(MAX_TEXT)];
        match starts.iter_mut().find(|start| start.text == text) {
            Some(start) => start.wholes.push(pattern.clone()),
            None => starts.push(Start {
                text: text.to_vec(),
                wholes: vec![pattern.clone()],
                any_case: false,
            }),
        }
    }
    starts.sort_by_key(|start| start.text.len());
    starts
}

/// The starts of URL parameters: `?` or `&` with the first two letters, in any case.
pub(super) fn parameters() -> Vec<Start> {
    let mut starts: Vec<Start> = Vec::new();
    for mark in [b'?', b'&'] {
        for name in PARAMETERS {
            let (first, second) = (name[0], name[1]);
            let whole = [&[mark], name].concat();
            for text in [
                [mark, first, second],
                [mark, first, second.to_ascii_uppercase()],
                [mark, first.to_ascii_uppercase(), second],
                [mark, first.to_ascii_uppercase(), second.to_ascii_uppercase()],
            ] {
                let wholes = vec![whole.clone()];
                match starts.iter_mut().find(|start| start.text == text) {
                    Some(start) => start.wholes.extend(wholes),
                    None => starts.push(Start { text: text.to_vec(), wholes, any_case: true }),
                }
            }
        }
    }
    starts
}

impl Starts {
    pub(super) fn new(starts: Vec<Start>) -> Self {
        let texts = || starts.iter().map(|start| &start.text);
        let packed = (starts.len() <= MAX_PACKED)
            .then(|| {
                packed::Config::new()
                    .match_kind(PackedKind::LeftmostFirst)
                    .builder()
                    .extend(texts())
                    .build()
            })
            .flatten();
        let engine = match packed {
            Some(searcher) => Engine::Packed(searcher),
            // Too many patterns, or a machine without the vector instructions.
            None => Engine::Automaton(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostFirst)
                    .build(texts())
                    .expect("texts of less than 8 bytes never exceed the automaton's limits"),
            ),
        };
        Self { engine, starts }
    }

    /// The first place at or after `from` where a pattern fits the input as far as that goes, if at
    /// least the pattern's start is there.
    pub(super) fn find(&self, input: &[u8], mut from: usize) -> Option<usize> {
        while from < input.len() {
            let found = match &self.engine {
                Engine::Packed(searcher) => {
                    searcher.find_in(input, Span { start: from, end: input.len() })
                }
                Engine::Automaton(automaton) => automaton.find(Input::new(input).range(from..)),
            }?;
            // Where several texts begin at one place this is the shortest of them. Only the longest
            // texts are cut short, so when its patterns do not fit there is no other one.
            if self.starts[found.pattern().as_usize()].fits(&input[found.start()..]) {
                return Some(found.start());
            }
            from = found.start() + 1;
        }
        None
    }

    /// A pattern that begins within this many bytes of the end may not be found.
    pub(super) fn tail(&self) -> usize {
        self.starts.iter().map(|start| start.text.len() - 1).max().unwrap_or(0)
    }
}

impl Start {
    fn fits(&self, input: &[u8]) -> bool {
        self.wholes.iter().any(|whole| {
            let length = whole.len().min(input.len());
            let (whole, input) = (&whole[..length], &input[..length]);
            if self.any_case { whole.eq_ignore_ascii_case(input) } else { whole == input }
        })
    }
}
