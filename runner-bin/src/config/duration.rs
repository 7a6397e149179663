//! Durations as Go writes them.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// `"1h30m"`, or an integer of nanoseconds. What is negative stays so: its meaning is the key's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GoDuration {
    /// How long, without its sign.
    pub(crate) length: Duration,
    /// Whether it is below zero.
    pub(crate) negative: bool,
}

impl GoDuration {
    /// The duration; `None` when it is not positive, which most keys read as "not set".
    pub(crate) fn positive(self) -> Option<Duration> {
        (!self.negative && !self.length.is_zero()).then_some(self.length)
    }

    /// Reads Go's text form: `90s`, `1h30m`, `1.5h`, `-2us`; `0` needs no unit.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, mut rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Some(Self::default());
        }
        if rest.is_empty() {
            return None;
        }
        let mut nanos: f64 = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let number: f64 = rest[..digits].parse().ok()?;
            rest = &rest[digits..];
            let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            let unit = match &rest[..end] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
            nanos += number * unit;
            rest = &rest[end..];
        }
        // Go's limit: 64 bits of nanoseconds, about 292 years.
        let limit = i64::MAX as f64;
        (nanos <= limit).then(|| Self { length: Duration::from_nanos(nanos as u64), negative })
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = GoDuration;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a duration such as \"1h30m\", or an integer of nanoseconds")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<GoDuration, E> {
                GoDuration::parse(text)
                    .ok_or_else(|| E::custom(format!("\"{text}\" is not a duration")))
            }

            fn visit_i64<E: Error>(self, nanos: i64) -> Result<GoDuration, E> {
                let length = Duration::from_nanos(nanos.unsigned_abs());
                Ok(GoDuration { length, negative: nanos < 0 })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::GoDuration;

    #[rstest]
    #[case("90s", 90_000)]
    #[case("1h30m", 5_400_000)]
    #[case("500ms", 500)]
    #[case("1.5h", 5_400_000)]
    #[case("0", 0)]
    #[case("1m0s", 60_000)]
    fn manager_07_durations_are_gos(#[case] text: &str, #[case] millis: u64) {
        let parsed = GoDuration::parse(text).unwrap();
        assert_eq!((parsed.length, parsed.negative), (Duration::from_millis(millis), false));
    }

    #[rstest]
    #[case("3600 s")]
    #[case("1h 30min")]
    #[case("10min")]
    #[case("")]
    #[case("5")]
    #[case("h")]
    #[case("-")]
    #[case("1.2.3s")]
    #[case("999999999999h")]
    fn manager_07_what_go_refuses_is_refused(#[case] text: &str) {
        assert_eq!(GoDuration::parse(text), None);
    }

    #[test]
    fn manager_07_an_integer_is_nanoseconds_and_a_sign_is_kept() {
        #[derive(serde::Deserialize)]
        struct Table {
            key: GoDuration,
        }
        let table: Table = toml::from_str("key = 1500000000").unwrap();
        assert_eq!(table.key.positive(), Some(Duration::from_millis(1500)));
        let table: Table = toml::from_str("key = \"-5m\"").unwrap();
        assert_eq!(table.key.positive(), None);
    }
}
