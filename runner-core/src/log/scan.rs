//! Finds, fast, where something to mask may begin. Everything before that place is passed on as it
//! is; the exact (and slower) automata look at the rest.
//!
//! Each kind of pattern has the searcher that suits it:
//!
//! * Masked values of 8 bytes and more (GitLab's minimum) go by sampled 4-grams, see [`Grams`].
//!   Neither their number nor their length makes it slower.
//! * Shorter values, the beginnings of token prefixes, and `?` or `&` with two letters of a parameter
//!   go through packed (Teddy) searchers, see [`Starts`]; a few patterns each, since two of them are
//!   faster than one with all patterns, whose buckets overflow (14 and 19 GB/s alone, 5 together).
//!
//! A candidate is compared with its whole pattern as far as the input goes, so false alarms are rare.
//! `BENCHMARKS.md` has the numbers.

use super::grams::Grams;
use super::starts::{MAX_TEXT, Starts, parameters, texts};

/// Masked values from this length on are searched by sampling.
const LONG: usize = MAX_TEXT + 1;
/// Patterns of one packed searcher: it has 8 buckets, and slows down when they fill.
const GROUP: usize = 32;
/// Packed searchers beside the one for URL parameters. Beyond that one automaton is faster.
const MAX_GROUPS: usize = 3;
/// Groups, URL parameters, samples.
const MAX_SEARCHERS: usize = MAX_GROUPS + 2;

pub(super) struct Scanner {
    /// At most [`MAX_SEARCHERS`].
    searchers: Vec<Searcher>,
    /// Bytes at the input's end in which a pattern may begin without being found.
    tail: usize,
    /// A pattern contains a line feed.
    multiline: bool,
}

enum Searcher {
    Starts(Starts),
    Grams(Grams),
}

/// What is known about one input, so that no searcher looks at a byte twice.
pub(super) struct Cursor {
    /// Where each searcher found something; `usize::MAX`: nowhere.
    found: [Option<usize>; MAX_SEARCHERS],
    /// From here on a pattern may begin without being found.
    pub(super) tail: usize,
}

impl Scanner {
    pub(super) fn new(phrases: &[Vec<u8>], prefixes: &[Vec<u8>]) -> Self {
        let (long, short): (Vec<_>, Vec<_>) =
            phrases.iter().cloned().partition(|phrase| phrase.len() >= LONG);
        let mut groups = texts(short.iter().chain(prefixes));
        let size = if groups.len() > MAX_GROUPS * GROUP { groups.len() } else { GROUP };
        let mut searchers = Vec::new();
        while !groups.is_empty() {
            let rest = groups.split_off(size.min(groups.len()));
            searchers.push(Searcher::Starts(Starts::new(std::mem::replace(&mut groups, rest))));
        }
        searchers.push(Searcher::Starts(Starts::new(parameters())));
        if !long.is_empty() {
            searchers.push(Searcher::Grams(Grams::new(long)));
        }
        Self {
            tail: searchers.iter().map(Searcher::tail).max().unwrap_or(0),
            searchers,
            multiline: phrases.iter().chain(prefixes).any(|pattern| pattern.contains(&b'\n')),
        }
    }

    pub(super) fn cursor(&self, input: &[u8]) -> Cursor {
        // No pattern goes beyond a final line feed when none contains one; then all of them are
        // found even at the very end. Logs come in whole lines mostly.
        let tail = if input.last() == Some(&b'\n') && !self.multiline {
            input.len()
        } else {
            input.len().saturating_sub(self.tail)
        };
        Cursor { found: [None; MAX_SEARCHERS], tail }
    }

    /// The end of the bytes from `at` on in which no pattern begins.
    pub(super) fn clean_until(&self, input: &[u8], at: usize, cursor: &mut Cursor) -> usize {
        let mut clean = cursor.tail;
        for (searcher, found) in self.searchers.iter().zip(&mut cursor.found) {
            // A place before `at` is used up: the automata went past it.
            let next = match *found {
                Some(next) if next >= at => next,
                _ => searcher.find(input, at).unwrap_or(usize::MAX),
            };
            *found = Some(next);
            clean = clean.min(next);
        }
        clean.max(at)
    }
}

impl Searcher {
    fn find(&self, input: &[u8], from: usize) -> Option<usize> {
        match self {
            Self::Starts(starts) => starts.find(input, from),
            Self::Grams(grams) => grams.find(input, from),
        }
    }

    fn tail(&self) -> usize {
        match self {
            Self::Starts(starts) => starts.tail(),
            Self::Grams(grams) => grams.tail(),
        }
    }
}
