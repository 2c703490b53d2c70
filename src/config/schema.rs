//! The format as a JSON Schema, for editors and for `tidegate schema`.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use tidegate_filters::engine::{Kinds, Mode};

use super::file::{ConfigFile, FilterFile, FilterUse};

/// Describes the format, with these kinds of filters. JSON Schema, draft 2020-12.
#[must_use]
pub fn schema(kinds: &Kinds) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mode = generator.subschema_for::<Mode>();
    let mut variants = Vec::new();
    for (name, kind) in kinds.iter() {
        let settings = (kind.schema)(&mut generator);
        let mut properties = Map::new();
        properties.insert(name.to_owned(), settings.to_value());
        properties.insert("mode".to_owned(), mode.clone().to_value());
        variants.push(json!({
            "type": "object",
            "properties": properties,
            "required": [name],
            "additionalProperties": false
        }));
    }
    let mut root = generator.into_root_schema_for::<ConfigFile>().to_value();
    let filter = json!({
        "description": "A filter: one kind with its settings and, beside it, `mode`.",
        "oneOf": variants
    });
    if let Some(defs) = root.get_mut("$defs").and_then(Value::as_object_mut) {
        defs.insert(FilterFile::schema_name().into_owned(), filter);
    }
    root
}

impl JsonSchema for FilterFile {
    fn schema_name() -> Cow<'static, str> {
        "Filter".into()
    }

    /// Stands in until the kinds are known.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(true)
    }
}

impl JsonSchema for FilterUse {
    fn schema_name() -> Cow<'static, str> {
        "FilterUse".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A filter's name, or a filter written inline.",
            "anyOf": [{ "type": "string" }, generator.subschema_for::<FilterFile>()]
        })
    }
}
