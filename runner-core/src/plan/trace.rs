//! How the trace is made, and the lines that it begins with.

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// A line at the beginning of the trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderLine {
    /// What it says, without colours and line end.
    pub text: String,
    /// How it looks.
    #[serde(default)]
    pub level: LineLevel,
    /// When, in seconds since the Unix epoch, for section markers. `None`: when the agent writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
}

impl HeaderLine {
    /// A line without colour.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), level: LineLevel::Plain, at: None }
    }

    /// A warning to the job's author.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { text: text.into(), level: LineLevel::Warning, at: None }
    }
}

/// How a line of the runner's own looks in the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineLevel {
    /// No colour.
    #[default]
    Plain,
    /// Green.
    Info,
    /// Yellow, with `WARNING: ` before it.
    Warning,
    /// Red, with `ERROR: ` before it.
    Error,
    /// A stage's heading, in cyan.
    Heading,
    /// Not a line but the beginning of the section of this name.
    SectionStart,
    /// Not a line but its end.
    SectionEnd,
}

/// How the trace is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// Values that never appear; trimmed, empty ones are ignored.
    pub masks: Vec<Secret>,
    /// What follows one of these prefixes is masked (`glpat-` …).
    pub token_prefixes: Vec<String>,
    /// A time and stream id before each line (GitLab's `FF_TIMESTAMPS`).
    pub timestamps: bool,
    /// Section markers.
    pub sections: bool,
    /// Longest trace in bytes; then a notice, then nothing more. Default 4 MiB.
    pub limit: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            masks: Vec::new(),
            token_prefixes: Vec::new(),
            timestamps: true,
            sections: true,
            limit: 4 << 20,
        }
    }
}
