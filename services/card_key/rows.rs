//! Orders and the keys they hold, as rows; every function here runs inside one operation of the writer.
//!
//! What is decided on them is in `reserving` (before the payment) and `delivery` (after it).

use std::sync::Arc;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::allocator::{FreeList, Taken};
use super::catalogue::Product;
use super::policy::Pick;
use super::price::{Quote, from_json};
use super::refusal::Refusal;

/// State of a key; what they mean is in `schema`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Free,
    Reserved,
    Sold,
    Shared,
    Paused,
    Recycled,
}

impl State {
    /// All of them; the place is the number in the file.
    pub(super) const ALL: [Self; 6] =
        [Self::Free, Self::Reserved, Self::Sold, Self::Shared, Self::Paused, Self::Recycled];
}

impl ToSql for State {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok((*self as i64).into())
    }
}

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = usize::try_from(value.as_i64()?).map_err(|_| FromSqlError::InvalidType)?;
        Self::ALL.get(number).copied().ok_or(FromSqlError::InvalidType)
    }
}

/// State of an order in this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// It can be paid; [`Order::held`] says whether keys are set aside for it.
    Reserved,
    /// Given back by the order service.
    Released,
    /// Given back because the time was over.
    Expired,
    /// Paid, and waits for the seller to restock.
    Short,
    /// Paid, and waits for the seller to deliver by hand.
    Awaiting,
    /// Paid, cannot be delivered; somebody has to send the money back.
    RefundDue,
    /// The keys are the buyer's.
    Issued,
    /// The money went back.
    Refunded,
}

impl Status {
    const ALL: [Self; 8] = [
        Self::Reserved,
        Self::Released,
        Self::Expired,
        Self::Short,
        Self::Awaiting,
        Self::RefundDue,
        Self::Issued,
        Self::Refunded,
    ];

    /// Whether money has come in for it, even if it went back.
    pub(super) fn is_paid(self) -> bool {
        !matches!(self, Self::Reserved | Self::Released | Self::Expired)
    }

    /// The word in the file, which is the one in JSON too.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Short => "short",
            Self::Awaiting => "awaiting",
            Self::RefundDue => "refund_due",
            Self::Issued => "issued",
            Self::Refunded => "refunded",
        }
    }
}

impl ToSql for Status {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

impl FromSql for Status {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word = value.as_str()?;
        Self::ALL.into_iter().find(|status| status.as_str() == word).ok_or(FromSqlError::InvalidType)
    }
}

/// What an order wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Wanted {
    /// Number of the order, chosen by the order service; the idempotency key of everything here.
    pub(super) order_no: String,
    /// What it wants.
    pub(super) sku: String,
    /// How many, at least 1.
    pub(super) qty: u32,
}

/// What a buyer proves himself with, as it is stored.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets {
    /// Salt and hash; absent when the order has no password (its keys then cannot be queried).
    pub(super) password: Option<Vec<u8>>,
    /// By which the order is found with contact and password; absent without a contact.
    pub(super) lookup: Option<Vec<u8>>,
}

/// An order as stored.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) wanted: Wanted,
    pub(super) status: Status,
    /// Whether keys are set aside for it while it is reserved.
    pub(super) held: bool,
    pub(super) created_ms: i64,
    pub(super) expires_ms: i64,
    pub(super) secrets: Secrets,
    /// Who buys, for limits; absent: not said.
    pub(super) principal: Option<String>,
    pub(super) ip: Option<String>,
    /// What it costs, in minor units of the currency in `product`.
    pub(super) amount: i64,
    pub(super) coupon: Option<String>,
    /// The product as it was when it was ordered.
    pub(super) product: Value,
}

/// The product as an order remembers it.
pub(super) fn snapshot(product: &Product, quote: &Quote) -> Value {
    serde_json::json!({
        "name_zh": product.name_zh, "name_en": product.name_en, "description_zh": product.description_zh,
        "description_en": product.description_en, "unit_price": quote.unit_price, "currency": quote.currency,
    })
}

const COLUMNS: &str = "order_no, sku, qty, status, held, created_ms, expires_ms, password, lookup, principal, ip, \
                       amount, coupon, product";

fn order(row: &Row<'_>) -> rusqlite::Result<Order> {
    Ok(Order {
        wanted: Wanted { order_no: row.get(0)?, sku: row.get(1)?, qty: row.get(2)? },
        status: row.get(3)?,
        held: row.get(4)?,
        created_ms: row.get(5)?,
        expires_ms: row.get(6)?,
        secrets: Secrets { password: row.get(7)?, lookup: row.get(8)? },
        principal: row.get(9)?,
        ip: row.get(10)?,
        amount: row.get(11)?,
        coupon: row.get(12)?,
        product: from_json(row, 13)?,
    })
}

/// The order with this number, if there is one.
pub(super) fn find(connection: &Connection, order_no: &str) -> rusqlite::Result<Option<Order>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM orders WHERE order_no = ?1"))?
        .query_row([order_no], order)
        .optional()
}

/// The stored order, if it is the one that is wanted.
pub(super) fn find_same(connection: &Connection, wanted: &Wanted) -> Result<Option<Order>, Refusal> {
    let found = find(connection, &wanted.order_no)?;
    match &found {
        Some(old) if old.wanted != *wanted => Err(Refusal::Mismatch),
        _ => Ok(found),
    }
}

/// The newest orders with this contact and password.
pub(super) fn find_looked_up(connection: &Connection, lookup: &[u8], limit: u32) -> rusqlite::Result<Vec<Order>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM orders WHERE lookup = ?1 ORDER BY created_ms DESC, order_no LIMIT ?2"
        ))?
        .query_map(params![lookup, limit], order)?
        .collect()
}

/// A paid order that has not got its keys.
#[derive(Debug, Serialize)]
pub(super) struct Waiting {
    #[serde(flatten)]
    pub(super) wanted: Wanted,
    status: Status,
    paid_ms: i64,
}

/// Orders in this status that are paid and have no keys, those paid first at the front; `sku` absent means all.
pub(super) fn waiting(
    connection: &Connection,
    status: Status,
    sku: Option<&str>,
    limit: u32,
) -> rusqlite::Result<Vec<Waiting>> {
    connection
        .prepare_cached(
            "SELECT order_no, sku, qty, status, paid_ms FROM orders WHERE paid_ms IS NOT NULL AND issued_ms IS NULL
             AND status = ?1 AND (?2 IS NULL OR sku = ?2) ORDER BY paid_ms, order_no LIMIT ?3",
        )?
        .query_map(params![status, sku, limit], |row| {
            let wanted = Wanted { order_no: row.get(0)?, sku: row.get(1)?, qty: row.get(2)? };
            Ok(Waiting { wanted, status: row.get(3)?, paid_ms: row.get(4)? })
        })?
        .collect()
}

/// How many orders are paid and have no keys, by status.
pub(super) fn count_waiting(connection: &Connection) -> rusqlite::Result<Vec<(Status, i64)>> {
    connection
        .prepare_cached(
            "SELECT status, count(*) FROM orders WHERE paid_ms IS NOT NULL AND issued_ms IS NULL GROUP BY status",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Writes a new order.
pub(super) fn insert(connection: &Connection, order: &Order) -> rusqlite::Result<()> {
    let Order { wanted, secrets, .. } = order;
    connection
        .prepare_cached(&format!(
            "INSERT INTO orders ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
        ))?
        .execute(params![
            wanted.order_no,
            wanted.sku,
            wanted.qty,
            order.status,
            order.held,
            order.created_ms,
            order.expires_ms,
            secrets.password,
            secrets.lookup,
            order.principal,
            order.ip,
            order.amount,
            order.coupon,
            order.product.to_string(),
        ])?;
    Ok(())
}

/// Gives an unpaid order another status.
pub(super) fn set_unpaid(connection: &Connection, order_no: &str, status: Status) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE orders SET status = ?2 WHERE order_no = ?1")?
        .execute(params![order_no, status])?;
    Ok(())
}

/// Gives a paid order a status; it counts as paid, and as issued, from the first time on.
pub(super) fn set_paid(connection: &Connection, order_no: &str, status: Status, now_ms: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE orders SET status = ?2, paid_ms = coalesce(paid_ms, ?3),
             issued_ms = CASE ?2 WHEN 'issued' THEN coalesce(issued_ms, ?3) ELSE issued_ms END WHERE order_no = ?1",
        )?
        .execute(params![order_no, status, now_ms])?;
    Ok(())
}

/// Takes the wanted number of keys off the list and marks their rows reserved. Absent: there are not enough, and
/// nothing has changed.
pub(super) fn hold(
    connection: &Connection,
    list: &Arc<FreeList>,
    wanted: &Wanted,
    pick: Pick,
) -> Result<Option<Taken>, Refusal> {
    let mut taken = Taken::from(list);
    while taken.ids().len() < wanted.qty as usize {
        if list.take_into(&mut taken, pick).is_none() {
            free(connection, &wanted.order_no)?;
            return Ok(None);
        }
        mark(connection, &mut taken, wanted)?;
    }
    Ok(Some(taken))
}

/// The same with the keys the buyer has chosen.
///
/// # Errors
/// [`Refusal::KeyTaken`] when one of them is not free.
pub(super) fn hold_chosen(
    connection: &Connection,
    list: &Arc<FreeList>,
    wanted: &Wanted,
    chosen: &[i64],
) -> Result<Taken, Refusal> {
    let mut taken = Taken::from(list);
    for id in chosen {
        if !list.take_this(&mut taken, *id) {
            return Err(Refusal::KeyTaken);
        }
        mark(connection, &mut taken, wanted)?;
    }
    if taken.ids().len() != chosen.len() {
        return Err(Refusal::KeyTaken);
    }
    Ok(taken)
}

/// Marks the key taken last. The file is the truth: a listed key that is not free there is not offered again.
fn mark(connection: &Connection, taken: &mut Taken, wanted: &Wanted) -> Result<(), Refusal> {
    let Some(id) = taken.ids().last().copied() else { return Ok(()) };
    let marked = connection
        .prepare_cached("UPDATE keys SET state = 1, order_no = ?1 WHERE id = ?2 AND sku = ?3 AND state = 0")?
        .execute(params![wanted.order_no, id, wanted.sku])?;
    if marked != 1 {
        tracing::error!(id, sku = wanted.sku, "a key on the free list is not free");
        taken.discard_last();
    }
    Ok(())
}

/// Frees the reserved keys of an order; answers their ids.
pub(super) fn free(connection: &Connection, order_no: &str) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("UPDATE keys SET state = 0, order_no = NULL WHERE order_no = ?1 AND state = 1 RETURNING id")?
        .query_map([order_no], |row| row.get(0))?
        .collect()
}

/// A stored key as it lies in the file.
pub(super) struct Stored {
    /// The product it is sealed for.
    pub(super) sku: String,
    pub(super) fp: Vec<u8>,
    pub(super) sealed: Vec<u8>,
}

/// Everything issued to an order, in the order of import.
pub(super) fn issued(connection: &Connection, order_no: &str) -> rusqlite::Result<Vec<Stored>> {
    connection
        .prepare_cached(
            "SELECT k.sku, k.fp, k.sealed FROM keys k JOIN allocations a ON a.key_id = k.id WHERE k.order_no = ?1
             UNION ALL
             SELECT k.sku, k.fp, k.sealed FROM shared_allocations a JOIN keys k ON k.id = a.key_id WHERE a.order_no = ?1",
        )?
        .query_map([order_no], |row| Ok(Stored { sku: row.get(0)?, fp: row.get(1)?, sealed: row.get(2)? }))?
        .collect()
}
