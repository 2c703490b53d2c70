//! Units as they stand in files: durations and sizes need a unit, rates read `100/10m`.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Nanoseconds since the process began: monotonic, and meaningless in any other process. Lasts 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Nanos) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment plus `span`, at most the end of time.
    #[must_use]
    pub fn after(self, span: Duration) -> Nanos {
        Nanos(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Why a text is no duration, size or rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError(Cow<'static, str>);

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UnitError {}

/// A span of time, written with a unit: `100ms`, `30s`, `10m`, `2h`, `1d`, or combined as `1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(pub Duration);

impl FromStr for TimeSpan {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(UnitError("a duration is empty; write it like `30s`".into()));
        }
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (number, behind) = rest.split_at(digits);
            let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
            let (unit, next) = behind.split_at(letters);
            total = part(text, number, unit).and_then(|span| total.checked_add(span).ok_or_else(|| too_large(text)))?;
            rest = next;
        }
        Ok(Self(total))
    }
}

fn part(text: &str, number: &str, unit: &str) -> Result<Duration, UnitError> {
    let count: u64 = number.parse().map_err(|_| {
        UnitError(format!("`{text}` is no duration; write a whole number and a unit, like `30s`").into())
    })?;
    let milliseconds: u64 = match unit {
        "us" => return Ok(Duration::from_micros(count)),
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(UnitError(format!("`{text}` has no unit; did you mean `{text}s` or `{text}ms`?").into())),
        other => {
            let message = format!("`{other}` is no unit of time; use one of us, ms, s, m, h, d");
            return Err(UnitError(message.into()));
        }
    };
    count.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(|| too_large(text))
}

fn too_large(text: &str) -> UnitError {
    UnitError(format!("`{text}` is too large").into())
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        for (unit, size) in [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000)] {
            if micros >= size && micros.is_multiple_of(size) {
                return write!(f, "{}{unit}", micros / size);
            }
        }
        if micros.is_multiple_of(1_000) { write!(f, "{}ms", micros / 1_000) } else { write!(f, "{micros}us") }
    }
}

/// A number of bytes, written with a unit: `64KiB`, `1MiB`, `10MB`, or a bare `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let count: u64 = number.parse().map_err(|_| {
            UnitError(format!("`{text}` is no size; write a whole number and a unit, like `64KiB`").into())
        })?;
        let factor: u64 = match unit.trim() {
            "" if count == 0 => 1,
            "" => {
                return Err(UnitError(format!("`{text}` has no unit; did you mean `{text}KiB` or `{text}B`?").into()));
            }
            "B" => 1,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            other => {
                let message = format!("`{other}` is no unit of size; use one of B, KiB, MiB, GiB, kB, MB, GB");
                return Err(UnitError(message.into()));
            }
        };
        count.checked_mul(factor).map(Self).ok_or_else(|| too_large(text))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// So many in such a time: `100/s`, `1000/m`, `100/10m`. The count is also the burst unless one is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In what time; never zero.
    pub per: Duration,
}

impl Rate {
    /// The time one unit takes to come back.
    #[must_use]
    pub fn interval(self) -> Duration {
        self.per / self.count.get()
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad =
            || UnitError(format!("`{text}` is no rate; write a count and a time, like `100/s` or `100/10m`").into());
        let (count, per) = text.trim().split_once('/').ok_or_else(bad)?;
        let count: u32 = count.trim().parse().map_err(|_| bad())?;
        let count = NonZeroU32::new(count).ok_or_else(|| {
            UnitError("a rate of zero lets nothing pass; leave the route out or use `mode: off`".into())
        })?;
        let per = per.trim();
        let one_unit = !per.starts_with(|c: char| c.is_ascii_digit());
        let TimeSpan(per) = if one_unit { format!("1{per}").parse()? } else { per.parse()? };
        if per.is_zero() {
            return Err(bad());
        }
        if (per / count.get()).is_zero() {
            return Err(UnitError(format!("`{text}` is more than one a nanosecond").into()));
        }
        Ok(Self { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = TimeSpan(self.per).to_string();
        write!(f, "{}/{}", self.count, per.strip_prefix('1').filter(|unit| unit.len() == 1).unwrap_or(&per))
    }
}

macro_rules! from_text {
    ($type:ty, $name:literal, $example:literal, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "examples": [$example] })
            }
        }
    };
}

from_text!(TimeSpan, "Duration", "30s", r"^([0-9]+(us|ms|s|m|min|h|d))+$");
from_text!(ByteSize, "Size", "64KiB", r"^[0-9]+ ?(B|kB|KB|MB|GB|KiB|MiB|GiB)$");
from_text!(Rate, "Rate", "100/10m", r"^[0-9]+/[0-9]*(us|ms|s|m|min|h|d)$");
