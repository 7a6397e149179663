//! What keys there are, as data: for messages about what is written wrongly, for editors, and for
//! the documentation. Every table of settings describes itself with a list of [`Field`]s.

use std::collections::BTreeMap;

use runner_core::secret::Secret;

/// What a value looks like.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// `"text"`
    Text,
    /// Text that is not printed.
    Secret,
    /// `12`
    Integer,
    /// `0.5`
    Number,
    /// `true`
    Flag,
    /// `"1h30m"`, or an integer of nanoseconds.
    Duration,
    /// `2026-11-20T00:00:00Z`
    Date,
    /// `"text"` or `["text"]`
    OneOrMany,
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
///
/// ```
/// use runner_k8s::settings::raw::RawSettings;
/// use runner_k8s::settings::shape::{Field, Shape};
///
/// // The settings' own list, for a page or an editor of yours.
/// let namespace = RawSettings::FIELDS.iter().find(|field| field.key == "namespace").unwrap();
/// assert!(!namespace.about.is_empty());
///
/// // And one for a key of your own beside them.
/// const QUEUE: Field = Field::new("queue", "Whose jobs.", || Shape::Text).default("\"main\"");
/// assert_eq!((QUEUE.key, QUEUE.default), ("queue", "\"main\""));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As it is written.
    pub key: &'static str,
    /// What it means, with unit and default.
    pub about: &'static str,
    /// What its value looks like.
    pub shape: fn() -> Shape,
    /// What an absent key means, as TOML; empty: nothing.
    pub default: &'static str,
    /// The values that are allowed; empty: any.
    pub allowed: &'static [&'static str],
    /// Values that are known, when whoever gives the value its meaning checks it.
    pub known: &'static [&'static str],
    /// Why the key is accepted and does nothing here.
    pub ignored: Option<&'static str>,
    /// A change takes effect with the next start only.
    pub restart: bool,
}

impl Field {
    /// A key without anything special about it.
    pub const fn new(key: &'static str, about: &'static str, shape: fn() -> Shape) -> Self {
        let (default, allowed, known) = ("", &[], &[]);
        Self { key, about, shape, default, allowed, known, ignored: None, restart: false }
    }

    /// With what an absent key means, as TOML.
    #[must_use]
    pub const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// With the values that are allowed.
    #[must_use]
    pub const fn one_of(self, allowed: &'static [&'static str]) -> Self {
        Self { allowed, ..self }
    }

    /// With the values that are known.
    #[must_use]
    pub const fn known(self, known: &'static [&'static str]) -> Self {
        Self { known, ..self }
    }

    /// Without effect, and why.
    #[must_use]
    pub const fn ignored(self, why: &'static str) -> Self {
        Self { ignored: Some(why), ..self }
    }

    /// A change takes effect with the next start only.
    #[must_use]
    pub const fn restart(self) -> Self {
        Self { restart: true, ..self }
    }

    /// With another shape than the type's own.
    #[must_use]
    pub const fn shaped(self, shape: fn() -> Shape) -> Self {
        Self { shape, ..self }
    }
}

impl Shape {
    /// In words, for "expected …".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Text | Self::Secret => "a string in quotes",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Flag => "true or false",
            Self::Duration => {
                "a duration such as \"90s\" or \"1h30m\" (or an integer of nanoseconds)"
            }
            Self::Date => "a date and time such as 2026-11-20T00:00:00Z",
            Self::OneOrMany => "a string or a list of strings",
            Self::List(_) => "a list",
            Self::Map(_) | Self::Table(_) | Self::Foreign => "a table",
        }
    }

    /// The field of this name, in GitLab Runner's way: exactly, else without regard to case.
    #[must_use]
    pub fn field(self, key: &str) -> Option<&'static Field> {
        let Self::Table(fields) = self else { return None };
        let exact = fields.iter().find(|field| field.key == key);
        exact.or_else(|| fields.iter().find(|field| field.key.eq_ignore_ascii_case(key)))
    }
}

/// A type that values of a key are read into.
pub(super) trait Shaped {
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
    f64 => Shape::Number,
    bool => Shape::Flag,
    super::raw::OneOrMany => Shape::OneOrMany,
    super::raw::RawDuration => Shape::Duration,
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

/// A field's name as it is written in the file: without Rust's `r#`.
pub(super) const fn key(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}
