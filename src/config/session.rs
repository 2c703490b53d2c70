//! `session_duration`: a time with its unit, or minutes as other products count them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use tidegate_filters::engine::TimeSpan;

/// A length of a visit: with a unit, or a bare number of minutes.
#[derive(Clone, Copy)]
pub(super) struct SessionFile(pub(super) Duration);

impl<'de> Deserialize<'de> for SessionFile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Session;
        impl Visitor<'_> for Session {
            type Value = SessionFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like `5m`, or a number of minutes")
            }

            fn visit_u64<E: de::Error>(self, minutes: u64) -> Result<SessionFile, E> {
                Ok(SessionFile(Duration::from_secs(minutes.saturating_mul(60))))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SessionFile, E> {
                match text.parse() {
                    Ok(minutes) => self.visit_u64(minutes),
                    Err(_) => text.parse().map(|TimeSpan(span)| SessionFile(span)).map_err(E::custom),
                }
            }
        }
        from.deserialize_any(Session)
    }
}

impl JsonSchema for SessionFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Session".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<TimeSpan>(), { "type": "integer", "minimum": 1 }] })
    }
}
