//! What account holders are told: the consumer of the events of transfers.

use rusqlite::{Connection, params};
use serde_json::Value;

use crate::outbox::{self, Message};

/// Under which the consumer notes what it has seen.
const CONSUMER: &str = "notices";

/// Notices that are shown, the newest ones.
const SHOWN: u32 = 50;

/// Why an event cannot be understood, or not now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the event has no readable payload")]
    Unreadable,
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Writes the notice an event stands for, once, however often the event comes.
pub(super) fn take_in(connection: &Connection, message: &Message, now_ms: i64) -> Result<(), Failure> {
    if !outbox::first_time(connection, CONSUMER, &message.id, now_ms)? {
        return Ok(());
    }
    let event: Value = serde_json::from_str(&message.payload).map_err(|_| Failure::Unreadable)?;
    let member = |name: &str| event[name].as_str();
    let (Some(gid), Some(status), Some(payer), Some(amount), Some(currency)) =
        (member("gid"), member("status"), member("from"), event["amount"].as_i64(), member("currency"))
    else {
        return Err(Failure::Unreadable);
    };
    let text = match (status, payer == message.key) {
        ("CONFIRMED", true) => format!("{amount} {currency} sent"),
        ("CONFIRMED", false) => format!("{amount} {currency} received"),
        _ => format!("{amount} {currency} not sent: {}", member("reason").unwrap_or("CANCELLED")),
    };
    connection
        .prepare_cached("INSERT INTO notices (account, gid, text, at_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![message.key, gid, text, now_ms])?;
    Ok(())
}

/// The newest notices of an account, newest first: the number of the transfer and the text.
pub(super) fn newest(connection: &Connection, account: &str) -> rusqlite::Result<Vec<(String, String)>> {
    connection
        .prepare_cached("SELECT gid, text FROM notices WHERE account = ?1 ORDER BY seq DESC LIMIT ?2")?
        .query_map(params![account, SHOWN], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
