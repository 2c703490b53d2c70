//! The rows of payments and the decisions on them. Everything that writes runs inside the writer's transaction, one
//! operation after the other, so that of a confirmation and a closing at the same time one comes first.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use serde::Serialize;

use super::plan::Fate;

/// Where a payment stands. All but `Pending` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Status {
    /// The buyer has not confirmed.
    Pending,
    /// Charged.
    Success,
    /// Confirmed, but not charged.
    Declined,
    /// Given up by the shop; can never be charged.
    Closed,
}

impl Status {
    const ALL: [Self; 4] = [Self::Pending, Self::Success, Self::Declined, Self::Closed];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Success => "SUCCESS",
            Self::Declined => "DECLINED",
            Self::Closed => "CLOSED",
        }
    }
}

impl rusqlite::types::FromSql for Status {
    fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        let text = value.as_str()?;
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or(rusqlite::types::FromSqlError::InvalidType)
    }
}

impl ToSql for Status {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}

/// What a shop asks for. Two requests are the same when all of it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) payment_no: String,
    /// Minor units.
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) subject: String,
    pub(super) notify_url: String,
    pub(super) scene: Option<String>,
}

/// A payment as it stands.
#[derive(Debug, Clone)]
pub(super) struct Payment {
    pub(super) wanted: Wanted,
    pub(super) trade_no: String,
    /// Confirmed when it was created.
    pub(super) auto: bool,
    pub(super) status: Status,
    /// Why it was declined.
    pub(super) code: Option<String>,
    pub(super) refunded: i64,
    pub(super) created_ms: i64,
    pub(super) decided_ms: Option<i64>,
}

/// A refund, and all refunds of its payment up to and with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refund {
    pub(super) amount: i64,
    pub(super) refunded: i64,
    pub(super) at_ms: i64,
}

/// Why an operation on a payment did not happen.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no such payment.
    Unknown,
    /// The payment number or the idempotency key was used with another content.
    Conflict,
    /// Charged, so it cannot be closed.
    AlreadyPaid,
    /// Closed, so it cannot be charged.
    Closed,
    /// Not charged, so there is nothing to refund.
    NotPaid,
    /// This refund number was used with another amount.
    RefundConflict,
    /// More than what was paid and not yet refunded, which is the figure here.
    RefundTooMuch(i64),
    /// The file refused.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// The identities of a payment that the channel makes up.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    pub(super) trade_no: String,
    pub(super) notify_id: String,
}

/// The payment with this number.
pub(super) fn find(connection: &Connection, payment_no: &str) -> rusqlite::Result<Option<Payment>> {
    let sql = "SELECT * FROM payments WHERE payment_no = ?1";
    connection.prepare_cached(sql)?.query_row([payment_no], payment).optional()
}

fn payment(row: &Row<'_>) -> rusqlite::Result<Payment> {
    let wanted = Wanted {
        payment_no: row.get("payment_no")?,
        amount: row.get("amount")?,
        currency: row.get("currency")?,
        subject: row.get("subject")?,
        notify_url: row.get("notify_url")?,
        scene: row.get("scene")?,
    };
    Ok(Payment {
        wanted,
        trade_no: row.get("trade_no")?,
        auto: row.get("auto")?,
        status: row.get("status")?,
        code: row.get("code")?,
        refunded: row.get("refunded")?,
        created_ms: row.get("created_ms")?,
        decided_ms: row.get("decided_ms")?,
    })
}

/// Records a payment, and with a `fate` also its confirmation. `true` when that happened now, `false` when earlier.
pub(super) fn create(
    connection: &Connection,
    wanted: Wanted,
    key: &str,
    numbers: &Numbers,
    fate: Option<&Fate>,
    now_ms: i64,
) -> Result<(Payment, bool), Refusal> {
    // Either identity finds the earlier request, the key before the number: a retry may have lost one of them, but
    // must not pay twice.
    let sql = "SELECT * FROM payments WHERE payment_no = ?1 OR idempotency_key = ?2
        ORDER BY idempotency_key = ?2 DESC LIMIT 1";
    let earlier = connection.prepare_cached(sql)?.query_row([&wanted.payment_no, key], payment).optional()?;
    if let Some(earlier) = earlier {
        return if earlier.wanted == wanted { Ok((earlier, false)) } else { Err(Refusal::Conflict) };
    }
    let sql = "INSERT INTO payments (payment_no, idempotency_key, trade_no, amount, currency, subject, notify_url,
        scene, auto, status, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'PENDING', ?10)";
    connection.prepare_cached(sql)?.execute(params![
        wanted.payment_no,
        key,
        numbers.trade_no,
        wanted.amount,
        wanted.currency,
        wanted.subject,
        wanted.notify_url,
        wanted.scene,
        fate.is_some(),
        now_ms,
    ])?;
    let mut payment = Payment {
        wanted,
        trade_no: numbers.trade_no.clone(),
        auto: fate.is_some(),
        status: Status::Pending,
        code: None,
        refunded: 0,
        created_ms: now_ms,
        decided_ms: None,
    };
    if let Some(fate) = fate {
        decide(connection, &mut payment, &numbers.notify_id, fate, now_ms)?;
    }
    Ok((payment, true))
}

/// The buyer agrees: the payment is charged or declined, once. `true` when that happened now, `false` when earlier.
pub(super) fn confirm(
    connection: &Connection,
    payment_no: &str,
    notify_id: &str,
    fate: &Fate,
    now_ms: i64,
) -> Result<(Payment, bool), Refusal> {
    let mut payment = find(connection, payment_no)?.ok_or(Refusal::Unknown)?;
    match payment.status {
        Status::Success | Status::Declined => Ok((payment, false)),
        Status::Closed => Err(Refusal::Closed),
        Status::Pending => {
            decide(connection, &mut payment, notify_id, fate, now_ms)?;
            Ok((payment, true))
        }
    }
}

/// Status, truth and callback of a decision, all or nothing.
fn decide(
    connection: &Connection,
    payment: &mut Payment,
    notify_id: &str,
    fate: &Fate,
    now_ms: i64,
) -> rusqlite::Result<()> {
    payment.status = if fate.decline.is_none() { Status::Success } else { Status::Declined };
    payment.code = fate.decline.clone();
    payment.decided_ms = Some(now_ms);
    let (number, amount) = (&payment.wanted.payment_no, payment.wanted.amount);
    let sql = "UPDATE payments SET status = ?2, code = ?3, decided_ms = ?4 WHERE payment_no = ?1";
    connection.prepare_cached(sql)?.execute(params![number, payment.status, payment.code, now_ms])?;
    let kind = if fate.decline.is_none() { "charge" } else { "decline" };
    let sql = "INSERT INTO ledger (kind, payment_no, amount, code, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    connection.prepare_cached(sql)?.execute(params![kind, number, amount, payment.code, now_ms])?;
    // A decline is told as well: a receiver that never reads `status` must be found out.
    let sql = "INSERT INTO callbacks (notify_id, payment_no, state, due_ms, copies, probe)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let state = if fate.dropped { "dropped" } else { "pending" };
    let due_ms = now_ms + i64::from(fate.delay_ms);
    connection.prepare_cached(sql)?.execute(params![notify_id, number, state, due_ms, fate.copies, fate.probe])?;
    Ok(())
}

/// Makes sure that the payment can never be charged. `true` when that happened now, `false` when earlier.
pub(super) fn close(connection: &Connection, payment_no: &str, now_ms: i64) -> Result<(Payment, bool), Refusal> {
    let mut payment = find(connection, payment_no)?.ok_or(Refusal::Unknown)?;
    match payment.status {
        Status::Success => Err(Refusal::AlreadyPaid),
        // A declined payment is as dead as a closed one, which is what was asked for.
        Status::Closed | Status::Declined => Ok((payment, false)),
        Status::Pending => {
            let sql = "UPDATE payments SET status = 'CLOSED', decided_ms = ?2 WHERE payment_no = ?1";
            connection.prepare_cached(sql)?.execute(params![payment_no, now_ms])?;
            payment.status = Status::Closed;
            payment.decided_ms = Some(now_ms);
            Ok((payment, true))
        }
    }
}

/// Gives money back. `true` when that happened now, `false` when earlier.
pub(super) fn refund(
    connection: &Connection,
    payment_no: &str,
    refund_no: &str,
    amount: i64,
    now_ms: i64,
) -> Result<(Payment, Refund, bool), Refusal> {
    let mut payment = find(connection, payment_no)?.ok_or(Refusal::Unknown)?;
    let sql = "SELECT amount, refunded, at_ms FROM refunds WHERE payment_no = ?1 AND refund_no = ?2";
    let row = |row: &Row<'_>| Ok(Refund { amount: row.get(0)?, refunded: row.get(1)?, at_ms: row.get(2)? });
    let earlier = connection.prepare_cached(sql)?.query_row([payment_no, refund_no], row).optional()?;
    if let Some(earlier) = earlier {
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
    connection.prepare_cached(sql)?.execute(params![payment_no, refund_no, amount, payment.refunded, now_ms])?;
    let sql = "INSERT INTO ledger (kind, payment_no, amount, refund_no, at_ms) VALUES ('refund', ?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![payment_no, amount, refund_no, now_ms])?;
    Ok((payment.clone(), Refund { amount, refunded: payment.refunded, at_ms: now_ms }, true))
}
