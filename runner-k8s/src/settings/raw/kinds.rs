//! Kinds of values that have more than one spelling.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

/// A string or a list of strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// `pull_policy = "always"`
    One(String),
    /// `pull_policy = ["always", "if-not-present"]`
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    /// The entries; an empty string is no entry.
    pub fn entries(&self) -> Vec<&str> {
        match self {
            Self::One(one) => vec![one.as_str()],
            Self::Many(many) => many.iter().map(String::as_str).collect(),
        }
        .into_iter()
        .filter(|entry| !entry.is_empty())
        .collect()
    }
}

// By hand: a derived untagged enum says only "data did not match any variant".
impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = OneOrMany;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or a list of strings")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// A length of time as Go writes it (`5m`, `1h30m`), or an integer of nanoseconds; kept as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RawDuration(pub String);

impl<'de> Deserialize<'de> for RawDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Length;
        impl Visitor<'_> for Length {
            type Value = RawDuration;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter
                    .write_str(r#"a duration such as "90s" or "5m", or an integer of nanoseconds"#)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<RawDuration, E> {
                Ok(RawDuration(text.to_owned()))
            }
            fn visit_i64<E: Error>(self, nanos: i64) -> Result<RawDuration, E> {
                Ok(RawDuration(format!("{nanos}ns")))
            }
            fn visit_u64<E: Error>(self, nanos: u64) -> Result<RawDuration, E> {
                Ok(RawDuration(format!("{nanos}ns")))
            }
        }
        deserializer.deserialize_any(Length)
    }
}
