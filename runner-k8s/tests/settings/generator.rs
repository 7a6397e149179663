//! Values of any settings type, made by following what the type asks a deserializer for: all fields
//! once, to know which there are, or some of them at random.

use serde::de::value::{Error, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Every field of a type with the path to it: `volumes.pvc[].name`.
pub(crate) fn fields<T: DeserializeOwned>() -> Vec<String> {
    let mut generator = Generator::default();
    T::deserialize(Place { generator: &mut generator, path: String::new(), depth: 0 }).unwrap();
    generator.fields
}

/// What to put where, for values that mean something.
#[derive(Clone, Copy)]
pub(crate) struct Taste {
    /// Texts for the field at this path, of which one is taken.
    pub(crate) texts: fn(&str) -> &'static [&'static str],
    /// The same for keys of maps.
    pub(crate) keys: fn(&str) -> &'static [&'static str],
    /// The same for numbers.
    pub(crate) numbers: fn(&str) -> &'static [i64],
    /// Whether the field must be there wherever its table is.
    pub(crate) is_needed: fn(&str) -> bool,
}

/// A value with some fields set to something sensible, the same for the same seed. `#` in a text is
/// another number each time.
pub(crate) fn sensible<T: DeserializeOwned>(seed: u64, taste: Taste) -> T {
    let taste = Some(taste);
    let mut generator = Generator { state: Some(seed | 1), taste, ..Generator::default() };
    T::deserialize(Place { generator: &mut generator, path: String::new(), depth: 0 }).unwrap()
}

/// A value with some fields set, the same for the same seed.
pub(crate) fn random<T: DeserializeOwned>(seed: u64) -> T {
    let mut generator = Generator { state: Some(seed | 1), ..Generator::default() };
    T::deserialize(Place { generator: &mut generator, path: String::new(), depth: 0 }).unwrap()
}

#[derive(Default)]
struct Generator {
    /// `None`: everything is set.
    state: Option<u64>,
    fields: Vec<String>,
    taste: Option<Taste>,
    count: u64,
}

impl Generator {
    fn below(&mut self, most: u64) -> u64 {
        let Some(state) = &mut self.state else { return 1 };
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % most
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let at = self.below(from.len().try_into().unwrap());
        from[usize::try_from(at).unwrap()]
    }

    fn fresh(&mut self, text: &str) -> String {
        self.count += 1;
        text.replace('#', &self.count.to_string())
    }

    fn is_set(&mut self, depth: usize, path: &str) -> bool {
        if self.taste.is_some_and(|taste| depth > 0 && (taste.is_needed)(path)) {
            return true;
        }
        let one_of = if depth == 0 { 6 } else { 2 };
        self.state.is_none() || self.below(one_of) == 0
    }

    fn text(&mut self, path: &str) -> String {
        if let Some(taste) = self.taste {
            let text = self.pick((taste.texts)(path));
            return self.fresh(text);
        }
        const TEXTS: [&str; 8] =
            ["", "a", "$VAR/x", "\"quoted\"", "two\nlines", "ü = 1", "a.b", "'it''s'"];
        self.pick(&TEXTS).to_owned()
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
        visitor.visit_string(self.generator.text(&self.path))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.generator.below(2) == 1)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(taste) = self.generator.taste {
            return visitor.visit_i64(self.generator.pick((taste.numbers)(&self.path)));
        }
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
        let Place { generator, path, .. } = &mut self.place;
        let key = match generator.taste {
            Some(taste) => {
                let text = generator.pick((taste.keys)(path));
                generator.fresh(text)
            }
            None => format!("key {}.{}", self.number, generator.text(path)),
        };
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

impl Fields<'_> {
    fn path_of(&self, field: &str) -> String {
        let path = &self.place.path;
        let separator = if path.is_empty() { "" } else { "." };
        format!("{path}{separator}{field}")
    }
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
            let path = self.path_of(first);
            if self.place.generator.is_set(self.place.depth, &path) {
                self.current = first;
                return seed.deserialize(StrDeserializer::<Error>::new(first)).map(Some);
            }
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let path = self.path_of(self.current);
        let Place { generator, depth, .. } = &mut self.place;
        generator.fields.push(path.clone());
        seed.deserialize(Place { generator, path, depth: *depth + 1 })
    }
}
