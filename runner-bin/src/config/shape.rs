//! What keys there are: the tables of `config.toml` described once, for reading, for messages about
//! what is written wrongly, and for the JSON Schema.
//!
//! [`settings!`](super::shape::settings) makes a struct that serde reads, and beside it the list of
//! its [`Field`]s.

use std::collections::BTreeMap;

use runner_core::secret::Secret;
use toml::value::Datetime;

use super::duration::GoDuration;

/// What a value looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// `"text"`
    Text,
    /// Text that is not printed.
    Secret,
    /// `12`
    Integer,
    /// `true`
    Flag,
    /// `"1h30m"`, or an integer of nanoseconds.
    Duration,
    /// `2026-11-20T00:00:00Z`
    Date,
    /// `[ … ]`
    List(fn() -> Shape),
    /// A table with any keys.
    Map(fn() -> Shape),
    /// A table with these keys.
    Table(&'static [Field]),
    /// A table that is somebody else's business.
    Foreign,
}

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// As it is written.
    pub(crate) key: &'static str,
    /// What it means, with unit and default.
    pub(crate) about: &'static str,
    /// What its value looks like.
    pub(crate) shape: fn() -> Shape,
    /// What an absent key means, as TOML; empty: nothing.
    pub(crate) default: &'static str,
    /// The values that are allowed; empty: any.
    pub(crate) allowed: &'static [&'static str],
    /// Why the key is accepted and does nothing here.
    pub(crate) ignored: Option<&'static str>,
    /// A change takes effect with the next start only.
    pub(crate) restart: bool,
}

impl Field {
    pub(crate) const fn new(key: &'static str, about: &'static str, shape: fn() -> Shape) -> Self {
        Self { key, about, shape, default: "", allowed: &[], ignored: None, restart: false }
    }

    pub(crate) const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    pub(crate) const fn one_of(self, allowed: &'static [&'static str]) -> Self {
        Self { allowed, ..self }
    }

    pub(crate) const fn ignored(self, why: &'static str) -> Self {
        Self { ignored: Some(why), ..self }
    }

    pub(crate) const fn restart(self) -> Self {
        Self { restart: true, ..self }
    }
}

impl Shape {
    /// In words, for "expected …".
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Text | Self::Secret => "a string in quotes",
            Self::Integer => "an integer",
            Self::Flag => "true or false",
            Self::Duration => {
                "a duration such as \"90s\" or \"1h30m\" (or an integer of nanoseconds)"
            }
            Self::Date => "a date and time such as 2026-11-20T00:00:00Z",
            Self::List(_) => "a list",
            Self::Map(_) | Self::Table(_) | Self::Foreign => "a table",
        }
    }

    /// The field of this name, in GitLab Runner's way: exactly, else without regard to case.
    pub(crate) fn field(self, key: &str) -> Option<&'static Field> {
        let Self::Table(fields) = self else { return None };
        let exact = fields.iter().find(|field| field.key == key);
        exact.or_else(|| fields.iter().find(|field| field.key.eq_ignore_ascii_case(key)))
    }
}

/// A type that values of a key are read into.
pub(crate) trait Shaped {
    /// What they look like.
    fn shape() -> Shape;
}

macro_rules! shaped {
    ($($kind:ty => $shape:expr),* $(,)?) => {
        $(impl Shaped for $kind {
            fn shape() -> Shape {
                $shape
            }
        })*
    };
}

shaped! {
    String => Shape::Text,
    Secret => Shape::Secret,
    i64 => Shape::Integer,
    bool => Shape::Flag,
    GoDuration => Shape::Duration,
    Datetime => Shape::Date,
    toml::Table => Shape::Foreign,
}

impl<T: Shaped> Shaped for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: Shaped + 'static> Shaped for Vec<T> {
    fn shape() -> Shape {
        Shape::List(T::shape)
    }
}

impl<T: Shaped + 'static> Shaped for BTreeMap<String, T> {
    fn shape() -> Shape {
        Shape::Map(T::shape)
    }
}

/// Makes a table: a struct whose fields are all optional, and its [`Shape`].
macro_rules! settings {
    ($(
        $(#[doc = $about:literal])*
        struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:literal $field:ident: $kind:ty $([$($mark:ident $(($($value:tt)*))?),* $(,)?])?;
            )*
        }
    )*) => {
        $(
            $(#[doc = $about])*
            #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
            #[serde(default)]
            pub(crate) struct $name {
                $(
                    $(#[doc = $doc])*
                    #[serde(rename = $key)]
                    pub(crate) $field: $kind,
                )*
            }

            impl $name {
                /// The keys of the table.
                pub(crate) const FIELDS: &[$crate::config::shape::Field] = &[
                    $($crate::config::shape::Field::new(
                        $key,
                        concat!($($doc),*),
                        <$kind as $crate::config::shape::Shaped>::shape,
                    )$($(.$mark($($($value)*)?))*)?,)*
                ];
            }

            impl $crate::config::shape::Shaped for $name {
                fn shape() -> $crate::config::shape::Shape {
                    $crate::config::shape::Shape::Table(Self::FIELDS)
                }
            }
        )*
    };
}

pub(crate) use settings;
