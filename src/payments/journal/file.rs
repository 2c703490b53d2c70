//! The journal in a file of this gateway: one SQLite file with one writer thread and group commit (`durable/`),
//! `synchronous = FULL`. Every function runs inside one operation of the writer, or on a reader.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::draft::Draft;
use super::model::{Attempt, Event, Frozen, Payment, PaymentState, View};
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

/// Writes what an operation has changed.
pub(super) fn save(connection: &Connection, draft: &Draft) -> rusqlite::Result<()> {
    let Some(View { payment, .. }) = draft.found() else { return Ok(()) };
    if draft.is_new {
        let Frozen { id, upstream, money, kind, fingerprint } = &payment.frozen;
        let sql =
            "INSERT INTO payments (id, upstream, amount, currency, kind, fingerprint, state, created_ms, updated_ms)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let Payment { state, created_ms, updated_ms, .. } = payment;
        let row = params![id, upstream, money.amount, money.currency, kind, fingerprint, state, created_ms, updated_ms];
        connection.prepare_cached(sql)?.execute(row)?;
    } else if draft.moved {
        let sql = "UPDATE payments SET state = ?2, updated_ms = ?3 WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![draft.id(), payment.state, payment.updated_ms])?;
    }
    for attempt in draft.written() {
        // The index refuses a new one while another is live.
        let insert =
            "INSERT INTO attempts (payment_id, n, channel, number, considered, created_ms, state, evidence, http,
                code, sends, sent_ms, updated_ms, tries, not_found, next_ms)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
        let update = "UPDATE attempts SET state = ?3, evidence = ?4, http = ?5, code = ?6, sends = ?7, sent_ms = ?8,
                updated_ms = ?9, tries = ?10, not_found = ?11, next_ms = ?12 WHERE payment_id = ?1 AND n = ?2";
        let Attempt { payment_id: id, n, channel, number, state, evidence, http, code, considered, sends, .. } =
            attempt;
        let Attempt { created_ms, sent_ms, updated_ms, tries, not_found, next_ms, .. } = attempt;
        if draft.added == Some(*n) {
            connection.prepare_cached(insert)?.execute(params![
                id, n, channel, number, considered, created_ms, state, evidence, http, code, sends, sent_ms,
                updated_ms, tries, not_found, next_ms
            ])?;
        } else {
            connection.prepare_cached(update)?.execute(params![
                id, n, state, evidence, http, code, sends, sent_ms, updated_ms, tries, not_found, next_ms
            ])?;
        }
    }
    for Event { kind, detail, at_ms } in &draft.events {
        let sql = "INSERT INTO events (payment_id, kind, detail, at_ms) VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(sql)?.execute(params![draft.id(), kind, detail, at_ms])?;
    }
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
