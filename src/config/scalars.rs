//! Scalars of the format that serde alone does not read: networks, thread counts.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::file_server::{NetFile, ThreadsFile};
use super::types::StatusRange;

impl<'de> Deserialize<'de> for NetFile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let net = net.map_err(|_| de::Error::custom("not a network; write it like `10.0.0.0/8` or `::1`"))?;
        Ok(Self(net.trunc()))
    }
}

impl<'de> Deserialize<'de> for ThreadsFile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Threads;
        impl Visitor<'_> for Threads {
            type Value = ThreadsFile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto` or a number")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<ThreadsFile, E> {
                Ok(ThreadsFile::Count(count))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ThreadsFile, E> {
                match text {
                    "auto" => Ok(ThreadsFile::Auto),
                    other => match other.parse() {
                        Ok(count) => Ok(ThreadsFile::Count(count)),
                        Err(_) => Err(E::custom("expected `auto` or a number")),
                    },
                }
            }
        }
        from.deserialize_any(Threads)
    }
}

impl JsonSchema for ThreadsFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Threads".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "oneOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }] })
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Statuses;
        impl Visitor<'_> for Statuses {
            type Value = StatusRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status, or two with `..` between them")
            }

            fn visit_u64<E: de::Error>(self, status: u64) -> Result<StatusRange, E> {
                self.visit_str(&status.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<StatusRange, E> {
                let (from, to) = text.split_once("..").unwrap_or((text, text));
                let status = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
                match (status(from), status(to)) {
                    (Some(from), Some(to)) if from <= to => Ok(StatusRange { from, to }),
                    _ => Err(E::custom("expected a status from 100 to 599, or two as in `200..299`")),
                }
            }
        }
        from.deserialize_any(Statuses)
    }
}

impl JsonSchema for StatusRange {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": r"^[1-5][0-9]{2}(\.\.[1-5][0-9]{2})?$" }
            ]
        })
    }
}
