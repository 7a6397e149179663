//! What an archive may unpack to.

use super::UnpackError;

/// Bounds, so that a bomb fills no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of all files together. Default: 64 GiB, far above GitLab's own limits.
    pub bytes: u64,
    /// Most entries. Default: 2 million, several times a large `node_modules`; the list of a zip
    /// archive takes about 150 bytes of memory for each.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 2_000_000 }
    }
}

/// Most plain bytes for each packed one that deflate can express is 1,032; more means that data is
/// used more than once.
pub(super) const DEFLATE_RATIO: u64 = 1032;

/// Counts what is unpacked.
#[derive(Debug)]
pub(super) struct Budget {
    limits: Limits,
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, bytes: 0, entries: 0 }
    }

    /// One more entry with this many bytes.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(UnpackError::TooMany(self.limits.entries));
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.bytes {
            return Err(UnpackError::TooLarge(self.limits.bytes));
        }
        Ok(())
    }
}
