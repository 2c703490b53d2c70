//! What is written down beside the orders: the announcements for other services, the events received from them, and
//! who of the sellers did what.
//!
//! * **Outbox.** Each effect of an order (delivered, short, ...) leaves a row in the transaction that has the effect.
//!   Others read them in order with a cursor, `GET /v1/events?after=`, as often as they like; nothing is forgotten by a
//!   crash on either side. A row holds no key.
//! * **Inbox.** A paid event is remembered with its outcome in the transaction that acts on it, so the same event sent
//!   again gets the same answer and does nothing.
//! * **Operations.** One row for each thing a seller did, in the transaction that did it. The table refuses changes.

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::price::from_json;

/// An announcement.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    /// Ascending; the cursor of a reader.
    id: i64,
    topic: String,
    order_no: String,
    sku: String,
    qty: u32,
    at_ms: i64,
}

/// Announces an effect on an order, once.
pub(super) fn announce(connection: &Connection, topic: &str, order_no: &str, now_ms: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO outbox (topic, order_no, at_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute(params![topic, order_no, now_ms])?;
    Ok(())
}

/// Announcements after id `after`, oldest first.
pub(super) fn events(connection: &Connection, after: i64, limit: u32) -> rusqlite::Result<Vec<Event>> {
    connection
        .prepare_cached(
            "SELECT b.id, b.topic, b.order_no, o.sku, o.qty, b.at_ms FROM outbox b JOIN orders o USING (order_no)
             WHERE b.id > ?1 ORDER BY b.id LIMIT ?2",
        )?
        .query_map(params![after, limit], |row| {
            Ok(Event {
                id: row.get(0)?,
                topic: row.get(1)?,
                order_no: row.get(2)?,
                sku: row.get(3)?,
                qty: row.get(4)?,
                at_ms: row.get(5)?,
            })
        })?
        .collect()
}

/// Digest of the content and outcome of an event that was received before.
pub(super) fn received(connection: &Connection, event_id: &str) -> rusqlite::Result<Option<(Vec<u8>, String)>> {
    connection
        .prepare_cached("SELECT digest, outcome FROM inbox WHERE event_id = ?1")?
        .query_row([event_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Remembers an event with its outcome.
pub(super) fn receive(
    connection: &Connection,
    event_id: &str,
    digest: &[u8],
    order_no: &str,
    outcome: &str,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO inbox VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![event_id, digest, order_no, outcome, now_ms])?;
    Ok(())
}

/// Who of the sellers does something, and why. Both are asked for: a log without them answers no question.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Sign {
    pub(super) operator: String,
    pub(super) reason: String,
}

/// One entry of the log.
#[derive(Debug, Serialize)]
pub(super) struct Operation {
    id: i64,
    at_ms: i64,
    operator: String,
    action: String,
    /// The order, batch or product it was done to.
    subject: String,
    reason: String,
    detail: Value,
}

/// Writes down what a seller does, in the transaction that does it.
pub(super) fn log(
    connection: &Connection,
    sign: &Sign,
    action: &str,
    subject: &str,
    detail: &Value,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO operations (at_ms, operator, action, subject, reason, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![now_ms, sign.operator, action, subject, sign.reason, detail.to_string()])?;
    Ok(())
}

/// Entries after id `after`, oldest first; `subject` absent means all.
pub(super) fn operations(
    connection: &Connection,
    subject: Option<&str>,
    after: i64,
    limit: u32,
) -> rusqlite::Result<Vec<Operation>> {
    connection
        .prepare_cached(
            "SELECT id, at_ms, operator, action, subject, reason, detail FROM operations
             WHERE id > ?2 AND (?1 IS NULL OR subject = ?1) ORDER BY id LIMIT ?3",
        )?
        .query_map(params![subject, after, limit], |row| {
            Ok(Operation {
                id: row.get(0)?,
                at_ms: row.get(1)?,
                operator: row.get(2)?,
                action: row.get(3)?,
                subject: row.get(4)?,
                reason: row.get(5)?,
                detail: from_json(row, 6)?,
            })
        })?
        .collect()
}
