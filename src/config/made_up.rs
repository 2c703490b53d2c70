//! Values for keys that are missing, so that the rest of their mapping can still be read.
//!
//! What is decoded from them is thrown away together with the file: it was refused when the key was found missing.

use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, SeqAccess, Visitor, value};

use super::decode::{AT, RAW};
use super::decode_error::Error;
use super::tree::Id;

/// Texts to try in turn: some type finds its own among them.
pub(super) const TEXTS: [&str; 8] = ["1s", "64KiB", "1/s", "/", "x-a", "127.0.0.1:1", "10.0.0.0/8", "1"];

/// A made-up value: one, true, empty, or a text of the list.
#[derive(Clone, Copy)]
pub(super) struct MadeUp {
    pub(super) text: usize,
}

impl MadeUp {
    fn text(self) -> &'static str {
        TEXTS.get(self.text).copied().unwrap_or_default()
    }
}

macro_rules! ones {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> { visitor.visit_u64(1) })*
    };
}

impl<'de> Deserializer<'de> for MadeUp {
    type Error = Error;

    ones! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.text())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(true)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        match name {
            AT => visitor.visit_seq(Placed { made_up: self, step: 0 }),
            RAW => visitor.visit_u64(u64::try_from(Id::FILLED.0).unwrap_or(u64::MAX)),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(value::SeqDeserializer::new(std::iter::empty::<u8>()))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(value::MapDeserializer::new(std::iter::empty::<(u8, u8)>()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(variants.first().copied().unwrap_or_default().into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Placed {
    made_up: MadeUp,
    step: u8,
}

impl<'de> SeqAccess<'de> for Placed {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.step += 1;
        match self.step {
            1 => seed.deserialize(Id::FILLED.0.into_deserializer()).map(Some),
            2 => seed.deserialize(self.made_up).map(Some),
            _ => Ok(None),
        }
    }
}
