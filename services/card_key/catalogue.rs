//! Products and the import of keys: the rows a seller writes.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::keyring::Sealed;
use super::rows::Refusal;

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
}

/// Adds a product or changes the one with this SKU.
pub(super) fn put(connection: &Connection, product: &Product) -> rusqlite::Result<()> {
    let Product { sku, name_zh, name_en, description_zh, description_en, price, currency } = product;
    connection.execute(
        "INSERT INTO products VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (sku) DO UPDATE SET name_zh = ?2, name_en = ?3, description_zh = ?4, description_en = ?5,
         price = ?6, currency = ?7",
        params![sku, name_zh, name_en, description_zh, description_en, price, currency],
    )?;
    Ok(())
}

/// All products by SKU.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Product>> {
    let mut rows = connection.prepare(
        "SELECT sku, name_zh, name_en, description_zh, description_en, price, currency FROM products ORDER BY sku",
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
        })
    })?;
    products.collect()
}

/// Ids of all free keys, oldest first, with their SKU.
pub(super) fn free_keys(connection: &Connection) -> rusqlite::Result<Vec<(String, i64)>> {
    connection
        .prepare("SELECT sku, id FROM keys WHERE state = 0 ORDER BY id")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// What to do with a key that the SKU has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Dedupe {
    /// The batch it is in is not imported, and the import ends. Batches before it stay imported.
    Reject,
    /// It is counted and left out.
    Skip,
}

/// What one batch of an import did.
#[derive(Debug, Default)]
pub(super) struct Inserted {
    /// Ids of the new keys, ascending.
    pub(super) ids: Vec<i64>,
    /// Lines whose key was there already.
    pub(super) duplicates: Vec<u64>,
}

/// Inserts sealed keys, each with the number of its line.
pub(super) fn insert_keys(
    connection: &Connection,
    sku: &str,
    batch: &str,
    dedupe: Dedupe,
    keys: &[(u64, Sealed)],
) -> Result<Inserted, Refusal> {
    let mut inserted = Inserted::default();
    let mut insert = connection.prepare_cached(
        "INSERT INTO keys (sku, batch, fp, sealed) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (fp) DO NOTHING",
    )?;
    for (line, key) in keys {
        if insert.execute(params![sku, batch, key.fp, key.sealed])? == 1 {
            inserted.ids.push(connection.last_insert_rowid());
        } else if dedupe == Dedupe::Reject {
            return Err(Refusal::Duplicate(*line));
        } else {
            inserted.duplicates.push(*line);
        }
    }
    Ok(inserted)
}
