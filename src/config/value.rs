//! One value of the tree, as serde asks for it.

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};

use super::decode::{AT, Decoder, RAW};
use super::decode_error::Error;
use super::made_up::MadeUp;
use super::tree::{Content, Id, Pair, Scalar};

/// A value of the tree on its way into a serde type.
#[derive(Clone, Copy)]
pub(super) struct Value<'a, 't> {
    decoder: &'a Decoder<'t>,
    id: Id,
}

impl<'a, 't> Value<'a, 't> {
    pub(super) fn new(decoder: &'a Decoder<'t>, id: Id) -> Self {
        Self { decoder, id }
    }

    fn content(self) -> Result<&'t Content, Error> {
        let node = self.decoder.tree.get(self.id);
        node.map(|node| &node.content).ok_or_else(|| Error::new("there is no such value", None))
    }

    fn watch<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        self.decoder.watch(self.id, result)
    }

    fn scalar(self, wanted: &str) -> Result<&'t Scalar, Error> {
        match self.content()? {
            Content::Scalar(scalar) if !is_null(scalar) => Ok(scalar),
            other => Err(Error::new(format!("expected {wanted}, found {}", name(other)), None)),
        }
    }

    fn is_null(self) -> bool {
        matches!(self.content(), Ok(Content::Scalar(scalar)) if is_null(scalar))
    }

    fn number<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = self.scalar("a number")?;
        // Text from the environment is usually quoted and may still be meant as a number.
        if !scalar.plain && scalar.env.is_empty() {
            return Err(Error::new("expected a number, found a text", Some("write it without quotes".to_owned())));
        }
        let text = scalar.text.as_str();
        if let Ok(number) = text.parse::<u64>() {
            visitor.visit_u64(number)
        } else if let Ok(number) = text.parse::<i64>() {
            visitor.visit_i64(number)
        } else if let Some(number) = float(text) {
            visitor.visit_f64(number)
        } else {
            Err(Error::new("expected a number, found a text", None))
        }
    }

    fn any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.content()? {
            Content::Seq(_) => self.seq(visitor),
            Content::Map(_) => self.map(visitor, None),
            Content::Scalar(scalar) if is_null(scalar) => visitor.visit_unit(),
            Content::Scalar(scalar) if !scalar.plain => visitor.visit_str(&scalar.text),
            Content::Scalar(scalar) => match truth(&scalar.text) {
                Some(truth) => visitor.visit_bool(truth),
                None if scalar.text.parse::<i128>().is_ok() || float(&scalar.text).is_some() => self.number(visitor),
                None => visitor.visit_str(&scalar.text),
            },
        }
    }

    fn bool<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = self.scalar("`true` or `false`")?;
        match truth(&scalar.text).filter(|_| scalar.plain || !scalar.env.is_empty()) {
            Some(truth) => visitor.visit_bool(truth),
            None => {
                let help = match scalar.text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" => Some("write `true`".to_owned()),
                    "no" | "off" | "n" => Some("write `false`".to_owned()),
                    _ => None,
                };
                Err(Error::new("expected `true` or `false`", help))
            }
        }
    }

    fn seq<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.content()? {
            Content::Seq(items) => visitor.visit_seq(Items { decoder: self.decoder, rest: items.iter() }),
            other => Err(Error::new(format!("expected a list, found {}", name(other)), None)),
        }
    }

    fn map<V: Visitor<'t>>(self, visitor: V, fields: Option<&'static [&'static str]>) -> Result<V::Value, Error> {
        match self.content()? {
            Content::Map(pairs) => visitor.visit_map(Pairs {
                decoder: self.decoder,
                id: self.id,
                rest: pairs.iter(),
                next: None,
                fields,
                filled: if fields.is_some() { self.decoder.filled(self.id) } else { Vec::new() },
                made_up: None,
            }),
            other => Err(Error::new(format!("expected keys and values, found {}", name(other)), None)),
        }
    }

    fn variant<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.content()? {
            Content::Map(pairs) if pairs.len() == 1 => visitor.visit_enum(Variant { value: self, pair: &pairs[0] }),
            Content::Map(_) => Err(Error::new("expected one key that says which variant is meant", None)),
            _ => visitor.visit_enum(self.scalar("a word")?.text.as_str().into_deserializer()),
        }
    }
}

fn is_null(scalar: &Scalar) -> bool {
    scalar.plain && scalar.env.is_empty() && matches!(scalar.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

fn float(text: &str) -> Option<f64> {
    let shape = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E'));
    if shape { text.parse().ok() } else { None }
}

fn name(content: &Content) -> &'static str {
    match content {
        Content::Scalar(scalar) if is_null(scalar) => "nothing",
        Content::Scalar(scalar) if scalar.plain && truth(&scalar.text).is_some() => "a truth value",
        Content::Scalar(scalar) if scalar.plain && float(&scalar.text).is_some() => "a number",
        Content::Scalar(_) => "a text",
        Content::Seq(_) => "a list",
        Content::Map(_) => "keys and values",
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
            self.watch(self.number(visitor))
        })*
    };
}

macro_rules! texts {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
            self.watch(self.scalar("a text").and_then(|scalar| visitor.visit_str(&scalar.text)))
        })*
    };
}

impl<'t> Deserializer<'t> for Value<'_, 't> {
    type Error = Error;

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    texts! { deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_identifier }

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.watch(self.any(visitor))
    }

    fn deserialize_bool<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.watch(self.bool(visitor))
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.watch(if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) })
    }

    fn deserialize_unit<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.watch(if self.is_null() { visitor.visit_unit() } else { Err(Error::new("expected nothing here", None)) })
    }

    fn deserialize_unit_struct<V: Visitor<'t>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.watch(match name {
            AT => visitor.visit_seq(Placed { value: self, step: 0 }),
            RAW => visitor.visit_u64(u64::try_from(self.id.0).unwrap_or(u64::MAX)),
            _ => visitor.visit_newtype_struct(self),
        })
    }

    fn deserialize_seq<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.watch(self.seq(visitor))
    }

    fn deserialize_tuple<V: Visitor<'t>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.watch(self.seq(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.watch(self.seq(visitor))
    }

    fn deserialize_map<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        self.watch(self.map(visitor, None))
    }

    fn deserialize_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.watch(self.map(visitor, Some(fields)))
    }

    fn deserialize_enum<V: Visitor<'t>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.watch(self.variant(visitor))
    }

    fn deserialize_ignored_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

struct Items<'a, 't> {
    decoder: &'a Decoder<'t>,
    rest: std::slice::Iter<'t, Id>,
}

impl<'t> SeqAccess<'t> for Items<'_, 't> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'t>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(&id) = self.rest.find(|id| !self.decoder.is_pruned(**id)) else { return Ok(None) };
        self.decoder.watch(id, seed.deserialize(Value::new(self.decoder, id))).map(Some)
    }
}

struct Pairs<'a, 't> {
    decoder: &'a Decoder<'t>,
    id: Id,
    rest: std::slice::Iter<'t, Pair>,
    next: Option<Id>,
    /// The keys there are, when serde says which.
    fields: Option<&'static [&'static str]>,
    /// Keys to make up behind those that are written.
    filled: Vec<(&'static str, usize)>,
    made_up: Option<(&'static str, usize)>,
}

impl<'t> MapAccess<'t> for Pairs<'_, 't> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'t>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        for pair in self.rest.by_ref() {
            if self.decoder.is_pruned(pair.value) {
                continue;
            }
            if let Some(fields) = self.fields.filter(|fields| !fields.contains(&pair.key.as_str())) {
                self.decoder.unknown_key(pair.value, &pair.key, fields);
                continue;
            }
            self.next = Some(pair.value);
            let key = de::value::StrDeserializer::new(&pair.key);
            return self.decoder.watch(pair.value, seed.deserialize(key)).map(Some);
        }
        self.made_up = self.filled.pop();
        let Some((field, _)) = self.made_up else { return Ok(None) };
        seed.deserialize(de::value::StrDeserializer::new(field)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'t>>(&mut self, seed: S) -> Result<S::Value, Error> {
        if let Some((field, text)) = self.made_up {
            // A failure here asks for the next made-up text, exactly as if the key were still missing.
            let value = seed.deserialize(MadeUp { text }).map_err(|error| Error { missing: Some(field), ..error });
            return self.decoder.watch(self.id, value);
        }
        let id = self.next.take().ok_or_else(|| Error::new("a value before its key", None))?;
        self.decoder.watch(id, seed.deserialize(Value::new(self.decoder, id)))
    }
}

/// The two halves of an [`super::placed::At`]: the place, then the value.
struct Placed<'a, 't> {
    value: Value<'a, 't>,
    step: u8,
}

impl<'t> SeqAccess<'t> for Placed<'_, 't> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'t>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.step += 1;
        match self.step {
            1 => seed.deserialize(self.value.id.0.into_deserializer()).map(Some),
            2 => self.value.watch(seed.deserialize(self.value)).map(Some),
            _ => Ok(None),
        }
    }
}

struct Variant<'a, 't> {
    value: Value<'a, 't>,
    pair: &'t Pair,
}

impl<'t> de::EnumAccess<'t> for Variant<'_, 't> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'t>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let key = seed.deserialize(de::value::StrDeserializer::<Error>::new(&self.pair.key));
        Ok((self.value.decoder.watch(self.pair.value, key)?, self))
    }
}

impl<'a, 't> Variant<'a, 't> {
    fn inner(&self) -> Value<'a, 't> {
        Value::new(self.value.decoder, self.pair.value)
    }
}

impl<'t> de::VariantAccess<'t> for Variant<'_, 't> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.value.watch(Err(Error::new("this word stands alone, without settings", None)))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'t>>(self, seed: T) -> Result<T::Value, Error> {
        let inner = self.inner();
        inner.watch(seed.deserialize(inner))
    }

    fn tuple_variant<V: Visitor<'t>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.inner().deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'t>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.inner().deserialize_struct("", fields, visitor)
    }
}
