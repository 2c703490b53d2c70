//! What runs have found, in a file of its own: reports, items and what became of them, and what the next run must know.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom, Write};

use csv::StringRecord;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::RunError;
use super::day::Day;
use super::model::{Carried, Category, Channel, Why};
use super::report::{COLUMNS, ItemWriter};

/// Name of the file inside the data folder.
pub(super) const FILE: &str = "reconciliation.sqlite";

/// Scripts in order; the file remembers how many it has had.
pub(super) const MIGRATIONS: &[&str] = &["
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    channel TEXT NOT NULL,
    day TEXT NOT NULL,
    report TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_of_channel ON runs (channel, day, at_ms);

-- The fields are those of the CSV file, as texts.
CREATE TABLE items (
    run TEXT NOT NULL REFERENCES runs (id),
    n INTEGER NOT NULL,
    category TEXT NOT NULL,
    out_trade_no TEXT NOT NULL,
    trade_no TEXT NOT NULL,
    bill_amount TEXT NOT NULL,
    our_amount TEXT NOT NULL,
    bill_time TEXT NOT NULL,
    our_time TEXT NOT NULL,
    our_status TEXT NOT NULL,
    action TEXT NOT NULL,
    detail TEXT NOT NULL,
    outcome TEXT,               -- of the last attempt to repair it
    resolution TEXT,            -- why nothing is left to be done
    resolved_ms INTEGER,
    PRIMARY KEY (run, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE carried (
    run TEXT NOT NULL REFERENCES runs (id),
    out_trade_no TEXT NOT NULL,
    why TEXT NOT NULL,
    trade_no TEXT NOT NULL,
    amount INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (run, out_trade_no, why)
) STRICT, WITHOUT ROWID;

-- Charges that should be paid back, once a person agrees.
CREATE TABLE refund_proposals (
    run TEXT NOT NULL,
    n INTEGER NOT NULL,
    out_trade_no TEXT NOT NULL,
    trade_no TEXT NOT NULL,
    amount INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    FOREIGN KEY (run, n) REFERENCES items (run, n),
    PRIMARY KEY (run, n)
) STRICT, WITHOUT ROWID;
"];

/// An item with what became of it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) n: i64,
    /// The fields of the CSV file, without the number.
    pub(super) fields: Vec<String>,
    pub(super) outcome: Option<String>,
    pub(super) resolution: Option<String>,
}

impl Stored {
    /// A field by the name of its column.
    pub(super) fn field(&self, name: &str) -> &str {
        let at = COLUMNS[1..].iter().position(|column| *column == name);
        at.and_then(|at| self.fields.get(at)).map_or("", String::as_str)
    }
}

/// The report of a run.
pub(super) fn report(connection: &Connection, id: &str) -> rusqlite::Result<Option<String>> {
    connection.prepare_cached("SELECT report FROM runs WHERE id = ?1")?.query_row([id], |row| row.get(0)).optional()
}

/// What the last run of an earlier day has left, by number.
pub(super) fn carried_before(connection: &Connection, channel: Channel, day: Day) -> rusqlite::Result<Vec<Carried>> {
    let sql = "SELECT out_trade_no, why, trade_no, amount, at_ms FROM carried WHERE run = (SELECT id FROM runs
        WHERE channel = ?1 AND day < ?2 ORDER BY day DESC, at_ms DESC, id LIMIT 1) ORDER BY out_trade_no, why";
    let carried = |row: &Row<'_>| {
        let why: String = row.get(1)?;
        let why = Why::parse(&why).ok_or(rusqlite::types::FromSqlError::InvalidType)?;
        Ok(Carried { out_trade_no: row.get(0)?, why, trade_no: row.get(2)?, amount: row.get(3)?, at_ms: row.get(4)? })
    };
    connection.prepare(sql)?.query_map(params![channel.as_str(), day.to_string()], carried)?.collect()
}

/// What a run has found, on its way into the file.
pub(super) struct Found {
    pub(super) id: String,
    pub(super) channel: Channel,
    pub(super) day: Day,
    pub(super) report: String,
    /// Items as CSV.
    pub(super) items: File,
    pub(super) carried: Vec<Carried>,
}

/// Keeps a run, all of it or nothing. What is there under the same id stays: the answer is its report.
pub(super) fn save(connection: &Connection, mut found: Found, now_ms: i64) -> Result<String, RunError> {
    if let Some(report) = report(connection, &found.id)? {
        return Ok(report);
    }
    connection.execute(
        "INSERT INTO runs (id, channel, day, report, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![found.id, found.channel.as_str(), found.day.to_string(), found.report, now_ms],
    )?;
    found.items.seek(SeekFrom::Start(0))?;
    let mut insert = connection.prepare(
        "INSERT INTO items (n, category, out_trade_no, trade_no, bill_amount, our_amount, bill_time, our_time, our_status,
         action, detail, run) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    let mut items = csv::Reader::from_reader(BufReader::new(found.items));
    for record in items.records() {
        let record = record.map_err(std::io::Error::other)?;
        insert.execute(rusqlite::params_from_iter(record.iter().chain([found.id.as_str()])))?;
    }
    let mut insert = connection.prepare("INSERT INTO carried VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for one in &found.carried {
        let why = one.why.as_str();
        insert.execute(params![found.id, one.out_trade_no, why, one.trade_no, one.amount, one.at_ms])?;
    }
    Ok(found.report)
}

/// At most `limit` items of a run behind `after`, of one category or of all.
pub(super) fn items(
    connection: &Connection,
    id: &str,
    category: Option<Category>,
    after: i64,
    limit: u32,
) -> rusqlite::Result<Vec<Stored>> {
    let sql = format!(
        "SELECT {}, outcome, resolution FROM items WHERE run = ?1 AND n > ?2 AND (?3 IS NULL OR category = ?3)
         ORDER BY n LIMIT ?4",
        COLUMNS.join(", ")
    );
    let category = category.map(Category::as_str);
    connection.prepare_cached(&sql)?.query_map(params![id, after, category, limit], stored)?.collect()
}

/// Items of a run that can be repaired and are not resolved.
pub(super) fn repairable(connection: &Connection, id: &str, after: i64, limit: u32) -> rusqlite::Result<Vec<Stored>> {
    let sql = format!(
        "SELECT {}, outcome, resolution FROM items WHERE run = ?1 AND n > ?2 AND resolution IS NULL
         AND action IN ('redrive', 'propose_refund') ORDER BY n LIMIT ?3",
        COLUMNS.join(", ")
    );
    connection.prepare_cached(&sql)?.query_map(params![id, after, limit], stored)?.collect()
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let last = COLUMNS.len();
    Ok(Stored {
        n: row.get(0)?,
        fields: (1..last).map(|at| row.get(at)).collect::<Result<_, _>>()?,
        outcome: row.get(last)?,
        resolution: row.get(last + 1)?,
    })
}

/// Nothing is left to be done about an item. `None` when there is no such item, else why nothing was left: the first
/// resolution stays.
pub(super) fn resolve(
    connection: &Connection,
    id: &str,
    n: i64,
    resolution: &str,
    now_ms: i64,
) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached(
            "UPDATE items SET resolution = ?3, resolved_ms = ?4 WHERE run = ?1 AND n = ?2 AND resolution IS NULL",
        )?
        .execute(params![id, n, resolution, now_ms])?;
    connection
        .prepare_cached("SELECT resolution FROM items WHERE run = ?1 AND n = ?2")?
        .query_row(params![id, n], |row| row.get(0))
        .optional()
}

/// What came of an attempt to repair an item.
pub(super) fn set_outcome(connection: &Connection, id: &str, n: i64, outcome: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE items SET outcome = ?3 WHERE run = ?1 AND n = ?2")?
        .execute(params![id, n, outcome])?;
    Ok(())
}

/// Proposes to pay a charge back. Twice is once.
pub(super) fn propose_refund(connection: &Connection, id: &str, item: &Stored, now_ms: i64) -> rusqlite::Result<()> {
    let amount: i64 = item.field("bill_amount").parse().unwrap_or(0);
    connection
        .prepare_cached(
            "INSERT INTO refund_proposals (run, n, out_trade_no, trade_no, amount, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![id, item.n, item.field("out_trade_no"), item.field("trade_no"), amount, now_ms])?;
    set_outcome(connection, id, item.n, "a refund is proposed")
}

/// Writes all items of a run as CSV.
pub(super) fn write_items(connection: &Connection, id: &str, target: impl Write) -> Result<(), RunError> {
    let mut writer = ItemWriter::new(target)?;
    let sql = format!("SELECT {} FROM items WHERE run = ?1 ORDER BY n", COLUMNS.join(", "));
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        let mut record = StringRecord::new();
        record.push_field(&row.get::<_, i64>(0)?.to_string());
        for at in 1..COLUMNS.len() {
            record.push_field(row.get_ref(at)?.as_str().unwrap_or(""));
        }
        writer.copy(&record)?;
    }
    writer.finish()?.flush()?;
    Ok(())
}
