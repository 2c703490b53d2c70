//! Serde wrappers that keep a value's place.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::decode::{AT, RAW};
use super::tree::Id;

/// A value and where it stands. [`Id::ABSENT`] for a default.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<T> {
    pub(super) at: Id,
    pub(super) value: T,
}

impl<T> From<T> for At<T> {
    fn from(value: T) -> Self {
        Self { at: Id::ABSENT, value }
    }
}

impl<T: Default> Default for At<T> {
    fn default() -> Self {
        T::default().into()
    }
}

impl<T> At<T> {
    /// Its place, or that of what holds it when it is a default.
    pub(super) fn or(&self, holder: Id) -> Id {
        if self.at == Id::ABSENT { holder } else { self.at }
    }
}

struct AtVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
    type Value = At<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with its place")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<At<T>, A::Error> {
        let nothing = || A::Error::custom("expected a value");
        let at = Id(access.next_element()?.ok_or_else(nothing)?);
        let value = access.next_element()?.ok_or_else(nothing)?;
        Ok(At { at, value })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_newtype_struct(AT, AtVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// The place of a value that is looked at later; `T` is how it is described.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<T> {
    pub(super) at: Id,
    kind: PhantomData<T>,
}

impl<'de, T> Deserialize<'de> for Raw<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct RawVisitor;
        impl Visitor<'_> for RawVisitor {
            type Value = usize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_u64<E: serde::de::Error>(self, at: u64) -> Result<usize, E> {
                usize::try_from(at).map_err(E::custom)
            }
        }
        let at = Id(from.deserialize_newtype_struct(RAW, RawVisitor)?);
        Ok(Self { at, kind: PhantomData })
    }
}

impl<T: JsonSchema> JsonSchema for Raw<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Named things in file order.
#[derive(Clone, Debug)]
pub(super) struct Named<T>(pub(super) Vec<(String, At<T>)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = Named<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names with what they stand for")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Named<T>, A::Error> {
        let mut named = Vec::new();
        while let Some(pair) = access.next_entry()? {
            named.push(pair);
        }
        Ok(Named(named))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(NamedVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}
