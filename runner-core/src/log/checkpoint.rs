//! What must be kept for a restarted supervisor to go on with a trace.

use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::phrase::PhraseCheckpoint;
use super::prefix::PrefixCheckpoint;
use super::repair::Repair;
use super::stream::{Kind, Stream};
use super::url::UrlState;
use crate::outcome::TraceSummary;

/// A pipeline between two writes: some 50 bytes of JSON when all streams are at the beginning of a
/// line, plus at most 8 KiB for each stream that is within one.
///
/// There is no secret in it: a value that has come in part is noted by number and length. That is
/// why it can only be resumed with the settings it was made under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// All that was handed out before.
    pub summary: TraceSummary,
    /// The trace has reached its limit and ends there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) full: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) streams: Vec<StreamCheckpoint>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StreamCheckpoint {
    pub(super) stream: Stream,
    pub(super) kind: Kind,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) mask: MaskCheckpoint,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) repair: Repair,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) line: Lines,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct MaskCheckpoint {
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) phrase: PhraseCheckpoint,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) url: UrlState,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) prefix: PrefixCheckpoint,
}

impl StreamCheckpoint {
    /// A stream about which there is nothing to say.
    pub(super) fn is_fresh(&self) -> bool {
        is_default(&self.mask) && is_default(&self.repair) && is_default(&self.line)
    }
}

/// Why a checkpoint could not be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log checkpoint at byte {} does not fit the job's log settings; \
     it was made under others or is damaged", offset.0
)]
pub struct ResumeError {
    /// The trace's length at the checkpoint.
    pub offset: crate::ids::Offset,
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
