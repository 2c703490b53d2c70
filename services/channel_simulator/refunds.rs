//! Refunds: never more than was paid, and each number once.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::course::Seen;
use super::rows::{Now, Payment, Refusal, Status, find};
use super::truth;

/// A refund, and all refunds of its payment up to and with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refund {
    pub(super) amount: i64,
    pub(super) refunded: i64,
    pub(super) at_ms: i64,
}

/// Gives money back. `true` when that happened now, `false` when earlier.
pub(super) fn refund(
    connection: &Connection,
    payment_no: &str,
    refund_no: &str,
    amount: i64,
    seen: &Seen,
    now: Now,
) -> Result<(Payment, Refund, bool), Refusal> {
    let mut payment = find(connection, payment_no, now)?.ok_or(Refusal::Unknown)?;
    if let Some(earlier) = find_refund(connection, payment_no, refund_no)? {
        return if earlier.amount == amount { Ok((payment, earlier, false)) } else { Err(Refusal::RefundConflict) };
    }
    if payment.status != Status::Success {
        return Err(Refusal::NotPaid);
    }
    let left = payment.wanted.amount - payment.refunded;
    if amount > left {
        return Err(Refusal::RefundTooMuch(left));
    }
    payment.refunded += amount;
    let sql = "UPDATE payments SET refunded = ?2 WHERE payment_no = ?1";
    connection.prepare_cached(sql)?.execute(params![payment_no, payment.refunded])?;
    let sql = "INSERT INTO refunds (payment_no, refund_no, amount, refunded, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    connection.prepare_cached(sql)?.execute(params![payment_no, refund_no, amount, payment.refunded, now.ms])?;
    let entry = truth::Movement { kind: "refund", payment_no, amount, refund_no: Some(refund_no), code: None };
    truth::record(connection, &entry, seen, now.ms)?;
    let refunded = payment.refunded;
    Ok((payment, Refund { amount, refunded, at_ms: now.ms }, true))
}

/// The refund with this number.
pub(super) fn find_refund(
    connection: &Connection,
    payment_no: &str,
    refund_no: &str,
) -> rusqlite::Result<Option<Refund>> {
    let sql = "SELECT amount, refunded, at_ms FROM refunds WHERE payment_no = ?1 AND refund_no = ?2";
    let row = |row: &Row<'_>| Ok(Refund { amount: row.get(0)?, refunded: row.get(1)?, at_ms: row.get(2)? });
    connection.prepare_cached(sql)?.query_row([payment_no, refund_no], row).optional()
}
