//! Tokens that are known by their prefix (`glpat-…`) are masked, whoever they belong to.
//!
//! The prefix stays, so nothing is ever held back here: the token's first byte is replaced by the
//! mask and the rest of it swallowed. GitLab Runner uses only the 15 shortest prefixes and drops the
//! others without a word; here there is no limit.

use serde::{Deserialize, Serialize};

use super::automaton::{StateID, Trie};
use super::checkpoint::is_default;
use super::{MASK, Symbol};

/// Prefixes of GitLab's own tokens: `glpat-`, then those of `FF_MASK_ALL_DEFAULT_TOKENS`.
pub const DEFAULT_TOKEN_PREFIXES: [&str; 14] = [
    "glpat-",
    "gloas-",
    "gldt-",
    "glrt-",
    "glcbt-",
    "glrtr-",
    "glptt-",
    "glft-",
    "glimt-",
    "glagent-",
    "glsoat-",
    "glffct-",
    "_gitlab_session=",
    "gltok-",
];

/// All prefixes that are looked for: sorted, each once.
pub(super) fn prefixes(prefixes: &[String]) -> Vec<Vec<u8>> {
    let mut prefixes: Vec<_> = prefixes
        .iter()
        .filter(|prefix| !prefix.is_empty())
        .map(|prefix| prefix.as_bytes().to_vec())
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

/// What one stream has seen of the prefixes.
#[derive(Clone, Copy, Default)]
pub(super) struct PrefixState {
    /// `None`: at the start.
    state: Option<StateID>,
    /// The mask is out, the rest of the token is swallowed.
    swallowing: bool,
}

/// A [`PrefixState`] by pattern and depth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct PrefixCheckpoint {
    #[serde(default, rename = "p", skip_serializing_if = "is_default")]
    pattern: u32,
    #[serde(default, rename = "d", skip_serializing_if = "is_default")]
    depth: u32,
    #[serde(default, rename = "s", skip_serializing_if = "is_default")]
    swallowing: bool,
}

impl PrefixState {
    pub(super) fn is_idle(self) -> bool {
        self.state.is_none() && !self.swallowing
    }

    /// Takes one byte or mask; what comes out of it goes to `out` at once.
    pub(super) fn push(&mut self, trie: &Trie, symbol: Symbol, out: &mut Vec<u8>) {
        let Symbol::Byte(byte) = symbol else {
            *self = Self::default();
            out.extend_from_slice(MASK);
            return;
        };
        if self.swallowing {
            if is_token_byte(byte) {
                return;
            }
            *self = Self::default();
        }
        let state = self.state.unwrap_or(trie.start());
        if trie.node(state).longest > 0 && is_token_byte(byte) {
            out.extend_from_slice(MASK);
            *self = Self { state: None, swallowing: true };
            return;
        }
        let next = trie.next(state, byte);
        self.state = (trie.node(next).depth > 0).then_some(next);
        out.push(byte);
    }

    pub(super) fn checkpoint(self, trie: &Trie) -> PrefixCheckpoint {
        let node = self.state.map(|state| trie.node(state)).unwrap_or_default();
        PrefixCheckpoint { pattern: node.pattern, depth: node.depth, swallowing: self.swallowing }
    }

    /// `None` when the checkpoint does not fit these prefixes.
    pub(super) fn resume(trie: &Trie, checkpoint: &PrefixCheckpoint) -> Option<Self> {
        let (state, _) = trie.state_of(checkpoint.pattern, checkpoint.depth)?;
        Some(Self {
            state: (checkpoint.depth > 0).then_some(state),
            swallowing: checkpoint.swallowing,
        })
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'=' | b'-')
}
