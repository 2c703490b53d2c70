//! The rows of the outbox and of its consumers; every function runs inside one operation of a writer.

use std::time::Duration;

use rusqlite::{Connection, Row, params};

/// A migration for files that produce or consume events.
pub const SCHEMA: &str = "
CREATE TABLE outbox (
    id TEXT PRIMARY KEY,
    topic TEXT NOT NULL CHECK (topic IN ('order_processing', 'inventory_update', 'notification')),
    key TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'WAITING' CHECK (state IN ('WAITING', 'DEAD', 'PARKED')),
    tries INTEGER NOT NULL DEFAULT 0,
    next_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_due ON outbox (next_ms) WHERE state <> 'PARKED';

-- What consumers of this file have seen.
CREATE TABLE outbox_seen (
    consumer TEXT NOT NULL,
    id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (consumer, id)
) STRICT, WITHOUT ROWID;
";

/// A migration after that one: what was seen long ago is found by its time.
pub const SEEN_BY_TIME: &str = "CREATE INDEX outbox_seen_by_time ON outbox_seen (at_ms);";

/// Units to wait after the first, second, … failure: three retries, then three as a dead letter. One failure more parks.
const WAITS: [u32; 6] = [1, 2, 4, 60, 60, 60];

/// Failures after which an event is a dead letter.
const DEAD_AFTER: usize = 4;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// What happens to an order next.
    OrderProcessing,
    /// Stock that is to be taken or given back.
    InventoryUpdate,
    /// What somebody is to be told.
    Notification,
}

impl Topic {
    /// Its name, the same in the file and outside.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderProcessing => "order_processing",
            Self::InventoryUpdate => "inventory_update",
            Self::Notification => "notification",
        }
    }
}

/// An event on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Names the event; the same for ever and unique over all files, so that consumers can recognise a repetition.
    pub id: String,
    /// Name of the topic.
    pub topic: String,
    /// Whom or what it concerns.
    pub key: String,
    /// JSON.
    pub payload: String,
    /// How often it has been claimed, this time included.
    pub tries: u32,
}

/// Events in a file by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// To be delivered.
    pub waiting: u64,
    /// Failed four times or more, still tried.
    pub dead: u64,
    /// Given up until a person looks at them.
    pub parked: u64,
}

/// Writes an event down, in the transaction of the change it speaks of. A second one with the same id is the same one.
///
/// # Errors
/// When the file refuses; the business transaction must then fail as well.
pub fn push(
    connection: &Connection,
    topic: Topic,
    id: &str,
    key: &str,
    payload: &str,
    now_ms: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO outbox (id, topic, key, payload, next_ms, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![id, topic.as_str(), key, payload, now_ms])?;
    Ok(())
}

/// Takes at most `limit` due events until `lease_ms`, the longest due first. Whoever does not report back by then is
/// taken for dead.
///
/// # Errors
/// When the file refuses.
pub fn claim(connection: &Connection, now_ms: i64, lease_ms: i64, limit: u32) -> rusqlite::Result<Vec<Message>> {
    connection
        .prepare_cached(
            "UPDATE outbox SET next_ms = ?2, tries = tries + 1 WHERE id IN
             (SELECT id FROM outbox WHERE state <> 'PARKED' AND next_ms <= ?1 ORDER BY next_ms LIMIT ?3)
             RETURNING id, topic, key, payload, tries",
        )?
        .query_map(params![now_ms, lease_ms, limit], message)?
        .collect()
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message { id: row.get(0)?, topic: row.get(1)?, key: row.get(2)?, payload: row.get(3)?, tries: row.get(4)? })
}

/// The event has been delivered.
///
/// # Errors
/// When the file refuses; the event is then delivered again after its lease.
pub fn published(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// A delivery has failed: the event comes again, or is parked. `true` when it was parked.
///
/// # Errors
/// When the file refuses; the event then comes again after its lease.
pub fn failed(connection: &Connection, message: &Message, unit: Duration, now_ms: i64) -> rusqlite::Result<bool> {
    let failures = message.tries.max(1) as usize;
    let wait = WAITS.get(failures - 1);
    let state = match wait {
        None => "PARKED",
        Some(_) if failures >= DEAD_AFTER => "DEAD",
        Some(_) => "WAITING",
    };
    let wait_ms = wait.map_or(0, |&steps| i64::try_from((unit * steps).as_millis()).unwrap_or(i64::MAX));
    connection.prepare_cached("UPDATE outbox SET state = ?2, next_ms = ?3 WHERE id = ?1")?.execute(params![
        message.id,
        state,
        now_ms.saturating_add(wait_ms)
    ])?;
    Ok(wait.is_none())
}

/// Makes a parked event due again, as if it were new. `false` when there is none of that id.
///
/// # Errors
/// When the file refuses.
pub fn unpark(connection: &Connection, id: &str, now_ms: i64) -> rusqlite::Result<bool> {
    let sql = "UPDATE outbox SET state = 'WAITING', tries = 0, next_ms = ?2 WHERE id = ?1 AND state = 'PARKED'";
    Ok(connection.prepare_cached(sql)?.execute(params![id, now_ms])? == 1)
}

/// After a start: whoever held a lease is dead, so everything is due.
///
/// # Errors
/// When the file refuses.
pub fn due_now(connection: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    connection.execute("UPDATE outbox SET next_ms = ?1 WHERE state <> 'PARKED' AND next_ms > ?1", [now_ms])?;
    Ok(())
}

/// Whether `consumer` sees this event for the first time; it is noted in the transaction of the effect.
///
/// # Errors
/// When the file refuses; the effect must then not happen.
pub fn first_time(connection: &Connection, consumer: &str, id: &str, now_ms: i64) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO outbox_seen (consumer, id, at_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    Ok(connection.prepare_cached(sql)?.execute(params![consumer, id, now_ms])? == 1)
}

/// Forgets at most `limit` events that were seen before `before_ms` and whose row is gone: nobody sends those again.
/// Answers how many.
///
/// # Errors
/// When the file refuses.
pub fn forget_seen(connection: &Connection, before_ms: i64, limit: u32) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM outbox_seen WHERE (consumer, id) IN (SELECT s.consumer, s.id FROM outbox_seen s
        WHERE s.at_ms < ?1 AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.id = s.id) LIMIT ?2)";
    connection.prepare_cached(sql)?.execute(params![before_ms, limit])
}

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// As of [`Message`].
    pub id: String,
    /// Name of the topic.
    pub topic: String,
    /// Whom or what it concerns.
    pub key: String,
    /// When it was written down, in Unix milliseconds.
    pub created_ms: i64,
}

/// At most `limit` events that were given up, oldest first.
///
/// # Errors
/// When the file cannot be read.
pub fn parked(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<Parked>> {
    let sql = "SELECT id, topic, key, created_ms FROM outbox WHERE state = 'PARKED' ORDER BY created_ms LIMIT ?1";
    connection
        .prepare_cached(sql)?
        .query_map([limit], |row| {
            Ok(Parked { id: row.get(0)?, topic: row.get(1)?, key: row.get(2)?, created_ms: row.get(3)? })
        })?
        .collect()
}

/// How many events there are.
///
/// # Errors
/// When the file cannot be read.
pub fn depth(connection: &Connection) -> rusqlite::Result<Depth> {
    let mut depth = Depth::default();
    let mut statement = connection.prepare_cached("SELECT state, count(*) FROM outbox GROUP BY state")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let count = row.get::<_, i64>(1)?.unsigned_abs();
        match row.get_ref(0)?.as_str().unwrap_or("") {
            "PARKED" => depth.parked = count,
            "DEAD" => depth.dead = count,
            _ => depth.waiting = count,
        }
    }
    Ok(depth)
}
