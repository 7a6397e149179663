//! A byte-at-a-time search for many patterns whose position can be written down.
//!
//! It wraps the Aho-Corasick automaton and knows for each state which pattern it is a prefix of and
//! how long that prefix is. So "how much of the input may still become a hit" is a number, and a
//! state can be stored as `(pattern, depth)` without storing the secret's bytes.

use aho_corasick::automaton::Automaton;
use aho_corasick::nfa::noncontiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

pub(super) use aho_corasick::automaton::StateID;

pub(super) struct Trie {
    nfa: NFA,
    start: StateID,
    /// By state; the automaton numbers its states from 0 without gaps.
    nodes: Vec<Node>,
    patterns: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Node {
    /// Length of the longest suffix of the input that is a proper or whole prefix of a pattern.
    pub(super) depth: u32,
    /// One pattern that begins with these `depth` bytes.
    pub(super) pattern: u32,
    /// Length of the longest pattern that ends here; 0: none does.
    pub(super) longest: u32,
}

impl Trie {
    /// `None` when there is nothing to search for. Empty patterns are not allowed.
    pub(super) fn new(patterns: Vec<Vec<u8>>) -> Option<Self> {
        if patterns.is_empty() {
            return None;
        }
        let nfa = NFA::builder()
            .match_kind(MatchKind::Standard)
            .prefilter(false)
            .dense_depth(2)
            .build(&patterns)
            .expect("only patterns of 2 GiB and more are refused, and no plan carries those");
        let start = start(&nfa);
        let mut nodes = vec![Node::default(); start.as_usize() + 1];
        for (index, pattern) in patterns.iter().enumerate() {
            let mut state = start;
            for (depth, &byte) in (1..).zip(pattern) {
                state = nfa.next_state(Anchored::No, state, byte);
                if nodes.len() <= state.as_usize() {
                    nodes.resize(state.as_usize() + 1, Node::default());
                }
                let node = &mut nodes[state.as_usize()];
                if node.depth == 0 {
                    // The builder refuses more than u32::MAX states, hence longer patterns too.
                    *node = Node { depth, pattern: index as u32, longest: longest(&nfa, state) };
                }
            }
        }
        Some(Self { nfa, start, nodes, patterns })
    }

    pub(super) fn start(&self) -> StateID {
        self.start
    }

    pub(super) fn next(&self, state: StateID, byte: u8) -> StateID {
        self.nfa.next_state(Anchored::No, state, byte)
    }

    pub(super) fn node(&self, state: StateID) -> Node {
        self.nodes[state.as_usize()]
    }

    /// The state after the first `depth` bytes of a pattern, and those bytes. `None` when there is
    /// no such pattern or it is shorter.
    pub(super) fn state_of(&self, pattern: u32, depth: u32) -> Option<(StateID, &[u8])> {
        let seen = self.patterns.get(pattern as usize)?.get(..depth as usize)?;
        let state = seen.iter().fold(self.start, |state, &byte| self.next(state, byte));
        Some((state, seen))
    }
}

fn start(nfa: &NFA) -> StateID {
    nfa.start_state(Anchored::No).expect("a noncontiguous automaton has both start states")
}

fn longest(nfa: &NFA, state: StateID) -> u32 {
    if !nfa.is_match(state) {
        return 0;
    }
    (0..nfa.match_len(state))
        .map(|index| nfa.pattern_len(nfa.match_pattern(state, index)) as u32)
        .max()
        .unwrap_or(0)
}
