//! Is all money there (I4), and does every transfer come to its end (I9)?
//!
//! One file is checked within one read transaction, so exactly. Files cannot be read at the same moment, so what spans
//! two is checked in an order that allows no false alarm under load: what follows is looked for after what it follows
//! from was seen, and nothing that is looked for is ever taken back.

use std::collections::HashSet;

use rusqlite::{Connection, params};
use tidegate_durable::{Store, StoreError};

use super::bank::Bank;
use crate::support::checks::{self, Check};
use crate::support::{Shard, unix_ms};

/// Violations listed per check; one is bad enough.
const MAX_LISTED: usize = 20;

/// Transfers looked at together.
const PAGE: u32 = 500;

/// How long after its deadline an open transfer is still nobody's fault: recovery's rounds and longest waiting time.
const RECOVERY_MS: i64 = 120_000;

/// What must hold inside one file.
const CHECKS: &[Check] = &[
    (
        "I4: the ledger does not add up to the balance of account",
        "SELECT a.id FROM accounts a WHERE a.available + a.frozen <> (SELECT coalesce(sum(CASE l.kind WHEN 'DEBIT'
         THEN -l.amount ELSE l.amount END), 0) FROM ledger l WHERE l.account = a.id)",
    ),
    (
        "I4: frozen or incoming is not the sum of open tries of account",
        "WITH open AS (SELECT t.account, t.branch, sum(t.amount) AS amount FROM barrier t WHERE t.op = 'TRY'
             AND t.reason = 'TRY' AND NOT EXISTS (SELECT 1 FROM barrier e WHERE e.gid = t.gid AND e.branch = t.branch
             AND e.op <> 'TRY') GROUP BY t.account, t.branch)
         SELECT a.id FROM accounts a WHERE
         a.frozen <> coalesce((SELECT amount FROM open WHERE account = a.id AND branch = 'payer'), 0) OR
         a.incoming <> coalesce((SELECT amount FROM open WHERE account = a.id AND branch = 'payee'), 0)",
    ),
    (
        "I4: deposit that is not in the ledger, or the other way round",
        "SELECT d.deposit FROM deposits d LEFT JOIN ledger l ON l.gid = d.deposit AND l.account = d.account AND
         l.kind = 'DEPOSIT' WHERE l.amount IS NOT d.amount
         UNION ALL SELECT l.gid FROM ledger l WHERE l.kind = 'DEPOSIT' AND NOT EXISTS
         (SELECT 1 FROM deposits d WHERE d.account = l.account AND d.deposit = l.gid)",
    ),
    (
        "I4: ledger entry without a confirm, or the other way round",
        "SELECT l.gid FROM ledger l WHERE l.kind <> 'DEPOSIT' AND NOT EXISTS (SELECT 1 FROM barrier b
         WHERE b.gid = l.gid AND b.branch = CASE l.kind WHEN 'DEBIT' THEN 'payer' ELSE 'payee' END
         AND b.op = 'CONFIRM' AND b.account = l.account)
         UNION ALL SELECT b.gid FROM barrier b WHERE b.op = 'CONFIRM' AND NOT EXISTS (SELECT 1 FROM ledger l
         WHERE l.gid = b.gid AND l.account = b.account AND l.kind = CASE b.branch WHEN 'payer' THEN 'DEBIT'
         ELSE 'CREDIT' END)",
    ),
    (
        "I9: branch that was both confirmed and cancelled",
        "SELECT b.gid FROM barrier b JOIN barrier c ON c.gid = b.gid AND c.branch = b.branch AND c.op = 'CANCEL'
         WHERE b.op = 'CONFIRM'",
    ),
    (
        "I9: not at its end long after the deadline",
        "SELECT gid FROM tcc WHERE state IN ('TRYING', 'CONFIRMING', 'CANCELLING') AND created_ms < :before
         UNION ALL SELECT t.gid FROM barrier t WHERE t.op = 'TRY' AND t.reason = 'TRY' AND t.at_ms < :before AND NOT EXISTS
         (SELECT 1 FROM barrier e WHERE e.gid = t.gid AND e.branch = t.branch AND e.op <> 'TRY')",
    ),
];

/// All violations of I4 and I9 in words; empty when everything adds up.
///
/// # Errors
/// When a file cannot be read.
pub async fn violations(bank: &Bank) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    let abandoned_ms = unix_ms() - bank.try_within_ms() - RECOVERY_MS;
    for (file, store) in bank.stores.iter().enumerate() {
        found.extend(store.read(move |connection| within(connection, abandoned_ms)).await?);
        decided(bank, store, &mut found).await?;
        credited(bank, file, &mut found).await?;
    }
    Ok(found)
}

/// The checks that need one file only.
pub(super) fn within(connection: &Connection, abandoned_ms: i64) -> rusqlite::Result<Vec<String>> {
    checks::violations(connection, CHECKS, abandoned_ms)
}

/// A decided transfer and where each half of it must be found.
struct Decided {
    gid: String,
    payer: String,
    payee: String,
    amount: i64,
    confirmed: bool,
}

/// Every transfer that was final when it was read must be final at both branches when those are read afterwards.
async fn decided(bank: &Bank, store: &Store, found: &mut Vec<String>) -> Result<(), StoreError> {
    let mut after = String::new();
    loop {
        let from = std::mem::take(&mut after);
        let page = store.read(move |connection| final_page(connection, &from)).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.gid);
        for half in ["payer", "payee"] {
            // Those of one file are asked for together.
            let mut by_file: Vec<Vec<(String, String, i64, bool)>> = vec![Vec::new(); bank.stores.len()];
            for one in &page {
                let account = if half == "payer" { &one.payer } else { &one.payee };
                // A payee that is no number was never asked.
                if let Some(shard) = Shard::of_number(account) {
                    let wanted = (one.gid.clone(), account.clone(), one.amount, one.confirmed);
                    by_file[bank.files.of(shard)].push(wanted);
                }
            }
            for (file, wanted) in by_file.into_iter().enumerate().filter(|(_, wanted)| !wanted.is_empty()) {
                let wrong = bank.stores[file].read(move |connection| not_followed(connection, half, &wanted)).await?;
                found.extend(
                    wrong.into_iter().map(|gid| format!("I9: the {half} has not followed the decision: {gid}")),
                );
            }
        }
    }
}

fn final_page(connection: &Connection, after: &str) -> rusqlite::Result<Vec<Decided>> {
    let sql = "SELECT gid, payer, payee, amount, state = 'CONFIRMED' FROM tcc
        WHERE gid > ?1 AND state IN ('CONFIRMED', 'CANCELLED') ORDER BY gid LIMIT ?2";
    let decided = |row: &rusqlite::Row<'_>| {
        Ok(Decided {
            gid: row.get(0)?,
            payer: row.get(1)?,
            payee: row.get(2)?,
            amount: row.get(3)?,
            confirmed: row.get(4)?,
        })
    };
    connection.prepare_cached(sql)?.query_map(params![after, PAGE], decided)?.collect()
}

/// Those whose entry is missing or wrong, is there without a right, or whose try is still open.
fn not_followed(
    connection: &Connection,
    half: &str,
    wanted: &[(String, String, i64, bool)],
) -> rusqlite::Result<Vec<String>> {
    let kind = if half == "payer" { "DEBIT" } else { "CREDIT" };
    let mut entry = connection
        .prepare_cached("SELECT coalesce(sum(amount), 0) FROM ledger WHERE gid = ?1 AND account = ?2 AND kind = ?3")?;
    let mut open = connection.prepare_cached(
        "SELECT coalesce(sum(op = 'TRY' AND reason = 'TRY'), 0) > coalesce(sum(op <> 'TRY'), 0)
         FROM barrier WHERE gid = ?1 AND branch = ?2",
    )?;
    let mut wrong = Vec::new();
    for (gid, account, amount, confirmed) in wanted {
        let booked: i64 = entry.query_row(params![gid, account, kind], |row| row.get(0))?;
        let open: bool = open.query_row(params![gid, half], |row| row.get(0))?;
        let expected = if *confirmed { *amount } else { 0 };
        if (booked != expected || open) && wrong.len() < MAX_LISTED {
            wrong.push(gid.clone());
        }
    }
    Ok(wrong)
}

/// Every credit that was there when it was read must belong to a transfer that is decided when that is read afterwards.
async fn credited(bank: &Bank, file: usize, found: &mut Vec<String>) -> Result<(), StoreError> {
    let mut after = 0;
    loop {
        let page: Vec<(i64, String)> = bank.stores[file]
            .read(move |connection| {
                let sql = "SELECT seq, gid FROM ledger WHERE seq > ?1 AND kind = 'CREDIT' ORDER BY seq LIMIT ?2";
                connection
                    .prepare_cached(sql)?
                    .query_map(params![after, PAGE], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = *last;
        let mut by_file: Vec<HashSet<String>> = vec![HashSet::new(); bank.stores.len()];
        for (_, gid) in page {
            // What is no number of ours belongs to another coordinator, which has its own invariants.
            if let Some(shard) = Shard::of_number(&gid) {
                by_file[bank.files.of(shard)].insert(gid);
            }
        }
        for (home, gids) in by_file.into_iter().enumerate().filter(|(_, gids)| !gids.is_empty()) {
            let wrong = bank.stores[home].read(move |connection| undecided(connection, &gids)).await?;
            found.extend(wrong.into_iter().map(|gid| format!("I4: credit of a transfer that is not decided: {gid}")));
        }
    }
}

fn undecided(connection: &Connection, gids: &HashSet<String>) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM tcc WHERE gid = ?1 AND state IN ('CONFIRMING', 'CONFIRMED'))";
    let mut statement = connection.prepare_cached(sql)?;
    let mut wrong = Vec::new();
    for gid in gids {
        if statement.query_row([gid], |row| row.get(0))? && wrong.len() < MAX_LISTED {
            wrong.push(gid.clone());
        }
    }
    Ok(wrong)
}
