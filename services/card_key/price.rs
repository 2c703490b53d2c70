//! What an order costs.
//!
//! All amounts are integers in minor units. The price of one is that of the highest tier the quantity reaches. A coupon
//! takes its discount off the goods, not off the surcharge for choosing. A percentage is counted in basis points (1 % =
//! 100) and **rounded down to a whole minor unit, once, over the whole sum**: 12.5 % off 999 is 124, not 125, and not
//! the sum of three rounded discounts. A fixed discount is never larger than the goods cost. Nothing here can overflow:
//! prices are at most [`MAX_PRICE`] and quantities at most 1,000.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::catalogue::Product;
use super::refusal::Refusal;

/// Highest price of one key, in minor units.
pub(super) const MAX_PRICE: i64 = 100_000_000_000;

/// Basis points of the whole.
const WHOLE: i64 = 10_000;

/// Price of one key in orders of at least so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tier {
    pub(super) min_qty: u32,
    /// Minor units.
    pub(super) price: i64,
}

/// What a coupon takes off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Discount {
    /// So many minor units of this currency.
    Fixed { amount: i64, currency: String },
    /// So many basis points, 1 to 10,000.
    Percent { basis_points: u32 },
}

/// When and for what a coupon counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    #[serde(flatten)]
    pub(super) discount: Discount,
    /// The only product it counts for; absent: all.
    pub(super) sku: Option<String>,
    /// Counts from this moment on; absent: always.
    pub(super) starts_ms: Option<i64>,
    /// Counts until before this moment; absent: for ever.
    pub(super) expires_ms: Option<i64>,
    /// The goods must cost at least this much, in minor units.
    #[serde(default)]
    pub(super) min_goods: i64,
}

/// A coupon as a seller writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Coupon {
    /// What the buyer types; letters, digits, `-` and `_`.
    pub(super) code: String,
    #[serde(flatten)]
    pub(super) terms: Terms,
    /// Orders that may use it; absent: any number.
    pub(super) max_uses: Option<u32>,
}

/// What an order costs and why. All amounts in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Quote {
    pub(super) sku: String,
    pub(super) qty: u32,
    pub(super) unit_price: i64,
    /// `unit_price` times `qty`.
    pub(super) goods: i64,
    /// For choosing, all chosen keys together.
    pub(super) surcharge: i64,
    pub(super) discount: i64,
    /// What is to be paid.
    pub(super) total: i64,
    pub(super) currency: String,
}

/// Counts what `qty` keys cost, `chosen` of them chosen.
///
/// # Errors
/// [`Refusal::Coupon`] when the coupon does not count for this order.
pub(super) fn quote(
    product: &Product,
    qty: u32,
    chosen: usize,
    coupon: Option<&Terms>,
    now_ms: i64,
) -> Result<Quote, Refusal> {
    let reached = product.tiers.iter().filter(|tier| tier.min_qty <= qty).max_by_key(|tier| tier.min_qty);
    let unit_price = reached.map_or(product.price, |tier| tier.price);
    let goods = unit_price * i64::from(qty);
    // No more keys can be chosen than there are in the order.
    let surcharge = product.policy.surcharge * i64::from(u32::try_from(chosen).unwrap_or(qty).min(qty));
    let discount = coupon.map_or(Ok(0), |terms| discount(product, goods, terms, now_ms))?;
    Ok(Quote {
        sku: product.sku.clone(),
        qty,
        unit_price,
        goods,
        surcharge,
        discount,
        total: goods + surcharge - discount,
        currency: product.currency.clone(),
    })
}

fn discount(product: &Product, goods: i64, terms: &Terms, now_ms: i64) -> Result<i64, Refusal> {
    let rules = [
        (terms.sku.as_ref().is_none_or(|sku| *sku == product.sku), "it is for another product"),
        (terms.starts_ms.is_none_or(|from| from <= now_ms), "it does not count yet"),
        (terms.expires_ms.is_none_or(|until| now_ms < until), "it has expired"),
        (goods >= terms.min_goods, "the order is too small"),
    ];
    if let Some((_, why)) = rules.iter().find(|(holds, _)| !holds) {
        return Err(Refusal::Coupon(why));
    }
    match &terms.discount {
        Discount::Fixed { currency, .. } if *currency != product.currency => {
            Err(Refusal::Coupon("it is in another currency"))
        }
        Discount::Fixed { amount, .. } => Ok(goods.min(*amount)),
        Discount::Percent { basis_points } => Ok(goods * i64::from(*basis_points) / WHOLE),
    }
}

impl Coupon {
    /// # Errors
    /// Says which member makes no sense.
    pub(super) fn check(&self) -> Result<(), String> {
        let sound = match &self.terms.discount {
            Discount::Fixed { amount, currency } => (1..=MAX_PRICE).contains(amount) && is_currency(currency),
            Discount::Percent { basis_points } => (1..=10_000).contains(basis_points),
        };
        let rules = [
            (sound, "fixed needs an amount in minor units and a currency, percent needs basis_points of 1 to 10000"),
            (self.max_uses != Some(0), "max_uses must be at least 1"),
            (self.terms.min_goods >= 0, "min_goods must not be negative"),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err((*why).to_owned()))
    }
}

/// Whether this looks like an ISO 4217 code.
pub(super) fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Adds a coupon or changes its terms; the uses so far stay.
pub(super) fn put(connection: &Connection, coupon: &Coupon) -> Result<(), Refusal> {
    connection.execute(
        "INSERT INTO coupons (code, terms, max_uses) VALUES (?1, ?2, ?3)
         ON CONFLICT (code) DO UPDATE SET terms = ?2, max_uses = ?3",
        params![coupon.code, to_json(&coupon.terms), coupon.max_uses],
    )?;
    Ok(())
}

/// All coupons with their uses, as a seller sees them.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<(Coupon, u32)>> {
    let mut rows = connection.prepare("SELECT code, terms, max_uses, used FROM coupons ORDER BY code")?;
    let rows = rows.query_map([], |row| {
        Ok((Coupon { code: row.get(0)?, terms: from_json(row, 1)?, max_uses: row.get(2)? }, row.get(3)?))
    })?;
    rows.collect()
}

/// The terms of a coupon that has uses left.
pub(super) fn terms(connection: &Connection, code: &str) -> Result<Terms, Refusal> {
    let found = connection
        .prepare_cached("SELECT terms, max_uses IS NULL OR used < max_uses FROM coupons WHERE code = ?1")?
        .query_row([code], |row| Ok((from_json(row, 0)?, row.get(1)?)))
        .optional()?;
    match found {
        None => Err(Refusal::Coupon("there is no such coupon")),
        Some((_, false)) => Err(Refusal::Coupon("it has been used up")),
        Some((terms, true)) => Ok(terms),
    }
}

/// Counts one use more, or one less when an order that was not paid is given up.
pub(super) fn count_use(connection: &Connection, code: &str, by: i32) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE coupons SET used = used + ?2 WHERE code = ?1")?.execute(params![code, by])?;
    Ok(())
}

/// For a column; the types that are stored as JSON have no part that JSON cannot say.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("invariant: plain structs are JSON")
}

/// From a column.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error)))
}
