//! The rows and the decisions on them; every function here runs inside one operation of the writer.
//!
//! Reservation, expiry, release and allocation of one order are decided by the state of its row, one after the other
//! in the writer's thread: an expiry that races with an allocation either comes first, then the allocation takes free
//! stock, or comes second and finds the order issued. The time is an argument.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use super::allocator::{FreeList, Taken};

/// What an order wants.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Number of the order, chosen by the order service; the idempotency key of everything here.
    pub(super) order_no: String,
    /// What it wants.
    pub(super) sku: String,
    /// How many, at least 1.
    pub(super) qty: u32,
}

/// State of an order in this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// Keys are held for it.
    Reserved,
    /// Given back by the order service.
    Released,
    /// Given back because the time was over.
    Expired,
    /// The keys are the buyer's.
    Issued,
}

/// An order as stored.
#[derive(Debug, Clone)]
pub(super) struct Reservation {
    pub(super) wanted: Wanted,
    pub(super) status: Status,
    pub(super) expires_ms: i64,
    /// Salt and hash; absent when the order has no password (its keys then cannot be queried).
    pub(super) password: Option<Vec<u8>>,
}

/// Why an operation did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("not enough free keys")]
    OutOfStock,
    #[error("the order number is known with another sku or quantity")]
    Mismatch,
    #[error("the keys of the order have been issued")]
    AlreadyAllocated,
    #[error("unknown sku")]
    UnknownSku,
    #[error("the key on line {0} is a duplicate")]
    Duplicate(u64),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// The order with this number, if there is one.
pub(super) fn find(connection: &Connection, order_no: &str) -> rusqlite::Result<Option<Reservation>> {
    connection
        .prepare_cached(
            "SELECT order_no, sku, qty, status, expires_ms, password FROM reservations WHERE order_no = ?1",
        )?
        .query_row([order_no], reservation)
        .optional()
}

fn reservation(row: &Row<'_>) -> rusqlite::Result<Reservation> {
    let status = match row.get_ref(3)?.as_str()? {
        "reserved" => Status::Reserved,
        "released" => Status::Released,
        "expired" => Status::Expired,
        // The table's CHECK leaves nothing else.
        _ => Status::Issued,
    };
    Ok(Reservation {
        wanted: Wanted { order_no: row.get(0)?, sku: row.get(1)?, qty: row.get(2)? },
        status,
        expires_ms: row.get(4)?,
        password: row.get(5)?,
    })
}

/// The stored order, if it is the one that is wanted.
fn find_same(connection: &Connection, wanted: &Wanted) -> Result<Option<Reservation>, Refusal> {
    let found = find(connection, &wanted.order_no)?;
    match &found {
        Some(old) if old.wanted.sku != wanted.sku || old.wanted.qty != wanted.qty => Err(Refusal::Mismatch),
        _ => Ok(found),
    }
}

/// Reserves keys, or finds that this was done before (then the second part is absent).
///
/// `password` is what is to be stored; `None` outside means that the caller saw no stock and asks only for an earlier
/// reservation.
pub(super) fn reserve(
    connection: &Connection,
    list: &Arc<FreeList>,
    wanted: &Wanted,
    expires_ms: i64,
    password: Option<Option<Vec<u8>>>,
) -> Result<(Reservation, Option<Taken>), Refusal> {
    if let Some(earlier) = find_same(connection, wanted)? {
        return Ok((earlier, None));
    }
    let password = password.ok_or(Refusal::OutOfStock)?;
    let fresh = Reservation { wanted: wanted.clone(), status: Status::Reserved, expires_ms, password };
    insert(connection, &fresh, "reserved")?;
    let taken = hold(connection, list, wanted)?;
    Ok((fresh, Some(taken)))
}

fn insert(connection: &Connection, order: &Reservation, status: &str) -> rusqlite::Result<()> {
    let Reservation { wanted, expires_ms, password, .. } = order;
    connection.prepare_cached("INSERT INTO reservations VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        wanted.order_no,
        wanted.sku,
        wanted.qty,
        status,
        expires_ms,
        password
    ])?;
    Ok(())
}

fn set_status(connection: &Connection, order_no: &str, status: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE reservations SET status = ?2 WHERE order_no = ?1")?
        .execute([order_no, status])?;
    Ok(())
}

/// Takes the wanted number of keys off the list and marks their rows reserved.
fn hold(connection: &Connection, list: &Arc<FreeList>, wanted: &Wanted) -> Result<Taken, Refusal> {
    let mut taken = Taken::from(list);
    let mut mark = connection
        .prepare_cached("UPDATE keys SET state = 1, order_no = ?1 WHERE id = ?2 AND sku = ?3 AND state = 0")?;
    while taken.ids().len() < wanted.qty as usize {
        let id = list.take_into(&mut taken).ok_or(Refusal::OutOfStock)?;
        if mark.execute(params![wanted.order_no, id, wanted.sku])? != 1 {
            // The file is the truth. A stale id must not be offered again.
            tracing::error!(id, sku = wanted.sku, "a key on the free list is not free");
            taken.discard_last();
        }
    }
    Ok(taken)
}

/// Gives the keys of a reserved order back; answers their ids. `status` is `released` or `expired`.
fn give_up(connection: &Connection, order_no: &str, status: &str) -> rusqlite::Result<Vec<i64>> {
    set_status(connection, order_no, status)?;
    connection
        .prepare_cached("UPDATE keys SET state = 0, order_no = NULL WHERE order_no = ?1 AND state = 1 RETURNING id")?
        .query_map([order_no], |row| row.get(0))?
        .collect()
}

/// Releases an order; answers the SKU and the ids that are free again. Nothing happens for an order that is unknown or
/// was given up before.
pub(super) fn release(connection: &Connection, order_no: &str) -> Result<Option<(String, Vec<i64>)>, Refusal> {
    match find(connection, order_no)? {
        Some(order) if order.status == Status::Issued => Err(Refusal::AlreadyAllocated),
        Some(order) if order.status == Status::Reserved => {
            Ok(Some((order.wanted.sku, give_up(connection, order_no, "released")?)))
        }
        _ => Ok(None),
    }
}

/// Gives up at most `limit` orders whose time was over at `now_ms`; answers SKU and freed ids of each.
pub(super) fn expire(connection: &Connection, now_ms: i64, limit: u32) -> rusqlite::Result<Vec<(String, Vec<i64>)>> {
    let due: Vec<(String, String)> = connection
        .prepare_cached(
            "SELECT order_no, sku FROM reservations WHERE status = 'reserved' AND expires_ms <= ?1
             ORDER BY expires_ms LIMIT ?2",
        )?
        .query_map(params![now_ms, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    due.into_iter().map(|(order_no, sku)| Ok((sku, give_up(connection, &order_no, "expired")?))).collect()
}

/// Issues the keys of an order exactly once. The first part says whether that happened now.
///
/// A reservation whose time is over but which nobody has given up yet still holds its keys: the buyer has paid, and
/// nobody else can have been promised them.
pub(super) fn allocate(
    connection: &Connection,
    list: &Arc<FreeList>,
    wanted: &Wanted,
    now_ms: i64,
) -> Result<(bool, Option<Taken>), Refusal> {
    let earlier = find_same(connection, wanted)?;
    let taken = match earlier.as_ref().map(|order| order.status) {
        Some(Status::Issued) => return Ok((false, None)),
        Some(Status::Reserved) => None,
        Some(Status::Released | Status::Expired) => Some(hold(connection, list, wanted)?),
        None => {
            let order =
                Reservation { wanted: wanted.clone(), status: Status::Issued, expires_ms: now_ms, password: None };
            insert(connection, &order, "reserved")?;
            Some(hold(connection, list, wanted)?)
        }
    };
    let issued = connection
        .prepare_cached("INSERT INTO allocations SELECT id, ?1, ?2 FROM keys WHERE order_no = ?1 AND state = 1")?
        .execute(params![wanted.order_no, now_ms])?;
    if issued != wanted.qty as usize {
        tracing::error!(order_no = wanted.order_no, issued, "a reservation does not hold the keys it says");
        return Err(Refusal::OutOfStock);
    }
    connection
        .prepare_cached("UPDATE keys SET state = 2 WHERE order_no = ?1 AND state = 1")?
        .execute([&wanted.order_no])?;
    set_status(connection, &wanted.order_no, "issued")?;
    Ok((true, taken))
}

/// Fingerprint and sealed key of everything issued to an order, in the order of import.
pub(super) fn issued(connection: &Connection, order_no: &str) -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    connection
        .prepare_cached(
            "SELECT k.fp, k.sealed FROM allocations a JOIN keys k ON k.id = a.key_id WHERE a.order_no = ?1 ORDER BY k.id",
        )?
        .query_map([order_no], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
