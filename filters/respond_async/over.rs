//! The rows of what is over: counted, kept for their time, their answers let go where they are too many bytes.

use rusqlite::{Connection, OptionalExtension, params};

use super::rows::{signed, unsigned};

/// What is over is found by filter, and its answers by when they came. A key is found whichever filter it came through: a
/// filter with another name is no reason to carry a request out twice. Every filter that has rows is in `book`, with the
/// settings that it had last.
pub(super) const SCHEMA_4: &str = "
DROP INDEX request_over;
CREATE INDEX request_over ON request (filter, until_ms) WHERE state >= 6;
ALTER TABLE answer ADD COLUMN at_ms INTEGER NOT NULL DEFAULT 0;
UPDATE answer SET at_ms = coalesce((SELECT created_ms FROM request WHERE request.seq = answer.seq), 0);
DROP INDEX request_twin;
CREATE INDEX request_twin ON request (twin) WHERE twin IS NOT NULL;
DROP INDEX answer_size;
CREATE INDEX answer_size ON answer (at_ms, seq, length(sealed)) WHERE sealed IS NOT NULL;
CREATE TABLE book (name TEXT PRIMARY KEY, settings TEXT NOT NULL DEFAULT '') STRICT, WITHOUT ROWID;
INSERT INTO book (name) SELECT DISTINCT filter FROM request;
";

/// Answers that make room for one.
const DROPPED_AT_ONCE: i64 = 64;

/// Rows forgotten in one go: some tens of milliseconds of the writer's time.
pub(super) const PURGED_AT_ONCE: usize = 5_000;

/// What was forgotten.
pub(super) struct Purged {
    /// The keys that are free again.
    pub(super) twins: Vec<Vec<u8>>,
    /// How many records, and how many bytes of answers.
    pub(super) records: usize,
    pub(super) bytes: u64,
    /// There may be more to forget.
    pub(super) more: bool,
}

/// Forgets what is over and old.
pub(super) fn purge(connection: &Connection, filter: &str, now: u64) -> rusqlite::Result<Purged> {
    let sql = "SELECT seq, twin FROM request WHERE filter = ?2 AND state >= 6 AND until_ms <= ?1 LIMIT ?3";
    let rows: Vec<(i64, Option<Vec<u8>>)> = connection
        .prepare_cached(sql)?
        .query_map(params![signed(now), filter, i64::try_from(PURGED_AT_ONCE).unwrap_or(i64::MAX)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut bytes = 0;
    for (seq, _) in &rows {
        let sql = "DELETE FROM answer WHERE seq = ?1 RETURNING coalesce(length(sealed), 0)";
        let size = connection.prepare_cached(sql)?.query_row([seq], |row| row.get::<_, i64>(0)).optional()?;
        bytes += size.unwrap_or(0).unsigned_abs();
        connection.prepare_cached("DELETE FROM request WHERE seq = ?1")?.execute([seq])?;
    }
    let (more, records) = (rows.len() == PURGED_AT_ONCE, rows.len());
    // Two filters may have had one key before keys were known across them.
    let mut others = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM request WHERE twin = ?1)")?;
    let mut twins = Vec::with_capacity(records);
    for twin in rows.into_iter().filter_map(|(_, twin)| twin) {
        if !others.query_row([&twin], |row| row.get::<_, bool>(0))? {
            twins.push(twin);
        }
    }
    Ok(Purged { more, records, bytes, twins })
}

/// How many records are over, and the bytes of their answers.
pub(super) fn over(connection: &Connection) -> rusqlite::Result<(usize, u64)> {
    let records = "SELECT count(*) FROM request WHERE state >= 6";
    let bytes = "SELECT coalesce(sum(length(sealed)), 0) FROM answer INDEXED BY answer_size WHERE sealed IS NOT NULL";
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    Ok((usize::try_from(number(records)?).unwrap_or(0), number(bytes)?.unsigned_abs()))
}

/// How many records of a filter are over.
pub(super) fn over_of(connection: &Connection, filter: &str) -> rusqlite::Result<usize> {
    let sql = "SELECT count(*) FROM request WHERE filter = ?1 AND state >= 6";
    connection.query_row(sql, [filter], |row| row.get::<_, i64>(0)).map(|count| usize::try_from(count).unwrap_or(0))
}

/// When the next record may be forgotten; `None` when none is over.
pub(super) fn next_forgotten(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT min((SELECT min(until_ms) FROM request WHERE filter = book.name AND state >= 6)) FROM book";
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, Option<i64>>(0))?.map(unsigned))
}

/// Lets answers go, the oldest first, until `excess` bytes are free or many are gone; the bytes that became free. Their
/// records stay.
pub(super) fn drop_answers(connection: &Connection, excess: u64) -> rusqlite::Result<u64> {
    let sql = "SELECT seq, length(sealed) FROM answer INDEXED BY answer_size WHERE sealed IS NOT NULL
               ORDER BY at_ms, seq LIMIT ?1";
    let mut oldest = connection.prepare_cached(sql)?;
    let oldest = oldest.query_map([DROPPED_AT_ONCE], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    let mut freed = 0;
    for (seq, size) in oldest.collect::<rusqlite::Result<Vec<_>>>()? {
        if freed >= excess {
            break;
        }
        connection.prepare_cached("UPDATE answer SET sealed = NULL, whole = 0 WHERE seq = ?1")?.execute([seq])?;
        freed += size.unsigned_abs();
    }
    Ok(freed)
}

/// Notes that a filter has rows, or may get some.
pub(super) fn enrol(connection: &Connection, filter: &str) -> rusqlite::Result<()> {
    connection.execute("INSERT OR IGNORE INTO book (name) VALUES (?1)", [filter]).map(|_| ())
}

/// Notes a filter's settings.
pub(super) fn describe(connection: &Connection, filter: &str, settings: &str) -> rusqlite::Result<()> {
    let sql = "INSERT INTO book VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET settings = ?2";
    connection.execute(sql, [filter, settings]).map(|_| ())
}

/// The filters that have rows, each with the settings that it had last. Others are struck off, but for those that are
/// `open`.
pub(super) fn books(connection: &Connection, open: impl Fn(&str) -> bool) -> rusqlite::Result<Vec<(String, String)>> {
    let sql = "SELECT name, settings, EXISTS (SELECT 1 FROM request WHERE filter = book.name AND state < 6)
                   OR EXISTS (SELECT 1 FROM request WHERE filter = book.name AND state >= 6) FROM book";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let all: Vec<(String, String, bool)> =
        connection.prepare(sql)?.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
    let mut owing = Vec::new();
    for (name, settings, owes) in all {
        if owes {
            owing.push((name, settings));
        } else if !open(&name) {
            // It may have got a row meanwhile.
            let sql = "DELETE FROM book WHERE name = ?1
                AND NOT EXISTS (SELECT 1 FROM request WHERE filter = ?1 AND state < 6)
                AND NOT EXISTS (SELECT 1 FROM request WHERE filter = ?1 AND state >= 6)";
            connection.execute(sql, [&name])?;
        }
    }
    Ok(owing)
}
