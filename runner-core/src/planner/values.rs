//! Values as Go reads and writes them: what a job's author may put into a variable.

use std::time::Duration;

/// A boolean in one of the twelve spellings; anything else is none.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A duration as an author or an operator writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoDuration {
    /// Zero or more.
    Forward(Duration),
    /// Less than zero.
    Backward,
}

/// Go's durations: `1h30m`, `1.5h`, `300ms`, `-5m`, `0`. A number without a unit is none.
#[must_use]
pub fn parse_duration(text: &str) -> Option<GoDuration> {
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(GoDuration::Forward(Duration::ZERO));
    }
    if rest.is_empty() {
        return None;
    }
    // Go counts in i64 nanoseconds and refuses what does not fit; so does the last check here.
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number =
            rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (digits, after) = rest.split_at(number);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(scaled(digits, nanos)?)?;
        if total > i64::MAX as u128 {
            return None;
        }
        rest = after;
    }
    if negative && total > 0 {
        return Some(GoDuration::Backward);
    }
    Some(GoDuration::Forward(Duration::from_nanos(u64::try_from(total).ok()?)))
}

/// `digits` (with at most one point) times `nanos`, cut to whole nanoseconds.
fn scaled(digits: &str, nanos: u128) -> Option<u128> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    let mut total = whole.checked_mul(nanos)?;
    let mut unit = nanos;
    for digit in fraction.bytes() {
        unit /= 10;
        total += u128::from(digit - b'0') * unit;
    }
    Some(total)
}

/// Text in quotes for a warning, cut to a length that a person reads.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// The same without quotes. Control characters become blanks: a warning is one line, and a job's
/// variable does not get to write section markers into the header.
pub(super) fn cut(text: &str) -> String {
    shortened(text).replace(char::is_control, " ")
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{GoDuration, cut, parse_bool, parse_duration, shown};

    #[test]
    fn booleans_are_gos_twelve_words() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(parse_bool(text), Some(true));
            assert_eq!(parse_bool(&format!(" {text}")), None);
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(parse_bool(text), Some(false));
        }
        for text in ["", "yes", "on", "tRUE", "2"] {
            assert_eq!(parse_bool(text), None);
        }
    }

    #[test]
    fn durations_are_gos() {
        let forward = |millis| Some(GoDuration::Forward(Duration::from_millis(millis)));
        for (text, expected) in [
            ("1h30m", forward(5_400_000)),
            ("1.5h", forward(5_400_000)),
            (".5s", forward(500)),
            ("2.s", forward(2000)),
            ("+5m", forward(300_000)),
            ("300ms", forward(300)),
            ("0", forward(0)),
            ("-0s", forward(0)),
            ("-5m", Some(GoDuration::Backward)),
            ("µs", None),
            ("30", None),
            ("", None),
            ("-", None),
            (".s", None),
            ("1.2.3s", None),
            ("1d", None),
            ("1 h", None),
            ("9999999999h", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text}");
        }
    }

    #[test]
    fn a_long_value_is_cut_in_a_warning() {
        assert!(shown(&"ü".repeat(1_000_000)).len() < 250);
        assert_eq!(shown("a\nb"), r#""a\nb""#);
        assert_eq!(cut("a\r\x1b[0Kb\n"), "a  [0Kb ");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,40}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn any_text_of_the_right_letters_is_read_without_a_panic(text in "[-+0-9.hmsnuµ]{0,60}") {
            let _ = parse_duration(&text);
        }
    }
}
