//! The user's commands, as data.

use serde::{Deserialize, Serialize};

/// The user's commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// In order; each may have several lines. All run in one shell.
    pub commands: Vec<String>,
    /// A line printed before the first command (`Running after script...`).
    #[serde(default)]
    pub announce: Option<String>,
    /// Print each command as the shell runs it (`CI_DEBUG_TRACE`).
    #[serde(default)]
    pub xtrace: bool,
    /// How commands of several lines are shown: whole, in a collapsed section
    /// (`FF_SCRIPT_SECTIONS`). One entry for each list that `commands` was put together from, in
    /// their order. Empty: their first line alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<CommandList>,
    /// Look at the exit status after each command, in addition to the shell's own `errexit`
    /// (`FF_ENABLE_BASH_EXIT_CODE_CHECK`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check_each: bool,
    /// What the commands are written in.
    #[serde(default)]
    pub language: ScriptLanguage,
    /// A program without which the commands make no sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<Requirement>,
}

/// One of the lists that a script was put together from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandList {
    /// What its sections are called: `section_<name>_<index>`.
    pub name: String,
    /// How many commands it has.
    pub commands: usize,
}

/// What commands are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptLanguage {
    /// The shell's: bash where the image has it, else any `sh`.
    #[default]
    Shell,
    /// PowerShell's, for `pwsh`.
    PowerShell,
}

/// A program that a script needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Its name, looked for in `PATH`.
    pub program: String,
    /// What the job's author is told when it is not there.
    pub message: String,
}

/// Commands around the work on the sources, in the helper.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceHooks {
    /// Before everything else of the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Script>,
    /// When the sources are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Script>,
}
