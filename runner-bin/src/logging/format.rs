//! How a line looks. Pure functions.

use std::borrow::Cow;

use serde_json::{Map, Value};
use tracing::Level;

use super::lines::Fields;
use crate::config::LogFormat;

/// What is written.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) fields: Fields,
    pub(super) time: jiff::Timestamp,
}

/// Prefix and message of the `runner` format fill so many columns.
const COLUMNS: usize = 50;

/// The line with its end.
pub(super) fn render(format: LogFormat, line: Line, terminal: bool) -> String {
    match format {
        LogFormat::Runner => runner(line, terminal),
        LogFormat::Text => text(line),
        LogFormat::Json => json(line),
    }
}

/// GitLab Runner's words.
fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The text on one line and without control characters: part of it comes from jobs and their agents,
/// which shall neither add lines of their own to the log nor tell the reader's terminal what to do.
fn tame(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character.is_control() && character != '\t' {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    out.into()
}

/// For people: no time, the message in a column, then the fields by name. Colours on a terminal only
/// (GitLab Runner writes them into files as well).
fn runner(line: Line, terminal: bool) -> String {
    let prefix = match line.level {
        Level::ERROR => "ERROR: ",
        Level::WARN => "WARNING: ",
        _ => "",
    };
    let (colour, reset) = match (terminal, line.level) {
        (false, _) => ("", ""),
        (true, Level::ERROR) => ("\x1b[31;1m", "\x1b[0;m"),
        (true, Level::WARN) => ("\x1b[0;33m", "\x1b[0;m"),
        (true, Level::DEBUG | Level::TRACE) => ("\x1b[37;1m", "\x1b[0;m"),
        (true, _) => ("", "\x1b[0;m"),
    };
    let Fields { message, mut values } = line.fields;
    let message = format!("{prefix}{}", tame(&message));
    values.sort_by(|(one, _), (other, _)| one.cmp(other));
    let fields: String = values
        .iter()
        .map(|(name, value)| format!(" {colour}{name}{reset}={}", tame(&plain(value))))
        .collect();
    if fields.is_empty() {
        return format!("{colour}{message}{reset}\n");
    }
    format!("{colour}{message:<COLUMNS$}{reset} {fields}\n")
}

fn quoted(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "-._/@^+:".contains(c);
    if !text.is_empty() && text.chars().all(bare) { text.to_owned() } else { format!("{text:?}") }
}

/// `key=value`.
fn text(line: Line) -> String {
    let Fields { message, mut values } = line.fields;
    values.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut text = format!(
        "time={} level={} msg={}",
        quoted(&line.time.to_string()),
        level(line.level),
        quoted(&message)
    );
    for (name, value) in &values {
        text.push_str(&format!(" {name}={}", quoted(&plain(value))));
    }
    text.push('\n');
    text
}

/// One object a line.
fn json(line: Line) -> String {
    let Fields { message, values } = line.fields;
    let mut object: Map<String, Value> = values.into_iter().collect();
    object.insert("level".into(), level(line.level).into());
    object.insert("msg".into(), message.into());
    object.insert("time".into(), line.time.to_string().into());
    format!("{}\n", Value::Object(object))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::{Fields, Line, render};
    use crate::config::LogFormat;

    fn line(level: Level) -> Line {
        let fields = Fields {
            message: "Checking for jobs... failed".into(),
            values: vec![("status".into(), 500.into()), ("error".into(), "no \"way\"".into())],
        };
        Line { level, fields, time: "2026-01-02T03:04:05Z".parse().unwrap() }
    }

    #[test]
    fn manager_63_the_runner_format_has_a_column_of_messages_and_then_the_fields_by_name() {
        let text = render(LogFormat::Runner, line(Level::WARN), false);
        let message = "WARNING: Checking for jobs... failed";
        assert_eq!(text, format!("{message:<50}  error=no \"way\" status=500\n"));
        let text = render(LogFormat::Runner, line(Level::ERROR), true);
        assert!(text.starts_with("\x1b[31;1mERROR: Checking"), "{text:?}");
        assert!(text.contains("\x1b[31;1mstatus\x1b[0;m=500"), "{text:?}");
    }

    #[test]
    fn what_jobs_bring_into_the_log_is_one_line_without_control_characters() {
        let evil = "gone\nERROR: forged\r\x1b[2J\u{9b}2J";
        for format in [LogFormat::Runner, LogFormat::Text, LogFormat::Json] {
            let fields =
                Fields { message: evil.into(), values: vec![("project".into(), evil.into())] };
            let time = "2026-01-02T03:04:05Z".parse().unwrap();
            let text = render(format, Line { level: Level::WARN, fields, time }, false);
            let line = text.strip_suffix('\n').unwrap();
            assert!(line.contains("forged"), "{line}");
            let harmful = |c: char| c.is_control() && (format != LogFormat::Json || c.is_ascii());
            assert!(!line.contains(harmful), "{line:?}");
        }
    }

    #[test]
    fn manager_63_the_text_format_is_logfmt() {
        assert_eq!(
            render(LogFormat::Text, line(Level::INFO), false),
            "time=2026-01-02T03:04:05Z level=info msg=\"Checking for jobs... failed\" \
             error=\"no \\\"way\\\"\" status=500\n"
        );
    }

    #[test]
    fn manager_63_the_json_format_has_gitlab_runners_names() {
        let text = render(LogFormat::Json, line(Level::WARN), false);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "warning");
        assert_eq!(value["msg"], "Checking for jobs... failed");
        assert_eq!(
            (&value["time"], &value["status"]),
            (&"2026-01-02T03:04:05Z".into(), &500.into())
        );
    }
}
