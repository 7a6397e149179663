//! How the tables are declared.

/// Whether a value is what an absent key means, so that it need not be written.
pub(super) fn is_unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A table: every key is optional, and what is not set is not written.
macro_rules! table {
    (
        $(#[doc = $about:literal])*
        $(#[expect($($expect:tt)*)])?
        $name:ident { $($(#[doc = $doc:literal])* $key:ident: $kind:ty,)* }
    ) => {
        $(#[doc = $about])*
        $(#[expect($($expect)*)])?
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name {
            $(
                $(#[doc = $doc])*
                #[serde(skip_serializing_if = "super::tables::is_unset")]
                pub $key: $kind,
            )*
        }
    };
}
pub(super) use table;
