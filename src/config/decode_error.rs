//! What serde says when a value does not fit, in words for people who write files.

use std::fmt;

use serde::de;

use super::suggest;

/// Why a value does not fit. Texts of values are never part of it.
#[derive(Debug, Default)]
pub(super) struct Error {
    pub(super) message: String,
    pub(super) help: Option<String>,
    /// Set when the problem is a key that is not there.
    pub(super) missing: Option<&'static str>,
}

impl Error {
    pub(super) fn new(message: impl Into<String>, help: Option<String>) -> Self {
        Self { message: message.into(), help, missing: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), None)
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {}", found(unexpected)), None)
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        match unexpected {
            de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) | de::Unexpected::Float(_) => {
                Self::new(format!("the number is out of range; expected {expected}"), None)
            }
            other => Self::new(format!("expected {expected}, found {}", found(other)), None),
        }
    }

    fn invalid_length(length: usize, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {expected}, found {length} of them"), None)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let known = suggest::list(expected.iter().copied());
        let help = suggest::nearest(variant, expected.iter().copied());
        Self::new(format!("`{variant}` is unknown here; expected {known}"), help)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown key `{field}`"), suggest::nearest_or_list(field, expected.iter().copied()))
    }

    fn missing_field(field: &'static str) -> Self {
        Self { message: format!("missing key `{field}`"), help: None, missing: Some(field) }
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("key `{field}` is written twice"), None)
    }
}

fn found(unexpected: de::Unexpected<'_>) -> &'static str {
    match unexpected {
        de::Unexpected::Bool(_) => "a truth value",
        de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) | de::Unexpected::Float(_) => "a number",
        de::Unexpected::Seq => "a list",
        de::Unexpected::Map => "a mapping",
        de::Unexpected::Unit | de::Unexpected::Option => "nothing",
        _ => "a text",
    }
}
