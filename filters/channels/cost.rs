//! What a payment costs on a channel: `0.6%`, `0.6% + 10`, or `10`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// A share of the amount and a fixed part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Share in basis points (hundredths of a percent), 0 to 10,000.
    pub basis_points: u16,
    /// Fixed part in minor units.
    pub fixed: u32,
}

impl Cost {
    /// What a payment of `amount` minor units costs, in millionths of a minor unit so that nothing is rounded.
    /// A payment of an unknown amount counts as 10,000 minor units.
    #[must_use]
    pub fn of(self, amount: Option<i64>) -> u128 {
        let amount = u128::try_from(amount.unwrap_or(10_000)).unwrap_or(0);
        amount * u128::from(self.basis_points) * 100 + u128::from(self.fixed) * 1_000_000
    }
}

impl FromStr for Cost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{text}` is no cost; write a share with at most two decimals, as in `0.6%`, a fixed part in minor units, as in `10`, or both, as in `0.6% + 10`"
            )
        };
        let (share, fixed) = match text.split_once('+') {
            Some((share, fixed)) => (Some(share.trim()), Some(fixed.trim())),
            None if text.contains('%') => (Some(text.trim()), None),
            None => (None, Some(text.trim())),
        };
        let basis_points = share.map_or(Some(0), |share| hundredths(share.strip_suffix('%')?.trim_end()));
        let fixed = fixed.map_or(Some(0), digits);
        let cost = basis_points.zip(fixed).ok_or_else(bad)?;
        let basis_points = u16::try_from(cost.0).ok().filter(|points| *points <= 10_000);
        Ok(Self {
            basis_points: basis_points.ok_or_else(|| format!("`{text}` is more than everything"))?,
            fixed: cost.1,
        })
    }
}

fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `0.6` as 60.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let part = match part.len() {
        1 => digits(part)? * 10,
        2 => digits(part)?,
        _ => return None,
    };
    digits(whole)?.checked_mul(100)?.checked_add(part)
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}% + {}", self.basis_points / 100, self.basis_points % 100, self.fixed)
    }
}

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Cost {
    fn schema_name() -> Cow<'static, str> {
        "Cost".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^([0-9]+(\.[0-9]{1,2})? ?%( ?\+ ?[0-9]+)?|[0-9]+)$",
            "examples": ["0.6%", "0.6% + 10"]
        })
    }
}
