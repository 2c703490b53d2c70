//! The two halves of a transfer, each a local transaction: try, confirm, cancel.
//!
//! A coordinator that heard nothing repeats itself, and messages overtake each other, so each of the three may come
//! twice, late, or without the one before. The table `barrier` has one row per branch and operation and decides:
//!
//! | Comes | Found | Then |
//! | --- | --- | --- |
//! | try | nothing | frozen or promised |
//! | try | its own row | the same answer as before, nothing happens |
//! | try | a row left by a cancel | refused with `AlreadyCancelled`: frozen now, it would stay frozen for ever |
//! | cancel | nothing | nothing to undo; leaves a row in the try's place that keeps a late one out |
//! | confirm, cancel | its own row | done before |
//! | confirm | no try | refused: the coordinator is wrong |
//!
//! A confirm checks nothing about the business: whatever could go wrong was checked by the try.

use rusqlite::{Connection, OptionalExtension, params};

use super::model::{Branch, Leg, Refusal};
use super::rows;

/// Reserves one half: freezes the payer's money, or promises it to the payee.
pub(super) fn attempt(connection: &Connection, leg: &Leg, now_ms: i64) -> Result<(), Refusal> {
    if !mark(connection, leg, "TRY", "TRY", now_ms)? {
        return match find_try(connection, leg)? {
            Some(Tried { cancelled: true, .. }) => Err(Refusal::AlreadyCancelled),
            Some(tried) if tried.account == leg.account && tried.amount == leg.amount => {
                if is_marked(connection, leg, "CANCEL")? { Err(Refusal::AlreadyCancelled) } else { Ok(()) }
            }
            _ => Err(Refusal::OtherTry),
        };
    }
    let account = rows::get_open(connection, &leg.account)?;
    if account.currency != leg.currency {
        return Err(Refusal::CurrencyMismatch);
    }
    match leg.branch {
        Branch::Payer => {
            let sql = "UPDATE accounts SET available = available - ?2, frozen = frozen + ?2, version = version + 1
                WHERE id = ?1 AND available >= ?2";
            let changed = connection.prepare_cached(sql)?.execute(params![leg.account, leg.amount])?;
            if changed == 1 { Ok(()) } else { Err(Refusal::InsufficientFunds) }
        }
        Branch::Payee => {
            rows::check_room(&account, leg.amount)?;
            change(connection, leg, leg.amount, "incoming = incoming + ?2")
        }
    }
}

/// Makes one half final. Only a wrong coordinator is refused.
pub(super) fn confirm(connection: &Connection, leg: &Leg, now_ms: i64) -> Result<(), Refusal> {
    let tried = tried(connection, leg)?;
    if is_marked(connection, leg, "CANCEL")? {
        return Err(Refusal::AlreadyCancelled);
    }
    if !mark(connection, leg, "CONFIRM", "CONFIRM", now_ms)? {
        return Ok(());
    }
    let kind = match leg.branch {
        Branch::Payer => {
            change(connection, leg, tried.amount, "frozen = frozen - ?2")?;
            "DEBIT"
        }
        Branch::Payee => {
            change(connection, leg, tried.amount, "incoming = incoming - ?2, available = available + ?2")?;
            "CREDIT"
        }
    };
    rows::book(connection, &leg.gid, &leg.account, kind, tried.amount, now_ms)?;
    Ok(())
}

/// Undoes one half if it was tried, and keeps it from being tried later if not.
pub(super) fn cancel(connection: &Connection, leg: &Leg, now_ms: i64) -> Result<(), Refusal> {
    if mark(connection, leg, "TRY", "CANCEL", now_ms)? {
        return Ok(());
    }
    let tried = match tried(connection, leg) {
        Err(Refusal::AlreadyCancelled) => return Ok(()),
        tried => tried?,
    };
    if is_marked(connection, leg, "CONFIRM")? {
        return Err(Refusal::AlreadyConfirmed);
    }
    if !mark(connection, leg, "CANCEL", "CANCEL", now_ms)? {
        return Ok(());
    }
    let undo = match leg.branch {
        Branch::Payer => "frozen = frozen - ?2, available = available + ?2",
        Branch::Payee => "incoming = incoming - ?2",
    };
    change(connection, leg, tried.amount, undo)
}

/// A row in the try's place.
struct Tried {
    /// It was left by a cancel.
    cancelled: bool,
    account: String,
    amount: i64,
}

/// The try of this branch, which must have happened, with this account.
fn tried(connection: &Connection, leg: &Leg) -> Result<Tried, Refusal> {
    let tried = find_try(connection, leg)?.ok_or(Refusal::NotTried)?;
    if tried.cancelled {
        return Err(Refusal::AlreadyCancelled);
    }
    if tried.account == leg.account { Ok(tried) } else { Err(Refusal::OtherTry) }
}

fn find_try(connection: &Connection, leg: &Leg) -> rusqlite::Result<Option<Tried>> {
    connection
        .prepare_cached(
            "SELECT reason = 'CANCEL', account, amount FROM barrier WHERE gid = ?1 AND branch = ?2 AND op = 'TRY'",
        )?
        .query_row(params![leg.gid, leg.branch], |row| {
            Ok(Tried { cancelled: row.get(0)?, account: row.get(1)?, amount: row.get(2)? })
        })
        .optional()
}

/// Puts a row into the barrier; `false` when there is one already.
fn mark(connection: &Connection, leg: &Leg, op: &str, reason: &str, now_ms: i64) -> rusqlite::Result<bool> {
    let made = connection
        .prepare_cached("INSERT INTO barrier VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING")?
        .execute(params![leg.gid, leg.branch, op, reason, leg.account, leg.amount, now_ms])?;
    Ok(made == 1)
}

fn is_marked(connection: &Connection, leg: &Leg, op: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM barrier WHERE gid = ?1 AND branch = ?2 AND op = ?3)")?
        .query_row(params![leg.gid, leg.branch, op], |row| row.get(0))
}

/// Changes the balances of the account, which must exist.
fn change(connection: &Connection, leg: &Leg, amount: i64, what: &str) -> Result<(), Refusal> {
    let sql = format!("UPDATE accounts SET {what}, version = version + 1 WHERE id = ?1");
    let changed = connection.prepare_cached(&sql)?.execute(params![leg.account, amount])?;
    if changed == 1 { Ok(()) } else { Err(Refusal::UnknownAccount) }
}
