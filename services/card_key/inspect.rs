//! Does everything add up: stock figures and the invariants, read from the rows and compared with the free lists.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use serde::Serialize;

use super::shop::Shop;
use crate::support::Problem;

/// The free list is changed a moment after the commit. Rows and list are compared this often before a difference
/// counts, with this pause.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// Keys of one SKU by state, from the rows; `allocator_free` is what the memory says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct StockReport {
    pub(super) sku: String,
    /// All keys ever imported.
    pub(super) imported: i64,
    pub(super) free: i64,
    pub(super) reserved: i64,
    pub(super) sold: i64,
    /// Length of the free list; equal to `free` except for the moment between a commit and its answer.
    pub(super) allocator_free: i64,
}

/// Reads the figures of one SKU, again and again while rows and list differ.
pub(super) async fn stock(shop: &Arc<Shop>, sku: &str) -> Result<StockReport, Problem> {
    shop.product(sku)?;
    let mut report = count(shop, sku).await?;
    for _ in 1..TRIES {
        if report.free == report.allocator_free {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        report = count(shop, sku).await?;
    }
    Ok(report)
}

async fn count(shop: &Arc<Shop>, sku: &str) -> Result<StockReport, Problem> {
    let wanted = sku.to_owned();
    let (imported, free, reserved, sold) = shop
        .store
        .read(move |connection| {
            connection.query_row(
                "SELECT count(*), coalesce(sum(state = 0), 0), coalesce(sum(state = 1), 0), coalesce(sum(state = 2), 0)
                 FROM keys WHERE sku = ?1",
                [wanted],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
        })
        .await?;
    let allocator_free = i64::try_from(shop.stock.of(sku).len()).unwrap_or(i64::MAX);
    Ok(StockReport { sku: sku.to_owned(), imported, free, reserved, sold, allocator_free })
}

/// Each query answers one line of text per violation.
const CHECKS: &[(&str, &str)] = &[
    (
        "oversold",
        "SELECT sku FROM keys GROUP BY sku HAVING sum(state = 1) + sum(state = 2) > count(*)
         OR sum(state = 0) + sum(state = 1) + sum(state = 2) <> count(*)",
    ),
    ("key in two orders", "SELECT key_id FROM allocations GROUP BY key_id HAVING count(*) > 1"),
    (
        "key sold without an allocation, or the other way round",
        "SELECT k.id FROM keys k LEFT JOIN allocations a ON a.key_id = k.id WHERE (k.state = 2) <> (a.key_id IS NOT NULL)",
    ),
    (
        "key allocated to another order than it is held by",
        "SELECT k.id FROM keys k JOIN allocations a ON a.key_id = k.id WHERE k.order_no IS NOT a.order_no",
    ),
    (
        "order without exactly its number of keys",
        "SELECT r.order_no FROM reservations r WHERE
         (SELECT count(*) FROM keys k WHERE k.order_no = r.order_no AND k.state = 1 AND k.sku = r.sku)
             <> CASE r.status WHEN 'reserved' THEN r.qty ELSE 0 END
         OR (SELECT count(*) FROM keys k WHERE k.order_no = r.order_no AND k.state = 2 AND k.sku = r.sku)
             <> CASE r.status WHEN 'issued' THEN r.qty ELSE 0 END",
    ),
];

/// Violations listed per check; one is bad enough.
const MAX_LISTED: usize = 20;

/// All violated invariants in words; empty when everything adds up.
pub(super) async fn violations(shop: &Arc<Shop>) -> Result<Vec<String>, Problem> {
    let mut found = shop.store.read(check_rows).await?;
    for product in shop.products() {
        let report = stock(shop, &product.sku).await?;
        if report.free != report.allocator_free {
            let StockReport { free, allocator_free, .. } = report;
            found.push(format!("free list differs: {}: {free} rows, {allocator_free} listed", product.sku));
        }
    }
    Ok(found)
}

/// The checks that need the rows only.
pub(super) fn check_rows(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    // One transaction, so that all checks see the same moment.
    let moment = connection.unchecked_transaction()?;
    let mut found = Vec::new();
    for (name, sql) in CHECKS {
        let mut rows = moment.prepare(sql)?;
        let mut rows = rows.query([])?;
        let mut listed = 0;
        while let Some(row) = rows.next()? {
            listed += 1;
            if listed > MAX_LISTED {
                break;
            }
            let what = match row.get_ref(0)? {
                rusqlite::types::ValueRef::Integer(id) => id.to_string(),
                other => other.as_str().unwrap_or("?").to_owned(),
            };
            found.push(format!("{name}: {what}"));
        }
    }
    Ok(found)
}
