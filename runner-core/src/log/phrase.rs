//! Masked values: every byte that belongs to an occurrence of one is hidden.
//!
//! The rule is about sets of bytes, not about the order of hits: mark all bytes of all occurrences,
//! overlapping ones included, then each unbroken run of marked bytes becomes one `[MASKED]`. So no
//! half of a value that overlaps another one is ever left over, and the result cannot depend on how
//! the input was cut.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Symbol;
use super::automaton::{StateID, Trie};
use super::checkpoint::is_default;
use crate::secret::Secret;

/// All forms of all values that are looked for: trimmed, sorted, each once.
///
/// A value of several lines also counts where its line ends were changed, because terminals and
/// programs on pipes turn `\n` into `\r\n`.
pub(super) fn phrases(masks: &[Secret]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for value in masks.iter().map(|mask| mask.expose().trim()).filter(|value| !value.is_empty()) {
        forms.push(value.as_bytes().to_vec());
        if value.contains('\n') {
            let unix = value.replace("\r\n", "\n");
            forms.push(unix.replace('\n', "\r\n").into_bytes());
            forms.push(unix.into_bytes());
        }
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// What one stream has seen of the masked values.
pub(super) struct PhraseState {
    state: Option<StateID>,
    /// Bytes that may become part of a hit, or come after such bytes.
    held: VecDeque<u8>,
    /// Position of `held[0]` in this stream.
    base: u64,
    /// Marked runs within `held`, by position: disjoint, not adjacent, ascending.
    runs: VecDeque<(u64, u64)>,
    /// The byte before `held[0]` was masked: a run that begins at `held[0]` belongs to that mask.
    joined: bool,
}

/// A [`PhraseState`] without a byte of a secret in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PhraseCheckpoint {
    #[serde(default, rename = "p", skip_serializing_if = "is_default")]
    pattern: u32,
    #[serde(default, rename = "d", skip_serializing_if = "is_default")]
    depth: u32,
    #[serde(default, rename = "h", skip_serializing_if = "is_default")]
    held: u32,
    #[serde(default, rename = "r", skip_serializing_if = "Vec::is_empty")]
    runs: Vec<(u64, u64)>,
    #[serde(default, rename = "j", skip_serializing_if = "is_default")]
    joined: bool,
}

impl PhraseState {
    pub(super) fn new() -> Self {
        Self { state: None, held: VecDeque::new(), base: 0, runs: VecDeque::new(), joined: false }
    }

    /// Nothing of a value is in sight.
    pub(super) fn is_idle(&self) -> bool {
        self.state.is_none()
    }

    /// The first byte that is held back, if what comes out next begins with it or with a mask.
    pub(super) fn next_held(&self) -> Option<u8> {
        if self.joined { None } else { self.held.front().copied() }
    }

    /// Takes one byte; what is decided goes to `out`.
    pub(super) fn push(&mut self, trie: &Trie, byte: u8, out: &mut Vec<Symbol>) {
        let state = trie.next(self.state.unwrap_or(trie.start()), byte);
        let node = trie.node(state);
        self.state = (node.depth > 0).then_some(state);
        self.held.push_back(byte);
        let end = self.base + self.held.len() as u64;
        if node.longest > 0 {
            // Bytes before `base` that belong to this hit were masked already.
            let mut start = end.saturating_sub(u64::from(node.longest)).max(self.base);
            while let Some(&(earlier, _)) = self.runs.back().filter(|run| run.1 >= start) {
                start = start.min(earlier);
                self.runs.pop_back();
            }
            self.runs.push_back((start, end));
        }
        self.release(end - u64::from(node.depth).min(end - self.base), out);
    }

    /// At the stream's end: nothing can become a hit any more.
    pub(super) fn finish(&mut self, out: &mut Vec<Symbol>) {
        self.release(self.base + self.held.len() as u64, out);
        *self = Self::new();
    }

    /// Bytes went by that are in no hit.
    pub(super) fn pass_clean(&mut self) {
        self.joined = false;
    }

    /// Hands out what lies before `decided`. A marked run at the front goes at once and whole:
    /// whatever follows, there will be one mask for it.
    fn release(&mut self, decided: u64, out: &mut Vec<Symbol>) {
        loop {
            match self.runs.front() {
                Some(&(start, end)) if start == self.base => {
                    if !self.joined {
                        out.push(Symbol::Mask);
                    }
                    self.joined = true;
                    self.runs.pop_front();
                    self.held.drain(..(end - self.base) as usize);
                    self.base = end;
                }
                next => {
                    let stop = next.map_or(decided, |run| run.0.min(decided));
                    if stop <= self.base {
                        return;
                    }
                    let clean = self.held.drain(..(stop - self.base) as usize);
                    out.extend(clean.map(Symbol::Byte));
                    self.base = stop;
                    self.joined = false;
                }
            }
        }
    }

    pub(super) fn checkpoint(&self, trie: &Trie) -> PhraseCheckpoint {
        let node = self.state.map(|state| trie.node(state)).unwrap_or_default();
        PhraseCheckpoint {
            pattern: node.pattern,
            depth: node.depth,
            held: self.held.len() as u32,
            runs: self.runs.iter().map(|run| (run.0 - self.base, run.1 - self.base)).collect(),
            joined: self.joined,
        }
    }

    /// `None` when the checkpoint does not fit these values.
    pub(super) fn resume(trie: &Trie, checkpoint: &PhraseCheckpoint) -> Option<Self> {
        let (state, seen) = trie.state_of(checkpoint.pattern, checkpoint.depth)?;
        let held = &seen[seen.len().checked_sub(checkpoint.held as usize)?..];
        let mut last = 0;
        for &(start, end) in &checkpoint.runs {
            if start < last || end <= start || end > held.len() as u64 {
                return None;
            }
            last = end;
        }
        Some(Self {
            state: (checkpoint.depth > 0).then_some(state),
            held: held.iter().copied().collect(),
            base: 0,
            runs: checkpoint.runs.iter().copied().collect(),
            joined: checkpoint.joined,
        })
    }
}
