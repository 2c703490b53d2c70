//! The rows of deferred requests. A small row for what must be known of each, so that a million are read in seconds;
//! bodies and answers, sealed, in tables of their own.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::core::{Class, Entry, Id, State};

/// `seq` orders the line and is never given twice.
pub(super) const SCHEMA: &str = "
CREATE TABLE request (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          BLOB NOT NULL UNIQUE,
    filter      TEXT NOT NULL,
    twin        BLOB,
    fingerprint BLOB NOT NULL,
    owner       BLOB NOT NULL,
    party       INTEGER NOT NULL,
    route       TEXT NOT NULL,
    upstream    TEXT NOT NULL,
    class       INTEGER NOT NULL,
    state       INTEGER NOT NULL,
    tries       INTEGER NOT NULL DEFAULT 0,
    doubt       INTEGER NOT NULL DEFAULT 0,
    version     INTEGER NOT NULL DEFAULT 1,
    size        INTEGER NOT NULL,
    created_ms  INTEGER NOT NULL,
    due_ms      INTEGER NOT NULL DEFAULT 0,
    expires_ms  INTEGER NOT NULL,
    until_ms    INTEGER NOT NULL DEFAULT 0,
    status      INTEGER,
    why         TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX request_twin ON request (filter, twin) WHERE twin IS NOT NULL;
CREATE INDEX request_live ON request (filter, seq) WHERE state < 6;
CREATE INDEX request_over ON request (until_ms) WHERE state >= 6;
CREATE TABLE letter (seq INTEGER PRIMARY KEY, sealed BLOB NOT NULL) STRICT;
CREATE TABLE answer (seq INTEGER PRIMARY KEY, sealed BLOB) STRICT;
";

/// Whether an answer has its body: asked for without opening what is sealed.
pub(super) const SCHEMA_2: &str = "
ALTER TABLE answer ADD COLUMN whole INTEGER NOT NULL DEFAULT 1;
UPDATE answer SET whole = sealed IS NOT NULL;
";

/// Which answers there are, the oldest first, and how long each is.
pub(super) const SCHEMA_3: &str = "
CREATE INDEX answer_size ON answer (seq, length(sealed)) WHERE sealed IS NOT NULL;
";

/// A request that is about to be promised.
pub(super) struct New {
    pub(super) id: Id,
    pub(super) filter: String,
    pub(super) twin: Option<[u8; 32]>,
    pub(super) fingerprint: [u8; 32],
    pub(super) owner: u128,
    pub(super) party: u64,
    pub(super) route: String,
    pub(super) upstream: String,
    pub(super) class: Class,
    pub(super) size: u32,
    pub(super) created: u64,
    pub(super) expires: u64,
    pub(super) letter: Vec<u8>,
}

/// What became of an append.
#[derive(Debug)]
pub(super) enum Appended {
    New(i64),
    Known(Twin),
}

/// One row as people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Number, name, owner, state and times. The lane is none.
    pub entry: Entry,
    /// Its route.
    pub route: String,
    /// Its upstream.
    pub upstream: String,
    /// Status of its answer; `None` before there is one.
    pub status: Option<u16>,
    /// Whether its answer is there as a whole.
    pub kept: bool,
    /// What came of the last try, for people.
    pub why: String,
}

const COLUMNS: &str =
    "seq, id, owner, party, class, state, tries, doubt, version, size, created_ms, due_ms, expires_ms,
                       upstream, route, status, why";
/// Whether the answer's body was kept; the body's size is not asked for.
const KEPT: &str = "EXISTS (SELECT 1 FROM answer WHERE answer.seq = request.seq AND answer.whole)";

fn wide(bytes: &[u8]) -> u128 {
    bytes.try_into().map_or(0, u128::from_be_bytes)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Milliseconds as SQLite keeps them.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        seq: row.get(0)?,
        id: Id(wide(row.get_ref(1)?.as_blob()?)),
        owner: wide(row.get_ref(2)?.as_blob()?),
        party: row.get::<_, i64>(3)?.cast_unsigned(),
        class: Class::numbered(row.get(4)?),
        lane: u16::MAX,
        // A state of a later version is one that nobody here may touch.
        state: State::numbered(row.get(5)?).unwrap_or(State::Parked),
        tries: row.get(6)?,
        doubt: row.get(7)?,
        looks: 0,
        version: row.get(8)?,
        size: row.get(9)?,
        created: unsigned(row.get(10)?),
        due: unsigned(row.get(11)?),
        expires: unsigned(row.get(12)?),
    })
}

fn known(row: &Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known {
        entry: entry(row)?,
        upstream: row.get(13)?,
        route: row.get(14)?,
        status: row.get(15)?,
        why: row.get(16)?,
        kept: row.get(17)?,
    })
}

/// Writes a request down, unless one with its key is there.
pub(super) fn append(connection: &Connection, new: &New) -> rusqlite::Result<Appended> {
    if let Some(key) = new.twin
        && let Some(twin) = twin_of(connection, &key)?
    {
        if !twin.is_free() {
            return Ok(Appended::Known(twin));
        }
        // Nothing was carried out for it.
        connection.prepare_cached("UPDATE request SET twin = NULL WHERE seq = ?1")?.execute([twin.seq])?;
    }
    let sql = "INSERT INTO request (id, filter, twin, fingerprint, owner, party, route, upstream, class, state, size,
                                    created_ms, expires_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10, ?11, ?12)";
    connection.prepare_cached(sql)?.execute(params![
        new.id.0.to_be_bytes(),
        new.filter,
        new.twin.as_ref().map(<[u8; 32]>::as_slice),
        new.fingerprint.as_slice(),
        new.owner.to_be_bytes(),
        new.party.cast_signed(),
        new.route,
        new.upstream,
        new.class as i64,
        new.size,
        signed(new.created),
        signed(new.expires),
    ])?;
    let seq = connection.last_insert_rowid();
    connection.prepare_cached("INSERT INTO letter VALUES (?1, ?2)")?.execute(params![seq, new.letter])?;
    Ok(Appended::New(seq))
}

/// The record of a key.
#[derive(Debug)]
pub(super) struct Twin {
    seq: i64,
    pub(super) id: Id,
    pub(super) fingerprint: Vec<u8>,
    state: State,
}

impl Twin {
    /// Nothing was carried out for it, so the key may be used again.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.state, State::Cancelled | State::Expired)
    }
}

/// The record of a key; one that keeps the key before one that does not.
pub(super) fn twin_of(connection: &Connection, twin: &[u8; 32]) -> rusqlite::Result<Option<Twin>> {
    let sql = "SELECT seq, id, fingerprint, state FROM request WHERE twin = ?1 ORDER BY state >= 7, seq LIMIT 1";
    let found = connection.prepare_cached(sql)?.query_row([twin.as_slice()], |row| {
        let state = State::numbered(row.get(3)?).unwrap_or(State::Parked);
        let id = Id(wide(row.get_ref(1)?.as_blob()?));
        Ok(Twin { seq: row.get(0)?, id, fingerprint: row.get(2)?, state })
    });
    found.optional()
}

/// Records are about to be sent.
pub(super) fn running(connection: &Connection, entries: &[(i64, u32)]) -> rusqlite::Result<()> {
    let mut update = connection.prepare_cached("UPDATE request SET state = 1, version = ?2 WHERE seq = ?1")?;
    for (seq, version) in entries {
        update.execute(params![seq, version])?;
    }
    Ok(())
}

/// A record has changed.
pub(super) struct Change {
    pub(super) entry: Entry,
    /// When it may be forgotten, if it is over.
    pub(super) until: u64,
    /// This moment, in milliseconds since 1970.
    pub(super) now: u64,
    pub(super) status: Option<u16>,
    /// Whether the answer of one that is done has its body.
    pub(super) whole: bool,
    /// That answer, sealed.
    pub(super) answer: Option<Vec<u8>>,
    pub(super) why: String,
}

pub(super) fn change(connection: &Connection, change: &Change) -> rusqlite::Result<()> {
    let Change { entry, until, now, status, whole, answer, why } = change;
    let sql = "UPDATE request SET state = ?2, tries = ?3, doubt = ?4, version = ?5, due_ms = ?6, expires_ms = ?7,
                                  until_ms = ?8, status = ?9, why = ?10 WHERE seq = ?1";
    connection.prepare_cached(sql)?.execute(params![
        entry.seq,
        entry.state.number(),
        entry.tries,
        entry.doubt,
        entry.version,
        signed(entry.due),
        signed(entry.expires),
        signed(*until),
        status,
        why,
    ])?;
    if entry.state == State::Done {
        let sql = "INSERT OR REPLACE INTO answer (seq, whole, sealed, at_ms) VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(sql)?.execute(params![entry.seq, whole, answer, signed(*now)])?;
    }
    if entry.state.is_over() {
        connection.prepare_cached("DELETE FROM letter WHERE seq = ?1")?.execute([entry.seq])?;
    }
    Ok(())
}

/// The sealed bodies of these records.
pub(super) fn letters(connection: &Connection, seqs: &[i64]) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
    let mut select = connection.prepare_cached("SELECT sealed FROM letter WHERE seq = ?1")?;
    let mut found = Vec::with_capacity(seqs.len());
    for seq in seqs {
        let sealed: Option<Vec<u8>> = select.query_row([seq], |row| row.get(0)).optional()?;
        found.extend(sealed.map(|sealed| (*seq, sealed)));
    }
    Ok(found)
}

/// A record by name.
pub(super) fn find(connection: &Connection, filter: &str, id: Id) -> rusqlite::Result<Option<Known>> {
    let sql = format!("SELECT {COLUMNS}, {KEPT} FROM request WHERE id = ?1 AND filter = ?2");
    connection.prepare_cached(&sql)?.query_row(params![id.0.to_be_bytes(), filter], known).optional()
}

/// The sealed answer of a record.
pub(super) fn answer(connection: &Connection, seq: i64) -> rusqlite::Result<Option<Vec<u8>>> {
    let sql = "SELECT sealed FROM answer WHERE seq = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([seq], |row| row.get(0)).optional()?.flatten())
}

/// The latest records of a filter, in one state or in all.
pub(super) fn list(
    connection: &Connection,
    filter: &str,
    state: Option<State>,
    limit: usize,
) -> rusqlite::Result<Vec<Known>> {
    let sql = format!(
        "SELECT {COLUMNS}, {KEPT} FROM request WHERE filter = ?1 AND (?2 IS NULL OR state = ?2) ORDER BY seq DESC LIMIT ?3"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map(params![filter, state.map(State::number), limit], known)?;
    rows.collect()
}

/// What an earlier process was sending when it died: sent again where the upstream knows keys, else nobody knows.
pub(super) fn give_up_running(connection: &Connection, filter: &str, idempotent: bool) -> rusqlite::Result<usize> {
    let state = if idempotent { State::Queued } else { State::Unknown };
    let sql = "UPDATE request SET state = ?2, doubt = 1, version = version + 1, due_ms = 0,
                                  why = 'the gateway ended while it was being sent'
               WHERE filter = ?1 AND state = 1";
    connection.execute(sql, params![filter, state.number()])
}

/// Every record of a filter that is not over, the oldest first, with its upstream.
pub(super) fn live(connection: &Connection, filter: &str, mut each: impl FnMut(Entry, &str)) -> rusqlite::Result<()> {
    let sql = format!("SELECT {COLUMNS} FROM request WHERE filter = ?1 AND state < 6 ORDER BY seq");
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query([filter])?;
    while let Some(row) = rows.next()? {
        each(entry(row)?, row.get_ref(13)?.as_str()?);
    }
    Ok(())
}

/// Every key.
pub(super) fn twins(connection: &Connection, mut each: impl FnMut(&[u8])) -> rusqlite::Result<()> {
    let mut select = connection.prepare("SELECT twin FROM request WHERE twin IS NOT NULL")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        each(row.get_ref(0)?.as_blob()?);
    }
    Ok(())
}
