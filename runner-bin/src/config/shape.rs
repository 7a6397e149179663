//! What keys there are: the tables of `config.toml` described once, for reading, for messages about
//! what is written wrongly, and for the JSON Schema.
//!
//! [`settings!`](super::shape::settings) makes a struct that serde reads, and beside it the list of
//! its [`Field`]s. The executor's own tables describe themselves in the same words.

use std::collections::BTreeMap;

use runner_core::secret::Secret;
pub(crate) use runner_k8s::settings::shape::{Field, Shape};
use toml::value::Datetime;

use super::duration::GoDuration;

/// A type that values of a key are read into. Of its own, beside the executor's: TOML's types cannot
/// be given a trait of another crate.
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
