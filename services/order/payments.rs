//! The rows of payments; every function runs inside one operation of the writer. What follows from a payment's outcome
//! for its order is decided in `settle`.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::model::{Channel, Method, OrderStatus, Payment, PaymentStatus, Refund, Refusal};
use super::rows;

const COLUMNS: &str = "payment_no, order_no, method, channel, amount, currency, status, trade_no, refund, close_wanted,
    tries, not_found, updated_ms";

/// States of a payment whose outcome is open, for the partial indexes.
const LIVE: &str = "status IN ('CREATED', 'PENDING', 'UNKNOWN')";

fn payment(row: &Row<'_>) -> rusqlite::Result<Payment> {
    Ok(Payment {
        payment_no: row.get(0)?,
        order_no: row.get(1)?,
        method: row.get(2)?,
        channel: row.get(3)?,
        amount: row.get(4)?,
        currency: row.get(5)?,
        status: row.get(6)?,
        trade_no: row.get(7)?,
        refund: row.get(8)?,
        close_wanted: row.get(9)?,
        tries: row.get(10)?,
        not_found: row.get(11)?,
        updated_ms: row.get(12)?,
    })
}

/// The payment with this number.
pub(super) fn find(connection: &Connection, payment_no: &str) -> rusqlite::Result<Option<Payment>> {
    let sql = format!("SELECT {COLUMNS} FROM payments WHERE payment_no = ?1");
    connection.prepare_cached(&sql)?.query_row([payment_no], payment).optional()
}

/// The payment with this number, which must exist.
pub(super) fn get(connection: &Connection, payment_no: &str) -> Result<Payment, Refusal> {
    find(connection, payment_no)?.ok_or(Refusal::NoPayment)
}

/// All payments of an order, oldest first.
pub(super) fn of_order(connection: &Connection, order_no: &str) -> rusqlite::Result<Vec<Payment>> {
    let sql = format!("SELECT {COLUMNS} FROM payments WHERE order_no = ?1 ORDER BY attempt");
    connection.prepare_cached(&sql)?.query_map([order_no], payment)?.collect()
}

/// The payment of an order whose outcome is open.
pub(super) fn live(connection: &Connection, order_no: &str) -> rusqlite::Result<Option<Payment>> {
    let sql = format!("SELECT {COLUMNS} FROM payments WHERE order_no = ?1 AND {LIVE}");
    connection.prepare_cached(&sql)?.query_row([order_no], payment).optional()
}

/// Writes a payment down before its channel is called, or finds the one under way by the same method (then the first
/// part is `false`).
///
/// The resolver looks at it from `resolve_at_ms` on, when the call is over or whoever made it is dead.
///
/// # Errors
/// When the order cannot be paid (any more), or when a payment by another method is not decided.
pub(super) fn begin(
    connection: &Connection,
    order_no: &str,
    user: &str,
    method: Method,
    now_ms: i64,
    resolve_at_ms: i64,
) -> Result<(bool, Payment), Refusal> {
    let order = rows::get_owned(connection, order_no, user)?;
    if order.status != OrderStatus::PendingPayment {
        return Err(Refusal::WrongState(order.status));
    }
    if let Some(under_way) = live(connection, order_no)? {
        let same = under_way.method == method && !under_way.close_wanted;
        return if same { Ok((false, under_way)) } else { Err(Refusal::PaymentLive(under_way.payment_no)) };
    }
    if order.expires_ms <= now_ms {
        return Err(Refusal::TooLate);
    }
    let attempt: i64 = connection
        .prepare_cached("SELECT coalesce(max(attempt), 0) + 1 FROM payments WHERE order_no = ?1")?
        .query_row([order_no], |row| row.get(0))?;
    let payment_no = format!("{order_no}-{attempt}");
    connection
        .prepare_cached(
            "INSERT INTO payments (payment_no, order_no, attempt, method, channel, amount, currency, status, next_ms,
             created_ms, updated_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'CREATED', ?8, ?9, ?9)",
        )?
        .execute(params![
            payment_no,
            order_no,
            attempt,
            method,
            method.channel(),
            order.amount,
            order.currency,
            resolve_at_ms,
            now_ms
        ])?;
    rows::event(connection, order_no, "PAYMENT_CREATED", &format!("{payment_no} at {}", method.as_str()), now_ms)?;
    Ok((true, get(connection, &payment_no)?))
}

/// It is known now where a payment is. That does not change any more.
pub(super) fn pin(
    connection: &Connection,
    payment: &mut Payment,
    channel: Channel,
    now_ms: i64,
) -> rusqlite::Result<()> {
    payment.channel = Some(channel);
    connection
        .prepare_cached("UPDATE payments SET channel = ?2, not_found = 0 WHERE payment_no = ?1")?
        .execute(params![payment.payment_no, channel])?;
    let detail = format!("{} at {}", payment.payment_no, channel.as_str());
    rows::event(connection, &payment.order_no, "PAYMENT_PLACED", &detail, now_ms)
}

/// Moves a payment to a state and writes that into the history of its order.
pub(super) fn set_status(
    connection: &Connection,
    payment: &Payment,
    status: PaymentStatus,
    trade_no: Option<&str>,
    detail: &str,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE payments SET status = ?2, trade_no = coalesce(?3, trade_no), updated_ms = ?4 WHERE payment_no = ?1",
        )?
        .execute(params![payment.payment_no, status, trade_no, now_ms])?;
    let kind = format!("PAYMENT_{}", status.as_str());
    let detail = format!("{} {detail}", payment.payment_no);
    rows::event(connection, &payment.order_no, &kind, detail.trim_end(), now_ms)
}

/// When the resolver looks at a payment next, and how often in a row the channel has not known it.
pub(super) fn look_again(
    connection: &Connection,
    payment_no: &str,
    not_found: u32,
    due_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE payments SET next_ms = ?2, not_found = ?3 WHERE payment_no = ?1")?
        .execute(params![payment_no, due_ms, not_found])?;
    Ok(())
}

/// The payment is about to be sent to its channel again; `false` when its outcome is known by now, or when it is to be
/// closed instead. What the channel has not known so far proves nothing about the new call.
pub(super) fn send_again(connection: &Connection, payment_no: &str, now_ms: i64) -> rusqlite::Result<bool> {
    let sql = format!(
        "UPDATE payments SET not_found = 0, updated_ms = ?2 WHERE payment_no = ?1 AND close_wanted = 0 AND {LIVE}"
    );
    Ok(connection.prepare_cached(&sql)?.execute(params![payment_no, now_ms])? == 1)
}

/// The payment is to be closed at its channel, by the resolver from `due_ms` on.
pub(super) fn want_close(connection: &Connection, payment_no: &str, due_ms: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE payments SET close_wanted = 1, tries = 0, next_ms = ?2 WHERE payment_no = ?1")?
        .execute(params![payment_no, due_ms])?;
    Ok(())
}

/// How far the refund of a payment has come.
pub(super) fn set_refund(connection: &Connection, payment_no: &str, refund: Refund) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE payments SET refund = ?2 WHERE payment_no = ?1")?
        .execute(params![payment_no, refund])?;
    Ok(())
}

/// Takes at most `limit` due payments until `lease_ms`, as `rows::claim_tasks` does.
pub(super) fn claim(
    connection: &Connection,
    now_ms: i64,
    lease_ms: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Payment>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = format!(
        "UPDATE payments SET next_ms = ?2, tries = tries + 1 WHERE payment_no IN
         (SELECT payment_no FROM payments WHERE {LIVE} AND next_ms <= ?1 ORDER BY next_ms LIMIT ?3) RETURNING {COLUMNS}"
    );
    connection.prepare_cached(&sql)?.query_map(params![now_ms, lease_ms, limit], payment)?.collect()
}

/// After a start: calls that were under way died with the process before, so their payments are looked at now. After the
/// clock was set back: times that were near are far away now. Everything is safe to do twice.
pub(super) fn look_at_all(connection: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    let sql = format!("UPDATE payments SET next_ms = ?1 WHERE {LIVE} AND next_ms > ?1");
    connection.execute(&sql, [now_ms])?;
    connection.execute("UPDATE tasks SET next_ms = ?1 WHERE next_ms > ?1", [now_ms])?;
    Ok(())
}

/// What came of an earlier notification with this id at the same address: whether it was accepted.
pub(super) fn notified(connection: &Connection, by: Method, notify_id: &str) -> rusqlite::Result<Option<bool>> {
    connection
        .prepare_cached("SELECT outcome = 'ACCEPTED' FROM inbox WHERE channel = ?1 AND notify_id = ?2")?
        .query_row(params![by, notify_id], |row| row.get(0))
        .optional()
}

/// Remembers a notification and what came of it.
pub(super) fn remember(
    connection: &Connection,
    by: Method,
    notify_id: &str,
    payment_no: &str,
    accepted: bool,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let outcome = if accepted { "ACCEPTED" } else { "MISMATCH" };
    connection
        .prepare_cached("INSERT INTO inbox VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![by, notify_id, payment_no, outcome, now_ms])?;
    Ok(())
}
