//! How hard to compress.

/// `ARTIFACT_COMPRESSION_LEVEL` and `CACHE_COMPRESSION_LEVEL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Zip: no compression.
    Fastest,
    /// A little.
    Fast,
    /// What is used when nothing is said.
    #[default]
    Default,
    /// More.
    Slow,
    /// As much as possible.
    Slowest,
}

impl Level {
    /// Reads the variable's word. `None`: no such level.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "fastest" => Self::Fastest,
            "fast" => Self::Fast,
            "" | "default" => Self::Default,
            "slow" => Self::Slow,
            "slowest" => Self::Slowest,
            _ => return None,
        })
    }

    /// Deflate's level, as in GitLab Runner; 0 stores.
    pub(super) fn deflate(self) -> u32 {
        match self {
            Self::Fastest => 0,
            Self::Fast => 1,
            Self::Default => 5,
            Self::Slow => 7,
            Self::Slowest => 9,
        }
    }

    /// Zstandard's level. GitLab Runner's library has four levels; these are the numbers that its
    /// documentation compares them with (`fastest`: 1, `default`: 3, `better`: 7, `best`: 11).
    pub(super) fn zstd(self) -> i32 {
        match self {
            Self::Fastest | Self::Fast => 1,
            Self::Default => 3,
            Self::Slow => 7,
            Self::Slowest => 11,
        }
    }
}
