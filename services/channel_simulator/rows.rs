//! The rows of payments and the decisions on them. Everything that writes runs inside the writer's transaction, one
//! operation after the other, so that of a confirmation and a closing at the same time one comes first.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use serde::Serialize;

use super::course::Seen;
use super::plan::Fate;
use super::truth;
use crate::support::dialect::Dialect;

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

/// What a shop asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) payment_no: String,
    /// Minor units.
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) subject: String,
    pub(super) notify_url: String,
    pub(super) scene: Option<String>,
    /// When it is closed by itself, by the channel's clock.
    pub(super) expires_ms: Option<i64>,
    pub(super) dialect: Dialect,
    /// What only this dialect knows about a payment, as JSON or empty.
    pub(super) extra: String,
}

impl Wanted {
    /// Whether a repeated request asks for the same. A time that is given as so many minutes from now is another one
    /// at every request, so it is not compared.
    fn is_same(&self, other: &Self) -> bool {
        let timeless = |wanted: &Self| Self { expires_ms: None, ..wanted.clone() };
        timeless(self) == timeless(other)
    }
}

impl rusqlite::types::FromSql for Dialect {
    fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        Self::named(value.as_str()?).ok_or(rusqlite::types::FromSqlError::InvalidType)
    }
}

/// The time of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// By the machine's clock: what is recorded.
    pub(super) ms: i64,
    /// By the channel's clock, which tests can set: what decides whether a payment has expired.
    pub(super) clock_ms: i64,
}

/// A payment as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Agreed to and not decided yet: when that will be, and why it will be declined.
    pub(super) due: Option<(i64, Option<String>)>,
}

impl Payment {
    /// The word for where it stands.
    pub(super) fn shown(&self) -> &'static str {
        if self.due.is_some() { "PROCESSING" } else { self.status.as_str() }
    }

    /// The same at a later time: nobody has to close what has expired.
    fn at(mut self, now: Now) -> Self {
        let expired = self.wanted.expires_ms.is_some_and(|expires_ms| expires_ms <= now.clock_ms);
        if expired && self.status == Status::Pending && self.due.is_none() {
            self.status = Status::Closed;
            self.decided_ms = self.wanted.expires_ms;
        }
        self
    }
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
    /// Agreed to, so it cannot be closed, but not decided yet.
    Processing,
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
pub(super) fn find(connection: &Connection, payment_no: &str, now: Now) -> rusqlite::Result<Option<Payment>> {
    let sql = "SELECT * FROM payments WHERE payment_no = ?1";
    let found = connection.prepare_cached(sql)?.query_row([payment_no], payment).optional()?;
    Ok(found.map(|payment| payment.at(now)))
}

/// The number of the payment that the channel calls `trade_no`.
pub(super) fn number_of(connection: &Connection, trade_no: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT payment_no FROM payments WHERE trade_no = ?1";
    connection.prepare_cached(sql)?.query_row([trade_no], |row| row.get(0)).optional()
}

/// The newest payments of a dialect.
pub(super) fn latest(connection: &Connection, dialect: Dialect, most: u32) -> rusqlite::Result<Vec<Payment>> {
    let sql = "SELECT * FROM payments WHERE dialect = ?1 ORDER BY id DESC LIMIT ?2";
    connection.prepare_cached(sql)?.query_map(params![dialect.as_str(), most], payment)?.collect()
}

/// A row with all columns.
pub(super) fn payment(row: &Row<'_>) -> rusqlite::Result<Payment> {
    let wanted = Wanted {
        payment_no: row.get("payment_no")?,
        amount: row.get("amount")?,
        currency: row.get("currency")?,
        subject: row.get("subject")?,
        notify_url: row.get("notify_url")?,
        scene: row.get("scene")?,
        expires_ms: row.get("expires_ms")?,
        dialect: row.get("dialect")?,
        extra: row.get("extra")?,
    };
    let due_ms: Option<i64> = row.get("due_ms")?;
    let due_code = row.get("due_code")?;
    Ok(Payment {
        wanted,
        trade_no: row.get("trade_no")?,
        auto: row.get("auto")?,
        status: row.get("status")?,
        code: row.get("code")?,
        refunded: row.get("refunded")?,
        created_ms: row.get("created_ms")?,
        decided_ms: row.get("decided_ms")?,
        due: due_ms.map(|due_ms| (due_ms, due_code)),
    })
}

/// Records a payment, and with a `fate` also its confirmation. `true` when that happened now, `false` when earlier.
pub(super) fn create(
    connection: &Connection,
    wanted: Wanted,
    key: &str,
    numbers: &Numbers,
    consent: Option<(&Fate, &Seen)>,
    now: Now,
) -> Result<(Payment, bool), Refusal> {
    // Either identity finds the earlier request, the key before the number: a retry may have lost one of them, but
    // must not pay twice.
    let sql = "SELECT * FROM payments WHERE payment_no = ?1 OR idempotency_key = ?2
        ORDER BY idempotency_key = ?2 DESC LIMIT 1";
    let earlier = connection.prepare_cached(sql)?.query_row([&wanted.payment_no, key], payment).optional()?;
    if let Some(earlier) = earlier {
        return if earlier.wanted.is_same(&wanted) { Ok((earlier.at(now), false)) } else { Err(Refusal::Conflict) };
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM closed_numbers WHERE payment_no = ?1)";
    if connection.prepare_cached(sql)?.query_row([&wanted.payment_no], |row| row.get(0))? {
        return Err(Refusal::Closed);
    }
    let sql = "INSERT INTO payments (payment_no, idempotency_key, trade_no, amount, currency, subject, notify_url,
        scene, auto, status, created_ms, expires_ms, dialect, extra)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'PENDING', ?10, ?11, ?12, ?13)";
    connection.prepare_cached(sql)?.execute(params![
        wanted.payment_no,
        key,
        numbers.trade_no,
        wanted.amount,
        wanted.currency,
        wanted.subject,
        wanted.notify_url,
        wanted.scene,
        consent.is_some(),
        now.ms,
        wanted.expires_ms,
        wanted.dialect.as_str(),
        wanted.extra,
    ])?;
    let mut payment = Payment {
        wanted,
        trade_no: numbers.trade_no.clone(),
        auto: consent.is_some(),
        status: Status::Pending,
        code: None,
        refunded: 0,
        created_ms: now.ms,
        decided_ms: None,
        due: None,
    };
    if let Some((fate, seen)) = consent {
        agree(connection, &mut payment, &numbers.notify_id, fate, seen, now.ms)?;
    }
    Ok((payment, true))
}

/// The buyer agrees: the payment is charged or declined, once. `true` when that happened now, `false` when earlier.
pub(super) fn confirm(
    connection: &Connection,
    payment_no: &str,
    notify_id: &str,
    fate: &Fate,
    seen: &Seen,
    now: Now,
) -> Result<(Payment, bool), Refusal> {
    let mut payment = find(connection, payment_no, now)?.ok_or(Refusal::Unknown)?;
    match payment.status {
        Status::Success | Status::Declined => Ok((payment, false)),
        Status::Closed => Err(Refusal::Closed),
        Status::Pending if payment.due.is_some() => Ok((payment, false)),
        Status::Pending => {
            agree(connection, &mut payment, notify_id, fate, seen, now.ms)?;
            Ok((payment, true))
        }
    }
}

/// The decision follows from the buyer's consent, at once or later.
fn agree(
    connection: &Connection,
    payment: &mut Payment,
    notify_id: &str,
    fate: &Fate,
    seen: &Seen,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let Some(after_ms) = fate.after_ms else {
        return decide(connection, payment, notify_id, fate, seen, now_ms);
    };
    let due_ms = now_ms + i64::from(after_ms);
    let sql = "UPDATE payments SET due_ms = ?2, due_code = ?3 WHERE payment_no = ?1";
    connection.prepare_cached(sql)?.execute(params![payment.wanted.payment_no, due_ms, fate.decline])?;
    payment.due = Some((due_ms, fate.decline.clone()));
    Ok(())
}

/// The payments whose decision is due, and when that of the next one is.
pub(super) fn due(connection: &Connection, now_ms: i64, most: u32) -> rusqlite::Result<(Vec<Payment>, Option<i64>)> {
    let sql = "SELECT * FROM payments WHERE due_ms <= ?1 ORDER BY due_ms LIMIT ?2";
    let due = connection.prepare_cached(sql)?.query_map(params![now_ms, most], payment)?.collect::<Result<_, _>>()?;
    let sql = "SELECT min(due_ms) FROM payments WHERE due_ms > ?1";
    let next = connection.prepare_cached(sql)?.query_row([now_ms], |row| row.get(0))?;
    Ok((due, next))
}

/// Decides a payment that is due. `None` when that has happened already.
pub(super) fn settle(
    connection: &Connection,
    payment_no: &str,
    notify_id: &str,
    fate: Fate,
    now: Now,
) -> Result<Option<Payment>, Refusal> {
    let mut payment = find(connection, payment_no, now)?.ok_or(Refusal::Unknown)?;
    let Some((_, code)) = payment.due.take() else {
        return Ok(None);
    };
    let fate = Fate { decline: code, ..fate };
    decide(connection, &mut payment, notify_id, &fate, &Seen::default(), now.ms)?;
    Ok(Some(payment))
}

/// Status, truth and callback of a decision, all or nothing.
fn decide(
    connection: &Connection,
    payment: &mut Payment,
    notify_id: &str,
    fate: &Fate,
    seen: &Seen,
    now_ms: i64,
) -> rusqlite::Result<()> {
    payment.status = if fate.decline.is_none() { Status::Success } else { Status::Declined };
    payment.code = fate.decline.clone();
    payment.decided_ms = Some(now_ms);
    let (number, amount) = (&payment.wanted.payment_no, payment.wanted.amount);
    let sql = "UPDATE payments SET status = ?2, code = ?3, decided_ms = ?4, due_ms = NULL, due_code = NULL
        WHERE payment_no = ?1";
    connection.prepare_cached(sql)?.execute(params![number, payment.status, payment.code, now_ms])?;
    let kind = if fate.decline.is_none() { "charge" } else { "decline" };
    let entry = truth::Movement { kind, payment_no: number, amount, refund_no: None, code: payment.code.as_deref() };
    truth::record(connection, &entry, seen, now_ms)?;
    // In plain JSON a decline is told as well: a receiver that never reads `status` must be found out. The others tell
    // of payments only, and only who asked to be told.
    let wanted = &payment.wanted;
    if wanted.notify_url.is_empty() || (wanted.dialect != Dialect::Json && payment.status != Status::Success) {
        return Ok(());
    }
    let sql = "INSERT INTO callbacks (notify_id, payment_no, state, due_ms, copies, probe)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let state = if fate.dropped { "dropped" } else { "pending" };
    let due_ms = now_ms + i64::from(fate.delay_ms);
    connection.prepare_cached(sql)?.execute(params![notify_id, number, state, due_ms, fate.copies, fate.probe])?;
    Ok(())
}

/// Makes sure that the payment can never be charged. `true` when that happened now, `false` when earlier. `None`: no
/// payment has this number, and none will; a request that is still on its way comes too late.
pub(super) fn close(connection: &Connection, payment_no: &str, now: Now) -> Result<Option<(Payment, bool)>, Refusal> {
    let Some(mut payment) = find(connection, payment_no, now)? else {
        let sql = "INSERT OR IGNORE INTO closed_numbers (payment_no) VALUES (?1)";
        connection.prepare_cached(sql)?.execute([payment_no])?;
        return Ok(None);
    };
    match payment.status {
        Status::Success => Err(Refusal::AlreadyPaid),
        // A declined payment is as dead as a closed one, which is what was asked for.
        Status::Closed | Status::Declined => Ok(Some((payment, false))),
        Status::Pending if payment.due.is_some() => Err(Refusal::Processing),
        Status::Pending => {
            let sql = "UPDATE payments SET status = 'CLOSED', decided_ms = ?2 WHERE payment_no = ?1";
            connection.prepare_cached(sql)?.execute(params![payment_no, now.ms])?;
            payment.status = Status::Closed;
            payment.decided_ms = Some(now.ms);
            Ok(Some((payment, true)))
        }
    }
}
