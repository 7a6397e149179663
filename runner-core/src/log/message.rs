//! What the runner itself writes into a trace, as text. Nothing here writes anything.

use std::fmt;

const RESET: &str = "\x1b[0;m";
const ERASE_LINE: &str = "\x1b[0K";

/// One line of the runner's own, with GitLab's colours and its line feed.
///
/// It is not masked yet: it goes through the pipeline like everything else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message(String);

impl Message {
    /// Without colour.
    pub fn plain(text: impl fmt::Display) -> Self {
        Self(format!("{ERASE_LINE}{text}{RESET}\n"))
    }

    /// Good news, in green: `Job succeeded`.
    pub fn info(text: impl fmt::Display) -> Self {
        Self(format!("\x1b[32;1m{text}{RESET}\n"))
    }

    /// In yellow, after `WARNING: `.
    pub fn warning(text: impl fmt::Display) -> Self {
        Self(format!("\x1b[0;33mWARNING: {text}{RESET}\n"))
    }

    /// In yellow, without a word before it, as what GitLab Runner's shells warn of:
    /// `Failed to extract cache`.
    pub fn caution(text: impl fmt::Display) -> Self {
        Self(format!("\x1b[0;33m{text}{RESET}\n"))
    }

    /// In red, after `ERROR: `.
    pub fn error(text: impl fmt::Display) -> Self {
        Self(format!("\x1b[31;1mERROR: {text}{RESET}\n"))
    }

    /// A stage's heading, in cyan.
    pub fn heading(text: impl fmt::Display) -> Self {
        Self::plain(format_args!("\x1b[36;1m{text}{RESET}"))
    }

    /// The line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The line as the pipeline takes it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The marker that opens a section, at `unix` seconds. It has no line feed of its own.
///
/// Only for sources that know sections ([`LogSettings::sections`](crate::plan::LogSettings)).
#[must_use]
pub fn section_start(name: &str, unix: i64) -> String {
    format!("section_start:{unix}:{name}\r{ERASE_LINE}")
}

/// The marker that closes it.
#[must_use]
pub fn section_end(name: &str, unix: i64) -> String {
    format!("section_end:{unix}:{name}\r{ERASE_LINE}")
}

/// What a trace ends with once it is as long as it may be.
pub(super) fn limit_notice(limit: u64) -> String {
    format!(
        "\n\x1b[33;1mJob's log exceeded limit of {limit} bytes.\n\
         Job execution will continue but no more output will be collected.{RESET}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::{Message, section_end, section_start};

    #[test]
    fn stages_2_markers_and_headings_are_gitlabs() {
        assert_eq!(
            section_start("get_sources", 1_788_266_096),
            "section_start:1788266096:get_sources\r\x1b[0K"
        );
        assert_eq!(section_end("step_script", 7), "section_end:7:step_script\r\x1b[0K");
        assert_eq!(
            Message::heading("Getting source from Git repository").as_str(),
            "\x1b[0K\x1b[36;1mGetting source from Git repository\x1b[0;m\x1b[0;m\n"
        );
    }

    #[test]
    fn stages_5_last_lines_have_their_colours() {
        assert_eq!(Message::info("Job succeeded").as_str(), "\x1b[32;1mJob succeeded\x1b[0;m\n");
        assert_eq!(
            Message::error("Job failed: exit code 1").as_str(),
            "\x1b[31;1mERROR: Job failed: exit code 1\x1b[0;m\n"
        );
        assert_eq!(Message::warning("no files").as_str(), "\x1b[0;33mWARNING: no files\x1b[0;m\n");
        assert_eq!(Message::caution("no files").as_str(), "\x1b[0;33mno files\x1b[0;m\n");
        assert_eq!(Message::plain("Running").as_str(), "\x1b[0KRunning\x1b[0;m\n");
    }
}
