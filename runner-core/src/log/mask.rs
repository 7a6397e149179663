//! The three masks of one stream in their order: values, URL parameters, token prefixes.

use super::automaton::Trie;
use super::checkpoint::MaskCheckpoint;
use super::phrase::{self, PhraseState};
use super::prefix::{self, PrefixState};
use super::scan::Scanner;
use super::url::UrlState;
use super::{MASK, Symbol};
use crate::plan::LogSettings;

/// What is masked, compiled once for all streams of a job.
///
/// It holds the masked values in clear and therefore has no `Debug`.
pub(super) struct Rules {
    phrases: Option<Trie>,
    prefixes: Option<Trie>,
    scanner: Scanner,
}

impl Rules {
    pub(super) fn new(settings: &LogSettings) -> Self {
        let phrases = phrase::phrases(&settings.masks);
        let prefixes = prefix::prefixes(&settings.token_prefixes);
        let scanner = Scanner::new(&phrases, &prefixes);
        Self { phrases: Trie::new(phrases), prefixes: Trie::new(prefixes), scanner }
    }
}

/// The masks' state for one stream.
pub(super) struct MaskState {
    phrase: PhraseState,
    url: UrlState,
    prefix: PrefixState,
    /// What the phrases let through; empty between calls, kept for its memory.
    passed: Vec<Symbol>,
    /// What came out of all three; empty between calls, kept for its memory.
    masked: Vec<u8>,
}

impl MaskState {
    pub(super) fn new() -> Self {
        Self {
            phrase: PhraseState::new(),
            url: UrlState::default(),
            prefix: PrefixState::default(),
            passed: Vec::new(),
            masked: Vec::new(),
        }
    }

    fn is_idle(&self) -> bool {
        self.phrase.is_idle() && self.url.is_idle() && self.prefix.is_idle()
    }

    /// See [`PhraseState::next_held`].
    pub(super) fn next_held(&self) -> Option<u8> {
        self.phrase.next_held()
    }

    /// Takes input; what is decided about goes to `out` at once, in pieces of any size.
    pub(super) fn push(&mut self, rules: &Rules, input: &[u8], out: &mut dyn FnMut(&[u8])) {
        let mut cursor = rules.scanner.cursor(input);
        let mut at = 0;
        while at < input.len() {
            if self.is_idle() {
                let clean = rules.scanner.clean_until(input, at, &mut cursor);
                if clean > at {
                    self.phrase.pass_clean();
                    out(&input[at..clean]);
                    at = clean;
                    continue;
                }
            }
            while at < input.len() {
                self.step(rules, input[at]);
                at += 1;
                // In the tail nothing can be skipped, so there is no use in asking.
                if at < cursor.tail && self.is_idle() {
                    break;
                }
            }
            self.hand_over(out);
        }
    }

    /// The stream is over: what might have become a hit is none.
    pub(super) fn finish(&mut self, rules: &Rules, out: &mut dyn FnMut(&[u8])) {
        self.phrase.finish(&mut self.passed);
        self.pass_on(rules);
        self.hand_over(out);
        self.url = UrlState::default();
        self.prefix = PrefixState::default();
    }

    #[inline]
    fn step(&mut self, rules: &Rules, byte: u8) {
        match &rules.phrases {
            Some(phrases) => self.phrase.push(phrases, byte, &mut self.passed),
            None => self.passed.push(Symbol::Byte(byte)),
        }
        self.pass_on(rules);
    }

    #[inline]
    fn pass_on(&mut self, rules: &Rules) {
        let Self { url, prefix, passed, masked, .. } = self;
        for &symbol in passed.iter() {
            url.push(symbol, |symbol| match (&rules.prefixes, symbol) {
                (Some(prefixes), _) => prefix.push(prefixes, symbol, masked),
                (None, Symbol::Byte(byte)) => masked.push(byte),
                (None, Symbol::Mask) => masked.extend_from_slice(MASK),
            });
        }
        passed.clear();
    }

    fn hand_over(&mut self, out: &mut dyn FnMut(&[u8])) {
        if !self.masked.is_empty() {
            out(&self.masked);
            self.masked.clear();
        }
    }

    pub(super) fn checkpoint(&self, rules: &Rules) -> MaskCheckpoint {
        MaskCheckpoint {
            phrase: rules
                .phrases
                .as_ref()
                .map(|trie| self.phrase.checkpoint(trie))
                .unwrap_or_default(),
            url: self.url,
            prefix: rules
                .prefixes
                .as_ref()
                .map(|trie| self.prefix.checkpoint(trie))
                .unwrap_or_default(),
        }
    }

    /// `None` when the checkpoint was made under other rules.
    pub(super) fn resume(rules: &Rules, checkpoint: &MaskCheckpoint) -> Option<Self> {
        let mut state = Self::new();
        match &rules.phrases {
            Some(trie) => state.phrase = PhraseState::resume(trie, &checkpoint.phrase)?,
            None if checkpoint.phrase != Default::default() => return None,
            None => {}
        }
        match &rules.prefixes {
            Some(trie) => state.prefix = PrefixState::resume(trie, &checkpoint.prefix)?,
            None if checkpoint.prefix != Default::default() => return None,
            None => {}
        }
        state.url = checkpoint.url;
        checkpoint.url.is_possible().then_some(state)
    }
}

/// The masks alone, for one stream of bytes: no time stamps, no repair, no limit.
///
/// Output depends only on the bytes that went in, never on how they were cut.
pub struct Masker {
    rules: Rules,
    state: MaskState,
}

impl Masker {
    /// Masks as these settings say; only `masks` and `token_prefixes` matter.
    #[must_use]
    pub fn new(settings: &LogSettings) -> Self {
        Self { rules: Rules::new(settings), state: MaskState::new() }
    }

    /// Takes input and appends to `out` all that is decided about. Held back is only what may still
    /// become a masked value.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.state.push(&self.rules, input, &mut |piece| out.extend_from_slice(piece));
    }

    /// Ends the stream: what was held back is appended unmasked, since it is no whole value.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.state.finish(&self.rules, &mut |piece| out.extend_from_slice(piece));
    }
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Masker").finish_non_exhaustive()
    }
}
