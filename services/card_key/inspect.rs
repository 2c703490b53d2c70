//! Does everything add up: stock figures and the invariants, read from the rows and compared with the free lists.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use serde::Serialize;

use super::batches::Counts;
use super::shop::Shop;
use crate::support::Problem;
use crate::support::checks::{self, Check};

/// The free list is changed a moment after the commit. Rows and list are compared this often before a difference
/// counts, with this pause.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// Keys of one SKU by state, from the rows; `allocator_free` is what the memory says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct StockReport {
    pub(super) sku: String,
    /// All keys the product has, whatever became of them.
    pub(super) imported: i64,
    #[serde(flatten)]
    pub(super) counts: Counts,
    /// Length of the list of keys on sale; equal to `free` and `shared` together except for the moment between a commit
    /// and its answer.
    pub(super) allocator_free: i64,
}

impl StockReport {
    fn agrees(&self) -> bool {
        self.counts.free + self.counts.shared == self.allocator_free
    }
}

/// Reads the figures of one SKU, again and again while rows and list differ.
pub(super) async fn stock(shop: &Arc<Shop>, sku: &str) -> Result<StockReport, Problem> {
    shop.product(sku)?;
    let mut report = count(shop, sku).await?;
    for _ in 1..TRIES {
        if report.agrees() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        report = count(shop, sku).await?;
    }
    Ok(report)
}

async fn count(shop: &Arc<Shop>, sku: &str) -> Result<StockReport, Problem> {
    let wanted = sku.to_owned();
    let counts = shop.store.read(move |connection| counts_of(connection, &wanted)).await?;
    let allocator_free = i64::try_from(shop.stock.of(sku).len()).unwrap_or(i64::MAX);
    Ok(StockReport { sku: sku.to_owned(), imported: counts.total(), counts, allocator_free })
}

/// From the counted figures, not the rows: a look must not cost a scan of a million keys. That both agree is checked
/// with the invariants.
fn counts_of(connection: &Connection, sku: &str) -> rusqlite::Result<Counts> {
    let mut counts = Counts::default();
    let mut rows = connection.prepare_cached("SELECT state, sum(n) FROM counts WHERE sku = ?1 GROUP BY state")?;
    let mut rows = rows.query([sku])?;
    while let Some(row) = rows.next()? {
        counts.add(row.get(0)?, row.get(1)?);
    }
    Ok(counts)
}

/// The invariants, by their numbers: I1 nothing is sold that is not there, I2 who has paid is served, I3 a key is one
/// buyer's, I7 each effect once.
const CHECKS: &[Check] = &[
    (
        "I1: more keys in a batch than were put in",
        "SELECT b.id FROM batches b WHERE b.made < (SELECT count(*) FROM keys k WHERE k.batch_id = b.id)",
    ),
    (
        "I1: figures differ from the rows",
        "SELECT coalesce(k.sku, c.sku) || ' state ' || coalesce(k.state, c.state) FROM
         (SELECT sku, state, batch_id, count(*) AS n FROM keys GROUP BY sku, state, batch_id) k
         FULL JOIN (SELECT * FROM counts WHERE n > 0) c USING (sku, state, batch_id) WHERE k.n IS NOT c.n",
    ),
    (
        "I1: key in a batch of another product",
        "SELECT k.id FROM keys k JOIN batches b ON b.id = k.batch_id WHERE b.sku <> k.sku",
    ),
    ("I3: secret in the shop twice", "SELECT min(id) FROM keys GROUP BY fp HAVING count(*) > 1"),
    ("I3: key in two orders", "SELECT key_id FROM allocations GROUP BY key_id HAVING count(*) > 1"),
    (
        "I3: key sold without an allocation, or the other way round",
        "SELECT k.id FROM keys k LEFT JOIN allocations a ON a.key_id = k.id WHERE (k.state = 2) <> (a.key_id IS NOT NULL)",
    ),
    (
        "I3: key allocated to another order than it is held by",
        "SELECT k.id FROM keys k JOIN allocations a ON a.key_id = k.id WHERE k.order_no IS NOT a.order_no",
    ),
    (
        "I3: key shared that is not of a shared product, or free in one",
        "SELECT k.id FROM keys k JOIN products p USING (sku)
         WHERE CASE p.policy ->> 'kind' WHEN 'shared' THEN k.state IN (0, 1, 2) ELSE k.state = 3 END",
    ),
    (
        "I3: key of one order given to all",
        "SELECT s.key_id FROM shared_allocations s JOIN allocations a ON a.key_id = s.key_id",
    ),
    (
        "I3: order without exactly its number of keys",
        "SELECT o.order_no FROM orders o JOIN products p USING (sku) WHERE
         (SELECT count(*) FROM keys k WHERE k.order_no = o.order_no AND k.state = 1 AND k.sku = o.sku)
             <> CASE WHEN o.status = 'reserved' AND o.held THEN o.qty ELSE 0 END
         OR (SELECT count(*) FROM keys k WHERE k.order_no = o.order_no AND k.state = 2 AND k.sku = o.sku)
             <> CASE WHEN o.issued_ms IS NOT NULL AND p.policy ->> 'kind' <> 'shared' THEN o.qty ELSE 0 END
         OR (SELECT count(*) FROM shared_allocations s WHERE s.order_no = o.order_no)
             <> CASE WHEN o.issued_ms IS NOT NULL AND p.policy ->> 'kind' = 'shared' THEN 1 ELSE 0 END",
    ),
    (
        "I2: paid order of which nobody was told",
        "SELECT order_no FROM orders o WHERE paid_ms IS NOT NULL AND NOT EXISTS
         (SELECT 1 FROM outbox b WHERE b.order_no = o.order_no
          AND b.topic = CASE o.status WHEN 'issued' THEN 'delivered' ELSE o.status END)",
    ),
    (
        "I2: received event whose order is not paid",
        "SELECT i.event_id FROM inbox i JOIN orders o USING (order_no) WHERE o.paid_ms IS NULL",
    ),
    (
        "I7: coupon used another number of times than it says",
        "SELECT code FROM coupons c WHERE used <> (SELECT count(*) FROM orders WHERE coupon = c.code
         AND status NOT IN ('released', 'expired'))",
    ),
];

/// All violated invariants in words; empty when everything adds up.
pub(super) async fn violations(shop: &Arc<Shop>) -> Result<Vec<String>, Problem> {
    let mut found = shop.store.read(check_rows).await?;
    for report in stocks(shop).await?.into_iter().filter(|report| !report.agrees()) {
        let (rows, listed) = (report.counts.free + report.counts.shared, report.allocator_free);
        found.push(format!("I1: free list differs: {}: {rows} rows, {listed} listed", report.sku));
    }
    Ok(found)
}

/// The checks that need the rows only.
pub(crate) fn check_rows(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    checks::violations(connection, CHECKS, 0)
}

/// The figures of all products.
pub(super) async fn stocks(shop: &Arc<Shop>) -> Result<Vec<StockReport>, Problem> {
    let mut all = Vec::new();
    for product in shop.products() {
        all.push(stock(shop, &product.sku).await?);
    }
    Ok(all)
}
