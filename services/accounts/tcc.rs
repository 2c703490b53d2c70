//! The rows of transfers, in the file of the payer; every function runs inside one operation of a writer.
//!
//! A transfer is decided exactly once: [`decide`] leaves TRYING only, and whoever comes second is told so. [`finish`]
//! writes the event for the account holders in the same transaction as the final state.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;

use super::branch;
use super::model::{Branch, Reason, Refusal, State, Transfer};
use super::rows;
use crate::outbox::{self, Topic};

const COLUMNS: &str = "gid, payer, payee, amount, currency, state, reason, tries";

/// States in which something is still to be done; as in the partial index.
const OPEN: &str = "state IN ('TRYING', 'CONFIRMING', 'CANCELLING')";

/// A transfer as it is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) payer: String,
    pub(super) payee: String,
    pub(super) amount: i64,
    pub(super) idem_key: String,
}

fn transfer(row: &Row<'_>) -> rusqlite::Result<Transfer> {
    Ok(Transfer {
        gid: row.get(0)?,
        payer: row.get(1)?,
        payee: row.get(2)?,
        amount: row.get(3)?,
        currency: row.get(4)?,
        state: row.get(5)?,
        reason: row.get(6)?,
        tries: row.get(7)?,
    })
}

/// The transfer with this number.
pub(super) fn get(connection: &Connection, gid: &str) -> Result<Transfer, Refusal> {
    let sql = format!("SELECT {COLUMNS} FROM tcc WHERE gid = ?1");
    let found = connection.prepare_cached(&sql)?.query_row([gid], transfer).optional()?;
    found.ok_or(Refusal::UnknownTransfer)
}

/// Writes a transfer down before any branch is called, or finds the one with the same key (then the first part is
/// `false`). After `deadline_ms` recovery gives it up.
pub(super) fn begin(
    connection: &Connection,
    gid: &str,
    wanted: &Wanted,
    now_ms: i64,
    deadline_ms: i64,
) -> Result<(bool, Transfer), Refusal> {
    let sql = format!("SELECT {COLUMNS} FROM tcc WHERE payer = ?1 AND idem_key = ?2");
    let known = connection.prepare_cached(&sql)?.query_row([&wanted.payer, &wanted.idem_key], transfer).optional()?;
    if let Some(known) = known {
        let same = known.payee == wanted.payee && known.amount == wanted.amount;
        return if same { Ok((false, known)) } else { Err(Refusal::KeyReused) };
    }
    let payer = rows::get_open(connection, &wanted.payer)?;
    let made = connection
        .prepare_cached(
            "INSERT INTO tcc (gid, payer, payee, amount, currency, idem_key, state, next_ms, created_ms, updated_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'TRYING', ?7, ?8, ?8) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            gid,
            wanted.payer,
            wanted.payee,
            wanted.amount,
            payer.currency,
            wanted.idem_key,
            deadline_ms,
            now_ms
        ])?;
    if made == 0 {
        return Err(Refusal::NumberTaken);
    }
    Ok((true, get(connection, gid)?))
}

/// A whole transfer between accounts of this file: one transaction, the same rows as if there were two.
pub(super) fn at_once(
    connection: &Connection,
    gid: &str,
    wanted: &Wanted,
    now_ms: i64,
) -> Result<(bool, Transfer), Refusal> {
    let (new, transfer) = begin(connection, gid, wanted, now_ms, now_ms)?;
    if !new {
        return Ok((false, transfer));
    }
    connection.execute_batch("SAVEPOINT legs")?;
    match both(connection, &transfer, now_ms) {
        Ok(()) => {
            connection.execute_batch("RELEASE legs")?;
            decide(connection, gid, None, now_ms, now_ms)?;
        }
        Err(refusal) => {
            let Some(reason) = refusal.reason() else {
                return Err(refusal);
            };
            connection.execute_batch("ROLLBACK TO legs; RELEASE legs")?;
            decide(connection, gid, Some(reason), now_ms, now_ms)?;
        }
    }
    finish(connection, gid, now_ms)?;
    Ok((true, get(connection, gid)?))
}

fn both(connection: &Connection, transfer: &Transfer, now_ms: i64) -> Result<(), Refusal> {
    let legs = [transfer.leg(Branch::Payer), transfer.leg(Branch::Payee)];
    for leg in &legs {
        branch::attempt(connection, leg, now_ms)?;
    }
    for leg in &legs {
        branch::confirm(connection, leg, now_ms)?;
    }
    Ok(())
}

/// Decides a TRYING transfer: to confirm it, or, with a reason, to cancel it. `false` when it was decided before.
/// Recovery looks at it from `next_ms` on.
pub(super) fn decide(
    connection: &Connection,
    gid: &str,
    against: Option<Reason>,
    next_ms: i64,
    now_ms: i64,
) -> Result<bool, Refusal> {
    let state = if against.is_some() { State::Cancelling } else { State::Confirming };
    let changed = connection
        .prepare_cached(
            "UPDATE tcc SET state = ?2, reason = ?3, next_ms = ?4, tries = 0, updated_ms = ?5
             WHERE gid = ?1 AND state = 'TRYING'",
        )?
        .execute(params![gid, state, against, next_ms, now_ms])?;
    Ok(changed == 1)
}

/// Both branches are done: the final state, and the events for those concerned. Twice is once.
pub(super) fn finish(connection: &Connection, gid: &str, now_ms: i64) -> Result<(), Refusal> {
    let changed = connection
        .prepare_cached(
            "UPDATE tcc SET state = CASE state WHEN 'CONFIRMING' THEN 'CONFIRMED' ELSE 'CANCELLED' END, updated_ms = ?2
             WHERE gid = ?1 AND state IN ('CONFIRMING', 'CANCELLING')",
        )?
        .execute(params![gid, now_ms])?;
    if changed == 0 {
        return Ok(());
    }
    let transfer = get(connection, gid)?;
    let payload = json!({
        "gid": gid, "status": transfer.state.as_str(), "from": transfer.payer, "to": transfer.payee,
        "amount": transfer.amount, "currency": transfer.currency, "reason": transfer.reason.map(Reason::as_str),
    })
    .to_string();
    let tell = |branch: Branch, account: &str| {
        let id = format!("{gid}/{}", branch.as_str());
        outbox::push(connection, Topic::Notification, &id, account, &payload, now_ms)
    };
    tell(Branch::Payer, &transfer.payer)?;
    // Nobody is told about money that does not come; the payee may not even exist.
    if transfer.state == State::Confirmed {
        tell(Branch::Payee, &transfer.payee)?;
    }
    Ok(())
}

/// Takes at most `limit` open transfers that are due until `lease_ms`.
pub(super) fn claim(
    connection: &Connection,
    now_ms: i64,
    lease_ms: i64,
    limit: u32,
) -> rusqlite::Result<Vec<Transfer>> {
    let sql = format!(
        "UPDATE tcc SET next_ms = ?2, tries = tries + 1 WHERE gid IN
         (SELECT gid FROM tcc WHERE {OPEN} AND next_ms <= ?1 ORDER BY next_ms LIMIT ?3) RETURNING {COLUMNS}"
    );
    connection.prepare_cached(&sql)?.query_map(params![now_ms, lease_ms, limit], transfer)?.collect()
}

/// Recovery looks at an open transfer again at `next_ms`.
pub(super) fn postpone(connection: &Connection, gid: &str, next_ms: i64) -> rusqlite::Result<()> {
    let sql = format!("UPDATE tcc SET next_ms = ?2 WHERE gid = ?1 AND {OPEN}");
    connection.prepare_cached(&sql)?.execute(params![gid, next_ms])?;
    Ok(())
}

/// Whether anything open is due.
pub(super) fn is_due(connection: &Connection, now_ms: i64) -> rusqlite::Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM tcc WHERE {OPEN} AND next_ms <= ?1)");
    connection.prepare_cached(&sql)?.query_row([now_ms], |row| row.get(0))
}

/// After a start whoever was driving is dead; after the clock was set back, times that were near are far away. A try
/// that is given up too early harms nobody: its coordinator is told when it wants to confirm.
pub(super) fn due_now(connection: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    connection.execute(&format!("UPDATE tcc SET next_ms = ?1 WHERE {OPEN} AND next_ms > ?1"), [now_ms])?;
    Ok(())
}
