//! How the tables are declared.

/// Whether a value is what an absent key means, so that it need not be written.
pub(super) fn is_unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A table: every key is optional, and what is not set is not written. It describes its keys in
/// `FIELDS`; the marks in brackets are functions of [`Field`](crate::settings::shape::Field).
macro_rules! table {
    (
        $(#[doc = $about:literal])*
        $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $kind:ty $([$($mark:ident $(($($value:tt)*))?),* $(,)?])?,
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $(
                $(#[doc = $doc])*
                #[serde(skip_serializing_if = "crate::settings::raw::tables::is_unset")]
                pub $key: $kind,
            )*
        }

        impl $name {
            /// The keys of the table.
            pub const FIELDS: &[$crate::settings::shape::Field] = &[
                $($crate::settings::shape::Field::new(
                    $crate::settings::shape::key(stringify!($key)),
                    concat!($($doc),*),
                    <$kind as $crate::settings::shape::Shaped>::shape,
                )$($(.$mark($($($value)*)?))*)?,)*
            ];
        }

        impl $crate::settings::shape::Shaped for $name {
            fn shape() -> $crate::settings::shape::Shape {
                $crate::settings::shape::Shape::Table(Self::FIELDS)
            }
        }
    };
}
pub(super) use table;
