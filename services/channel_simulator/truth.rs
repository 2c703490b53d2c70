//! What money really did: the ledger that everybody else's books are measured by.

use bytes::Bytes;
use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::course::Seen;
use super::rows::Payment;

/// One movement of money, or one that was declined.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Entry {
    /// Grows with time; a reset begins again at 1.
    pub(super) seq: i64,
    kind: String,
    payment_no: String,
    trade_no: String,
    /// What the shop called the request that created the payment.
    idempotency_key: String,
    amount: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_no: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    at_ms: i64,
    /// The idempotency key of the call that moved the money; absent when nobody called.
    #[serde(skip_serializing_if = "Option::is_none")]
    received_key: Option<String>,
    /// Its connection, counted since the start, and the bytes read from that until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_read: Option<i64>,
}

/// An entry to be made.
pub(super) struct Movement<'a> {
    pub(super) kind: &'static str,
    pub(super) payment_no: &'a str,
    pub(super) amount: i64,
    pub(super) refund_no: Option<&'a str>,
    pub(super) code: Option<&'a str>,
}

/// Adds an entry.
pub(super) fn record(connection: &Connection, entry: &Movement<'_>, seen: &Seen, now_ms: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO ledger (kind, payment_no, amount, refund_no, code, at_ms, received_key, connection,
        bytes_read) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    connection.prepare_cached(sql)?.execute(params![
        entry.kind,
        entry.payment_no,
        entry.amount,
        entry.refund_no,
        entry.code,
        now_ms,
        seen.key,
        seen.connection,
        seen.bytes_read,
    ])?;
    Ok(())
}

const COLUMNS: &str =
    "SELECT l.seq, l.kind, l.payment_no, p.trade_no, p.idempotency_key, l.amount, l.refund_no, l.code,
    l.at_ms, l.received_key, l.connection, l.bytes_read FROM ledger l JOIN payments p USING (payment_no)";

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        seq: row.get(0)?,
        kind: row.get(1)?,
        payment_no: row.get(2)?,
        trade_no: row.get(3)?,
        idempotency_key: row.get(4)?,
        amount: row.get(5)?,
        refund_no: row.get(6)?,
        code: row.get(7)?,
        at_ms: row.get(8)?,
        received_key: row.get(9)?,
        connection: row.get(10)?,
        bytes_read: row.get(11)?,
    })
}

/// The newest entry's number, 0 when there is none.
pub(super) fn last_seq(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT ifnull(max(seq), 0) FROM ledger", [], |row| row.get(0))
}

/// The next entries after `after` up to and with `last`.
pub(super) fn page(connection: &Connection, after: i64, last: i64, most: u32) -> rusqlite::Result<Vec<Entry>> {
    let sql = format!("{COLUMNS} WHERE l.seq > ?1 AND l.seq <= ?2 ORDER BY l.seq LIMIT ?3");
    connection.prepare_cached(&sql)?.query_map(params![after, last, most], entry)?.collect()
}

/// All entries of a payment.
pub(super) fn of_payment(connection: &Connection, payment_no: &str) -> rusqlite::Result<Vec<Entry>> {
    let sql = format!("{COLUMNS} WHERE l.payment_no = ?1 ORDER BY l.seq");
    connection.prepare_cached(&sql)?.query_map([payment_no], entry)?.collect()
}

/// Entries as JSON, one a line.
pub(super) fn lines(entries: &[Entry]) -> serde_json::Result<Bytes> {
    let mut text = Vec::with_capacity(entries.len() * 256);
    for entry in entries {
        serde_json::to_writer(&mut text, entry)?;
        text.push(b'\n');
    }
    Ok(text.into())
}

/// A payment's story, with the two figures that matter: how often it was charged, and what is left of that.
pub(super) fn told(payment: &Payment, entries: &[Entry]) -> Value {
    let sum = |kind: &str| -> i64 { entries.iter().filter(|one| one.kind == kind).map(|one| one.amount).sum() };
    let charges = entries.iter().filter(|one| one.kind == "charge").count();
    json!({
        "payment_no": payment.wanted.payment_no, "status": payment.shown(), "charges": charges,
        "charged": sum("charge"), "refunded": sum("refund"), "net": sum("charge") - sum("refund"), "entries": entries,
    })
}

/// Numbers and sums of everything.
pub(super) fn summary(connection: &Connection) -> rusqlite::Result<Value> {
    let mut kinds = Map::new();
    for kind in ["charge", "decline", "refund"] {
        kinds.insert(kind.to_owned(), json!({ "count": 0, "amount": 0 }));
    }
    let sql = "SELECT kind, count(*), sum(amount) FROM ledger GROUP BY kind";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (count, amount): (i64, i64) = (row.get(1)?, row.get(2)?);
        kinds.insert(row.get(0)?, json!({ "count": count, "amount": amount }));
    }
    let amount = |kind: &str| kinds[kind]["amount"].as_i64().unwrap_or(0);
    let net = amount("charge") - amount("refund");
    let payments = counted(connection, "SELECT status, count(*) FROM payments GROUP BY status")?;
    Ok(json!({ "payments": payments, "ledger": kinds, "net": net, "last_seq": last_seq(connection)? }))
}

/// How many callbacks there are in each state.
pub(super) fn callbacks(connection: &Connection) -> rusqlite::Result<Value> {
    let sql = "SELECT state, count(*) FROM callbacks GROUP BY state";
    Ok(Value::Object(counted(connection, sql)?))
}

fn counted(connection: &Connection, sql: &str) -> rusqlite::Result<Map<String, Value>> {
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, Value::from(row.get::<_, i64>(1)?)));
    connection.prepare_cached(sql)?.query_map([], row)?.collect()
}

/// Deletes everything; answers how many payments that were.
pub(super) fn reset(connection: &Connection) -> rusqlite::Result<usize> {
    for table in ["callbacks", "closed_numbers", "ledger", "refunds"] {
        connection.execute(&format!("DELETE FROM {table}"), [])?;
    }
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'ledger'", [])?;
    connection.execute("DELETE FROM payments", [])
}
