//! The rows of accounts, deposits and the ledger; every function runs inside one operation of a writer.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::model::{Account, Entry, Refusal};

/// Most that one account may hold or be promised, in minor units. Sums of it stay exact everywhere, in JSON too.
pub(super) const MAX_BALANCE: i64 = 1_000_000_000_000_000;

const COLUMNS: &str = "id, user_id, currency, status = 'OPEN', available, frozen, incoming, version";

fn account(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        id: row.get(0)?,
        user: row.get(1)?,
        currency: row.get(2)?,
        open: row.get(3)?,
        available: row.get(4)?,
        frozen: row.get(5)?,
        incoming: row.get(6)?,
        version: row.get(7)?,
    })
}

/// The account with this id.
pub(super) fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<Account>> {
    let sql = format!("SELECT {COLUMNS} FROM accounts WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([id], account).optional()
}

/// The account with this id, which must exist.
pub(super) fn get(connection: &Connection, id: &str) -> Result<Account, Refusal> {
    find(connection, id)?.ok_or(Refusal::UnknownAccount)
}

/// The account with this id, which must exist and be open.
pub(super) fn get_open(connection: &Connection, id: &str) -> Result<Account, Refusal> {
    let account = get(connection, id)?;
    if account.open { Ok(account) } else { Err(Refusal::AccountClosed) }
}

/// Opens the account of a user in a currency, or finds it (then the first part is `false`). A closed one is open again.
pub(super) fn open(
    connection: &Connection,
    id: &str,
    user: &str,
    currency: &str,
    now_ms: i64,
) -> Result<(bool, Account), Refusal> {
    let sql = format!("SELECT {COLUMNS} FROM accounts WHERE user_id = ?1 AND currency = ?2");
    let known = connection.prepare_cached(&sql)?.query_row([user, currency], account).optional()?;
    if let Some(known) = known {
        connection
            .prepare_cached("UPDATE accounts SET status = 'OPEN' WHERE id = ?1 AND status = 'CLOSED'")?
            .execute([&known.id])?;
        return Ok((!known.open, get(connection, &known.id)?));
    }
    let made = connection
        .prepare_cached(
            "INSERT INTO accounts (id, user_id, currency, created_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?
        .execute(params![id, user, currency, now_ms])?;
    if made == 0 {
        return Err(Refusal::NumberTaken);
    }
    Ok((true, get(connection, id)?))
}

/// Closes an empty account, so that nobody can be paid there any more.
pub(super) fn close(connection: &Connection, id: &str) -> Result<Account, Refusal> {
    let found = get(connection, id)?;
    if found.available + found.frozen + found.incoming > 0 {
        return Err(Refusal::NotEmpty);
    }
    connection.prepare_cached("UPDATE accounts SET status = 'CLOSED' WHERE id = ?1")?.execute([id])?;
    get(connection, id)
}

/// Checks that an account can be promised `amount` more.
pub(super) fn check_room(account: &Account, amount: i64) -> Result<(), Refusal> {
    let held = account.available + account.frozen + account.incoming;
    if amount > MAX_BALANCE - held { Err(Refusal::AccountFull) } else { Ok(()) }
}

/// Puts money into an account, once per idempotency key. Answers whether that was now, and the number of the deposit.
pub(super) fn deposit(
    connection: &Connection,
    account: &str,
    idem_key: &str,
    deposit: &str,
    amount: i64,
    now_ms: i64,
) -> Result<(bool, String), Refusal> {
    let earlier: Option<(String, i64)> = connection
        .prepare_cached("SELECT deposit, amount FROM deposits WHERE account = ?1 AND idem_key = ?2")?
        .query_row([account, idem_key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match earlier {
        Some((number, same)) if same == amount => return Ok((false, number)),
        Some(_) => return Err(Refusal::KeyReused),
        None => {}
    }
    check_room(&get_open(connection, account)?, amount)?;
    connection
        .prepare_cached("INSERT INTO deposits VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![account, idem_key, deposit, amount, now_ms])?;
    connection
        .prepare_cached("UPDATE accounts SET available = available + ?2, version = version + 1 WHERE id = ?1")?
        .execute(params![account, amount])?;
    book(connection, deposit, account, "DEPOSIT", amount, now_ms)?;
    Ok((true, deposit.to_owned()))
}

/// Adds to the ledger.
pub(super) fn book(
    connection: &Connection,
    gid: &str,
    account: &str,
    kind: &str,
    amount: i64,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO ledger (gid, account, kind, amount, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![gid, account, kind, amount, now_ms])?;
    Ok(())
}

/// At most `limit` entries of an account behind `cursor`, oldest first.
pub(super) fn entries(connection: &Connection, account: &str, cursor: i64, limit: u32) -> rusqlite::Result<Vec<Entry>> {
    connection
        .prepare_cached(
            "SELECT seq, gid, kind, amount, at_ms FROM ledger WHERE account = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        )?
        .query_map(params![account, cursor, limit], |row| {
            Ok(Entry { seq: row.get(0)?, gid: row.get(1)?, kind: row.get(2)?, amount: row.get(3)?, at_ms: row.get(4)? })
        })?
        .collect()
}
