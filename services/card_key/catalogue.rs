//! Products and the keys put into them: the rows a seller writes.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::keyring::Sealed;
use super::policy::{Kind, Policy};
use super::price::{self, MAX_PRICE, Tier, from_json, to_json};
use super::refusal::Refusal;
use super::rows::State;

/// Most price tiers of a product.
const MAX_TIERS: usize = 20;

/// What is sold under one SKU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Product {
    /// 1 to 64 of `a-z`, `0-9`, `-`, `_`.
    pub(super) sku: String,
    pub(super) name_zh: String,
    pub(super) name_en: String,
    #[serde(default)]
    pub(super) description_zh: String,
    #[serde(default)]
    pub(super) description_en: String,
    /// Minor units of the currency (cents, 分), not negative.
    pub(super) price: i64,
    /// ISO 4217 code, for example `CNY`.
    pub(super) currency: String,
    /// Other prices for larger orders; none by default.
    #[serde(default)]
    pub(super) tiers: Vec<Tier>,
    #[serde(default)]
    pub(super) policy: Policy,
}

impl Product {
    /// # Errors
    /// Says which member makes no sense.
    pub(super) fn check(&self) -> Result<(), String> {
        let sound = |price: i64| (0..=MAX_PRICE).contains(&price);
        if !sound(self.price) || !sound(self.policy.surcharge) {
            return Err(format!("price and surcharge must be 0 to {MAX_PRICE}"));
        }
        if !price::is_currency(&self.currency) {
            return Err("currency must be three capital letters".to_owned());
        }
        let mut steps: Vec<u32> = self.tiers.iter().map(|tier| tier.min_qty).collect();
        steps.sort_unstable();
        steps.dedup();
        let tiers = self.tiers.iter().all(|tier| tier.min_qty > 0 && sound(tier.price));
        if !tiers || steps.len() != self.tiers.len() || steps.len() > MAX_TIERS {
            return Err(format!(
                "tiers must be at most {MAX_TIERS}, each with a min_qty of its own, at least 1, and a price"
            ));
        }
        self.policy.check()
    }

    /// The state in which keys of this product are on sale.
    pub(super) fn on_sale(&self) -> State {
        if self.policy.kind == Kind::Shared { State::Shared } else { State::Free }
    }
}

/// Adds a product or changes the one with this SKU.
pub(super) fn put(connection: &Connection, product: &Product) -> Result<(), Refusal> {
    let Product { sku, name_zh, name_en, description_zh, description_en, price, currency, tiers, policy } = product;
    let old = connection
        .query_row("SELECT policy FROM products WHERE sku = ?1", [sku], |row| from_json::<Policy>(row, 0))
        .optional()?;
    if old.is_some_and(|old| old.kind != policy.kind) && is_in_use(connection, sku)? {
        return Err(Refusal::KindFixed);
    }
    connection.execute(
        "INSERT INTO products VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (sku) DO UPDATE SET name_zh = ?2, name_en = ?3, description_zh = ?4, description_en = ?5,
         price = ?6, currency = ?7, tiers = ?8, policy = ?9",
        params![
            sku,
            name_zh,
            name_en,
            description_zh,
            description_en,
            price,
            currency,
            to_json(tiers),
            to_json(policy)
        ],
    )?;
    Ok(())
}

fn is_in_use(connection: &Connection, sku: &str) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM counts WHERE sku = ?1) OR EXISTS (SELECT 1 FROM orders WHERE sku = ?1)",
        [sku],
        |row| row.get(0),
    )
}

/// All products by SKU.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Product>> {
    let mut rows = connection.prepare(
        "SELECT sku, name_zh, name_en, description_zh, description_en, price, currency, tiers, policy
         FROM products ORDER BY sku",
    )?;
    let products = rows.query_map([], |row| {
        Ok(Product {
            sku: row.get(0)?,
            name_zh: row.get(1)?,
            name_en: row.get(2)?,
            description_zh: row.get(3)?,
            description_en: row.get(4)?,
            price: row.get(5)?,
            currency: row.get(6)?,
            tiers: from_json(row, 7)?,
            policy: from_json(row, 8)?,
        })
    })?;
    products.collect()
}

/// Calls `each` with SKU and id of every key that is on sale.
pub(super) fn on_sale(connection: &Connection, mut each: impl FnMut(&str, i64)) -> rusqlite::Result<()> {
    let mut rows = connection.prepare("SELECT sku, id FROM keys WHERE state IN (0, 3) ORDER BY id")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        each(row.get_ref(0)?.as_str()?, row.get(1)?);
    }
    Ok(())
}

/// What to do with a key that the shop has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Dedupe {
    /// The chunk it is in is not imported, and the import ends. Chunks before it stay imported.
    Reject,
    /// It is counted and left out.
    Skip,
}

/// Where keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Import,
    Generate,
    Move,
    ByHand,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::Import => "import",
            Self::Generate => "generate",
            Self::Move => "move",
            Self::ByHand => "by_hand",
        }
    }
}

/// A key on its way into the shop.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Number of its line, from 1.
    pub(super) line: u64,
    pub(super) key: Sealed,
    /// What a buyer sees of it before he chooses.
    pub(super) preview: Option<String>,
}

/// Where keys are put: product, name under which the seller finds them again, and where they come from.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    pub(super) sku: String,
    pub(super) batch: String,
    pub(super) source: Source,
    /// The state they get.
    pub(super) state: State,
}

/// What one chunk of an import did.
#[derive(Debug, Default)]
pub(super) struct Inserted {
    /// Ids of the new keys, ascending.
    pub(super) ids: Vec<i64>,
    /// Lines whose key was there already.
    pub(super) duplicates: Vec<u64>,
}

/// The batch of this name, made when there is none.
pub(super) fn batch(connection: &Connection, shelf: &Shelf, now_ms: i64) -> rusqlite::Result<i64> {
    let Shelf { sku, batch, source, .. } = shelf;
    let values = params![sku, batch, source.as_str()];
    let found = connection
        .prepare_cached("SELECT id FROM batches WHERE sku = ?1 AND name = ?2 AND source = ?3")?
        .query_row(values, |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    connection
        .prepare_cached("INSERT INTO batches (sku, name, source, created_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![sku, batch, source.as_str(), now_ms])?;
    Ok(connection.last_insert_rowid())
}

/// Counts keys put into a batch.
pub(super) fn count_made(connection: &Connection, batch: i64, n: usize) -> rusqlite::Result<()> {
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    connection.prepare_cached("UPDATE batches SET made = made + ?2 WHERE id = ?1")?.execute(params![batch, n])?;
    Ok(())
}

/// Inserts sealed keys.
pub(super) fn insert_keys(
    connection: &Connection,
    shelf: &Shelf,
    dedupe: Dedupe,
    keys: &[Incoming],
    now_ms: i64,
) -> Result<Inserted, Refusal> {
    let mut inserted = Inserted::default();
    let batch = batch(connection, shelf, now_ms)?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO keys (sku, batch_id, state, fp, sealed, preview) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (fp) DO NOTHING",
    )?;
    for Incoming { line, key, preview } in keys {
        if insert.execute(params![shelf.sku, batch, shelf.state, key.fp, key.sealed, preview])? == 1 {
            inserted.ids.push(connection.last_insert_rowid());
        } else if dedupe == Dedupe::Reject {
            return Err(Refusal::Duplicate(*line));
        } else {
            inserted.duplicates.push(*line);
        }
    }
    count_made(connection, batch, inserted.ids.len())?;
    Ok(inserted)
}

/// Free keys with a preview, those after id `after`.
pub(super) fn previews(
    connection: &Connection,
    sku: &str,
    after: i64,
    limit: u32,
) -> rusqlite::Result<Vec<(i64, String)>> {
    connection
        .prepare_cached(
            "SELECT id, preview FROM keys WHERE sku = ?1 AND state = 0 AND preview IS NOT NULL AND id > ?2
             ORDER BY id LIMIT ?3",
        )?
        .query_map(params![sku, after, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
