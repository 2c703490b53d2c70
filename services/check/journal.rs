//! The gateway's journal of payments: what it says about tries, beside what the channels' own ledgers say.
//!
//! The gateway is no part of this package. Its file is read as anybody would read it, by its tables; `schema.sql` of the
//! journal is where they are described.
//!
//! A try is *live* while money may move on its account. Files that rest may hold live tries, younger than a payer may
//! take: those are not compared with the ledgers.

use rusqlite::{Connection, OptionalExtension, Row};

use super::Books;
use crate::support::checks::{self, Check};

/// Name of the file in the gateway's data folder.
pub(super) const FILE: &str = "payments.db";

/// How long a try may be live, in milliseconds. A payer has at most fifty minutes to pay an order, and a channel that
/// keeps silent is asked for less than that before a person is called.
const LIVE_MS: i64 = 60 * 60_000;

/// What must hold inside the journal. What a person has decided need not follow from the tries.
const CHECKS: &[Check] = &[
    (
        "I8: two tries of one payment are live, or one is live beside one that has charged",
        "SELECT payment_id FROM attempts WHERE state IN ('PLANNED', 'DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN',
         'SUCCEEDED') GROUP BY payment_id HAVING count(*) > 1",
    ),
    (
        "I5: by the journal a payment has succeeded, and none of its tries, or the other way round",
        "SELECT p.id FROM payments p WHERE (p.state = 'SUCCEEDED') <> EXISTS (SELECT 1 FROM attempts a
         WHERE a.payment_id = p.id AND a.state IN ('SUCCEEDED', 'CHARGED_LATE')) AND NOT EXISTS
         (SELECT 1 FROM events e WHERE e.payment_id = p.id AND e.kind = 'DECIDED')",
    ),
    (
        "I10: in the journal a try is live for ever",
        "SELECT payment_id FROM attempts WHERE state IN ('PLANNED', 'DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN')
         AND created_ms < :before",
    ),
    (
        "I10: in the journal a payment is over, and one of its tries is live",
        "SELECT p.id FROM payments p JOIN attempts a ON a.payment_id = p.id WHERE p.state IN ('SUCCEEDED', 'FAILED',
         'CANCELLED') AND a.state IN ('PLANNED', 'DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN')",
    ),
    (
        "I10: in the journal a payment waits for a person, and nobody was called",
        "SELECT p.id FROM payments p WHERE p.state = 'MANUAL' AND NOT EXISTS (SELECT 1 FROM events e
         WHERE e.payment_id = p.id AND e.kind = 'MANUAL')",
    ),
];

/// All violations in words; `newest_ms` is the newest entry of the orders.
pub(super) fn violations(journal: &Connection, books: &Books, newest_ms: i64) -> rusqlite::Result<Vec<String>> {
    let newest = "SELECT coalesce(max(updated_ms), 0) FROM attempts";
    let newest_ms = newest_ms.max(journal.query_row(newest, [], |row| row.get(0))?);
    let mut found = checks::violations(journal, CHECKS, newest_ms - LIVE_MS)?;
    for (channel, ledger) in &books.channels {
        charged_here(journal, channel, ledger, &mut found)?;
        charges_are_known(journal, channel, ledger, &mut found)?;
    }
    Ok(found)
}

/// I5: what the journal holds for charged at a channel was charged there.
fn charged_here(
    journal: &Connection,
    channel: &str,
    ledger: &Connection,
    found: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let sql = "SELECT number FROM attempts WHERE channel = ?1 AND state IN ('SUCCEEDED', 'CHARGED_LATE')
         AND NOT EXISTS (SELECT 1 FROM events e WHERE e.payment_id = attempts.payment_id AND e.kind = 'DECIDED')";
    let mut statement = journal.prepare(sql)?;
    let mut rows = statement.query([channel])?;
    while let Some(row) = rows.next()? {
        let number: String = row.get(0)?;
        let sql = "SELECT EXISTS (SELECT 1 FROM ledger WHERE payment_no = ?1 AND kind = 'charge')";
        if !ledger.prepare_cached(sql)?.query_row([&number], |row| row.get::<_, bool>(0))? {
            found.push(format!("I5: by the journal {channel} has charged, and its ledger has no charge: {number}"));
        }
    }
    Ok(())
}

/// I5 and I8: every charge of a payment in the journal is at the channel whose try has charged, and at no other.
fn charges_are_known(
    journal: &Connection,
    channel: &str,
    ledger: &Connection,
    found: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let mut statement = ledger.prepare("SELECT payment_no FROM ledger WHERE kind = 'charge'")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let number: String = row.get(0)?;
        let Some(tries) = tries(journal, &number, channel)? else { continue };
        match tries {
            Tries { elsewhere: true, .. } => {
                found.push(format!("I8: charged at {channel} and at another channel: {number}"));
            }
            Tries { open: true, .. } => {}
            Tries { last: Some(state), .. } => {
                found.push(format!("I5: {channel} has charged a try that is {state} in the journal: {number}"));
            }
            Tries { last: None, .. } => {
                found.push(format!("I8: {channel} has charged, and the journal never sent it there: {number}"));
            }
        }
    }
    Ok(())
}

/// What the journal has of a number, seen from a channel.
struct Tries {
    /// Another channel has charged it.
    elsewhere: bool,
    /// One of the tries here has charged, or may yet.
    open: bool,
    /// The state of the last try here.
    last: Option<String>,
}

/// Absent for a payment that the journal does not have: it went another way.
fn tries(journal: &Connection, number: &str, channel: &str) -> rusqlite::Result<Option<Tries>> {
    let sql = "SELECT EXISTS (SELECT 1 FROM attempts o WHERE o.payment_id = p.id AND o.channel <> ?2 AND o.state IN
            ('SUCCEEDED', 'CHARGED_LATE')),
        EXISTS (SELECT 1 FROM attempts a WHERE a.payment_id = p.id AND a.channel = ?2 AND a.state IN ('SUCCEEDED',
            'CHARGED_LATE', 'MANUAL', 'PLANNED', 'DISPATCHING', 'SENT', 'PENDING', 'UNKNOWN')),
        (SELECT a.state FROM attempts a WHERE a.payment_id = p.id AND a.channel = ?2 ORDER BY a.n DESC LIMIT 1)
        FROM payments p WHERE p.id = ?1";
    let row = |row: &Row<'_>| Ok(Tries { elsewhere: row.get(0)?, open: row.get(1)?, last: row.get(2)? });
    journal.prepare_cached(sql)?.query_row([number, channel], row).optional()
}
