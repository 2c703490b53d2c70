//! The statements; every function runs inside one operation of the writer, or on a reader.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::model::{Attempt, AttemptState, Event, Frozen, Payment, PaymentState, Refusal, View};
use crate::payments::outcome::Money;

const PAYMENT: &str = "id, upstream, amount, currency, kind, fingerprint, state, created_ms, updated_ms";
const ATTEMPT: &str =
    "payment_id, n, channel, number, state, evidence, http, code, considered, sends, created_ms, sent_ms,
    updated_ms, tries, not_found, next_ms";

fn payment(row: &Row<'_>) -> rusqlite::Result<Payment> {
    let money = Money { amount: row.get(2)?, currency: row.get(3)? };
    let (id, upstream, kind, fingerprint) = (row.get(0)?, row.get(1)?, row.get(4)?, row.get(5)?);
    let frozen = Frozen { id, upstream, money, kind, fingerprint };
    Ok(Payment { frozen, state: row.get(6)?, created_ms: row.get(7)?, updated_ms: row.get(8)? })
}

fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    Ok(Attempt {
        payment_id: row.get(0)?,
        n: row.get(1)?,
        channel: row.get(2)?,
        number: row.get(3)?,
        state: row.get(4)?,
        evidence: row.get(5)?,
        http: row.get(6)?,
        code: row.get(7)?,
        considered: row.get(8)?,
        sends: row.get(9)?,
        created_ms: row.get(10)?,
        sent_ms: row.get(11)?,
        updated_ms: row.get(12)?,
        tries: row.get(13)?,
        not_found: row.get(14)?,
        next_ms: row.get(15)?,
    })
}

/// A payment with its tries.
pub(super) fn view(connection: &Connection, id: &str) -> rusqlite::Result<Option<View>> {
    let sql = format!("SELECT {PAYMENT} FROM payments WHERE id = ?1");
    let Some(payment) = connection.prepare_cached(&sql)?.query_row([id], payment).optional()? else { return Ok(None) };
    let sql = format!("SELECT {ATTEMPT} FROM attempts WHERE payment_id = ?1 ORDER BY n");
    let attempts = connection.prepare_cached(&sql)?.query_map([id], attempt)?.collect::<rusqlite::Result<_>>()?;
    Ok(Some(View { payment, attempts }))
}

/// One try of a payment.
pub(super) fn one(connection: &Connection, id: &str, n: i64) -> Result<Attempt, Refusal> {
    let sql = format!("SELECT {ATTEMPT} FROM attempts WHERE payment_id = ?1 AND n = ?2");
    connection.prepare_cached(&sql)?.query_row(params![id, n], attempt).optional()?.ok_or(Refusal::Missing)
}

/// Payments, the latest change first.
pub(super) fn list(connection: &Connection, state: Option<PaymentState>, limit: i64) -> rusqlite::Result<Vec<Payment>> {
    let sql =
        format!("SELECT {PAYMENT} FROM payments WHERE ?1 IS NULL OR state = ?1 ORDER BY updated_ms DESC, id LIMIT ?2");
    connection.prepare_cached(&sql)?.query_map(params![state, limit], payment)?.collect()
}

/// What people should see of a payment, oldest first.
pub(super) fn events(connection: &Connection, id: &str) -> rusqlite::Result<Vec<Event>> {
    let event = |row: &Row<'_>| Ok(Event { kind: row.get(0)?, detail: row.get(1)?, at_ms: row.get(2)? });
    let sql = "SELECT kind, detail, at_ms FROM events WHERE payment_id = ?1 ORDER BY number";
    connection.prepare_cached(sql)?.query_map([id], event)?.collect()
}

/// How many payments wait for a person, and how many tries are live.
pub(super) fn figures(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let count =
        |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let manual = count("SELECT count(*) FROM payments WHERE state = 'MANUAL'")?;
    let live = count("SELECT count(*) FROM attempts WHERE state IN ('DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN')")?;
    Ok((manual, live))
}

/// Writes a payment down.
pub(super) fn insert(connection: &Connection, frozen: &Frozen, now_ms: i64) -> rusqlite::Result<()> {
    let Frozen { id, upstream, money, kind, fingerprint } = frozen;
    connection
        .prepare_cached(
            "INSERT INTO payments (id, upstream, amount, currency, kind, fingerprint, state, created_ms, updated_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'PROCESSING', ?7, ?7)",
        )?
        .execute(params![id, upstream, money.amount, money.currency, kind, fingerprint, now_ms])?;
    Ok(())
}

/// Moves a payment.
pub(super) fn set_payment(connection: &Connection, id: &str, state: PaymentState, now_ms: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE payments SET state = ?2, updated_ms = ?3 WHERE id = ?1")?
        .execute(params![id, state, now_ms])?;
    Ok(())
}

/// A new try that is about to be sent. The index refuses it while another is live.
pub(super) fn insert_attempt(
    connection: &Connection,
    id: &str,
    channel: &str,
    considered: &str,
    now_ms: i64,
    next_ms: i64,
) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO attempts (payment_id, n, channel, number, state, considered, created_ms, sent_ms, updated_ms,
             next_ms) SELECT ?1, coalesce(max(n), 0) + 1, ?2, ?1, 'DISPATCHING', ?3, ?4, ?4, ?4, ?5 FROM attempts
             WHERE payment_id = ?1 RETURNING n",
        )?
        .query_row(params![id, channel, considered, now_ms, next_ms], |row| row.get(0))
}

/// What was observed of a try.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Where it stands now.
    pub state: AttemptState,
    /// What was seen.
    pub evidence: String,
    /// Status of the answer.
    pub http: Option<u16>,
    /// Code of the answer.
    pub code: Option<String>,
}

/// Moves a try and writes down why.
pub(super) fn set_attempt(
    connection: &Connection,
    id: &str,
    n: i64,
    seen: &Observed,
    now_ms: i64,
    next_ms: i64,
) -> rusqlite::Result<()> {
    let Observed { state, evidence, http, code } = seen;
    connection
        .prepare_cached(
            "UPDATE attempts SET state = ?3, evidence = ?4, http = ?5, code = ?6, updated_ms = ?7, next_ms = ?8
             WHERE payment_id = ?1 AND n = ?2",
        )?
        .execute(params![id, n, state, evidence, http, code, now_ms, next_ms])?;
    Ok(())
}

/// The try is about to be sent once more; what the channel did not know so far proves nothing about that.
pub(super) fn again(connection: &Connection, id: &str, n: i64, now_ms: i64, next_ms: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE attempts SET state = 'DISPATCHING', sends = sends + 1, sent_ms = ?3, updated_ms = ?3, not_found = 0,
             tries = 0, next_ms = ?4 WHERE payment_id = ?1 AND n = ?2",
        )?
        .execute(params![id, n, now_ms, next_ms])?;
    Ok(())
}

/// When the resolver looks at a try next, and in how many of the last queries the channel did not know it.
pub(super) fn look_again(
    connection: &Connection,
    id: &str,
    n: i64,
    not_found: i64,
    next_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE attempts SET not_found = ?3, next_ms = ?4 WHERE payment_id = ?1 AND n = ?2")?
        .execute(params![id, n, not_found, next_ms])?;
    Ok(())
}

/// Whether a try is due; `but`: a JSON list of channels that are left alone.
pub(super) fn is_due(connection: &Connection, now_ms: i64, but: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM attempts
        WHERE state IN ('DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN') AND next_ms <= ?1
        AND channel NOT IN (SELECT value FROM json_each(?2)))";
    connection.prepare_cached(sql)?.query_row(params![now_ms, but], |row| row.get(0))
}

/// Takes due tries until `lease_ms`. One that is still called dispatching or sent belongs to a call that nobody waits for
/// any more.
pub(super) fn claim(
    connection: &Connection,
    now_ms: i64,
    lease_ms: i64,
    limit: i64,
    but: &str,
) -> rusqlite::Result<Vec<Attempt>> {
    let sql = format!(
        "UPDATE attempts SET next_ms = ?2, tries = tries + 1,
             state = CASE WHEN state IN ('DISPATCHING', 'SENT') THEN 'UNKNOWN' ELSE state END
         WHERE (payment_id, n) IN (SELECT payment_id, n FROM attempts
             WHERE state IN ('DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN') AND next_ms <= ?1
             AND channel NOT IN (SELECT value FROM json_each(?4)) ORDER BY next_ms LIMIT ?3)
         RETURNING {ATTEMPT}"
    );
    connection.prepare_cached(&sql)?.query_map(params![now_ms, lease_ms, limit, but], attempt)?.collect()
}

/// After a start: calls that were under way died with the process before. Returns how many.
pub(super) fn recover(connection: &Connection, now_ms: i64) -> rusqlite::Result<usize> {
    // Whatever was asked before the stop, nobody was there to ask during it: patience begins anew.
    connection.execute(
        "UPDATE attempts SET next_ms = min(next_ms, ?1), tries = 0 WHERE state IN ('PENDING', 'UNKNOWN')",
        [now_ms],
    )?;
    let lost = connection.execute(
        "UPDATE attempts SET state = 'UNKNOWN', evidence = 'the gateway stopped while it was sent', updated_ms = ?1,
         tries = 0, next_ms = ?1 WHERE state IN ('DISPATCHING', 'SENT')",
        [now_ms],
    )?;
    // Between two rounds no try is live. The process that would have made the next one is gone.
    connection.execute(
        "UPDATE payments SET state = 'FAILED', updated_ms = ?1 WHERE state = 'PROCESSING' AND NOT EXISTS
         (SELECT 1 FROM attempts WHERE payment_id = id AND attempts.state IN ('PENDING', 'UNKNOWN', 'MANUAL'))",
        [now_ms],
    )?;
    Ok(lost)
}

/// Something that a person should see.
pub(super) fn event(connection: &Connection, id: &str, kind: &str, detail: &str, now_ms: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO events (payment_id, kind, detail, at_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id, kind, detail, now_ms])?;
    Ok(())
}
