//! Values of any settings type, made by following what the type asks a deserializer for: all fields
//! once, to know which there are, or some of them at random.

use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Every field of a type with the path to it: `volumes.pvc[].name`.
pub(crate) fn fields<T: DeserializeOwned>() -> Vec<String> {
    let mut generator = Generator { state: None, fields: Vec::new() };
    T::deserialize(Place { generator: &mut generator, path: String::new(), depth: 0 }).unwrap();
    generator.fields
}

/// A value with some fields set, the same for the same seed.
pub(crate) fn random<T: DeserializeOwned>(seed: u64) -> T {
    let mut generator = Generator { state: Some(seed | 1), fields: Vec::new() };
    T::deserialize(Place { generator: &mut generator, path: String::new(), depth: 0 }).unwrap()
}

struct Generator {
    /// `None`: everything is set.
    state: Option<u64>,
    fields: Vec<String>,
}

impl Generator {
    fn below(&mut self, most: u64) -> u64 {
        let Some(state) = &mut self.state else { return 1 };
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % most
    }

    fn is_set(&mut self, depth: usize) -> bool {
        let one_of = if depth == 0 { 6 } else { 2 };
        self.state.is_none() || self.below(one_of) == 0
    }

    fn text(&mut self) -> String {
        const TEXTS: [&str; 8] =
            ["", "a", "$VAR/x", "\"quoted\"", "two\nlines", "ü = 1", "a.b", "'it''s'"];
        TEXTS[usize::try_from(self.below(8)).unwrap()].to_owned()
    }
}

struct Place<'g> {
    generator: &'g mut Generator,
    path: String,
    depth: usize,
}

impl<'de> Deserializer<'de> for Place<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.generator.text())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.generator.below(2) == 1)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let number = i64::try_from(self.generator.below(2000)).unwrap();
        visitor.visit_i64(number - 500)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(f64::from(u32::try_from(self.generator.below(1000)).unwrap()) / 8.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = self.generator.below(4);
        let path = format!("{}[]", self.path);
        visitor.visit_seq(Entries { place: Place { path, ..self }, left, number: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = self.generator.below(4);
        visitor.visit_map(Entries { place: self, left, number: 0 })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { place: self, fields, current: "" })
    }

    forward_to_deserialize_any! {
        i8 i16 i32 u8 u16 u32 u64 f32 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct enum identifier ignored_any
    }
}

struct Entries<'g> {
    place: Place<'g>,
    left: u64,
    number: u64,
}

impl Entries<'_> {
    fn value<'de, T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let Place { generator, path, depth } = &mut self.place;
        seed.deserialize(Place { generator, path: path.clone(), depth: *depth })
    }

    fn has_more(&mut self) -> bool {
        self.number += 1;
        self.number <= self.left
    }
}

impl<'de> SeqAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.has_more() { self.value(seed).map(Some) } else { Ok(None) }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        if !self.has_more() {
            return Ok(None);
        }
        let key = format!("key {}.{}", self.number, self.place.generator.text());
        seed.deserialize(StrDeserializer::<Error>::new(&key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        self.value(seed)
    }
}

struct Fields<'g> {
    place: Place<'g>,
    fields: &'static [&'static str],
    current: &'static str,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        loop {
            let Some((first, rest)) = self.fields.split_first() else { return Ok(None) };
            self.fields = rest;
            if self.place.generator.is_set(self.place.depth) {
                self.current = first;
                return seed.deserialize(StrDeserializer::<Error>::new(first)).map(Some);
            }
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let Place { generator, path, depth } = &mut self.place;
        let separator = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{separator}{}", self.current);
        generator.fields.push(path.clone());
        seed.deserialize(Place { generator, path, depth: *depth + 1 })
    }
}
