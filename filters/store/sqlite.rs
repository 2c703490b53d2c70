//! Records in a SQLite file: a claim is on disk before the request goes on, its end before the client knows.
//!
//! One file a store, `<name>.records.sqlite` in the data folder, and the key its answers are sealed with beside it. All
//! writes share the file's writer thread and its group commit, so claims cost a share of one fsync. What a process left
//! running when it died is unknown from the moment the file is opened again: the process that could tell is gone. That is
//! why two processes must not share a file; a lock beside it, which ends with its process, sees to that.
//!
//! How much is kept is counted when the file is opened, over an index that has the sizes: about 0.2 s for a million.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tidegate_durable::{Options, Store, WriteError};

use super::seal::Seal;
use super::verdict::{DONE, Found, RUNNING, Row, Sealed, SealedEnd, UNKNOWN, Verdict, ms};
use super::{Answer, Bounds, Claim, Claimed, Kept, RecordId, RecordStore, Settle, StoreError};

/// Records forgotten in one go: a few milliseconds of the writer's time.
const PURGED_AT_ONCE: u32 = 2_000;
/// So many times in a row.
const MOST_PURGES: u32 = 100;

/// `fence` is never given twice, also when the record that had it is gone.
const SCHEMA: &str = "
CREATE TABLE record (
    fence       INTEGER PRIMARY KEY AUTOINCREMENT,
    id          BLOB NOT NULL UNIQUE,
    fingerprint BLOB NOT NULL,
    token       BLOB NOT NULL,
    state       INTEGER NOT NULL,
    lease_ms    INTEGER NOT NULL,
    until_ms    INTEGER NOT NULL,
    status      INTEGER,
    answer      BLOB
) STRICT;
CREATE INDEX record_until ON record (until_ms) WHERE state <> 0;
";

/// Which answers there are, the oldest first, and how long each is.
const SCHEMA_2: &str = "
CREATE INDEX record_answer ON record (fence, length(answer)) WHERE answer IS NOT NULL;
";
/// Answers in the order they came.
const SCHEMA_3: &str = "
ALTER TABLE record ADD COLUMN answered INTEGER NOT NULL DEFAULT 0;
UPDATE record SET answered = fence;
DROP INDEX record_answer;
CREATE INDEX record_answer ON record (answered, length(answer)) WHERE answer IS NOT NULL;
";
/// Answers that make room for one.
const DROPPED_AT_ONCE: i64 = 64;

type Failed = WriteError<rusqlite::Error>;

/// Records in a file.
pub struct SqliteRecords {
    store: Store,
    seal: Arc<Seal>,
    room: Arc<Room>,
    _lock: File,
}

/// What is kept and what may be.
struct Room {
    kept: Kept,
    bounds: Arc<Bounds>,
    /// A commit has failed, and what was counted with it is wrong.
    stale: AtomicBool,
}

impl Room {
    fn failed(&self, error: &Failed) -> StoreError {
        self.stale.store(true, Relaxed);
        StoreError::Failed(error.to_string())
    }
}

impl SqliteRecords {
    /// Opens (or makes) the file of the store `name` in `folder`. Blocks.
    ///
    /// # Errors
    /// When the file or its key cannot be used.
    pub(crate) fn open(folder: &Path, name: &str, bounds: Arc<Bounds>) -> Result<Self, StoreError> {
        let failed =
            |what: &str, why: &dyn std::fmt::Display| StoreError::Failed(format!("store `{name}`: {what}: {why}"));
        let lock = lock(&folder.join(format!("{name}.records.lock"))).map_err(|why| failed("its lock", &why))?;
        let seal =
            Seal::from_file(&folder.join(format!("{name}.records.key"))).map_err(|why| failed("its key", &why))?;
        let path = folder.join(format!("{name}.records.sqlite"));
        let store = Store::open(&path, &[SCHEMA, SCHEMA_2, SCHEMA_3], Options::default())
            .map_err(|why| failed("its file", &why))?;
        let room = Arc::new(Room { kept: Kept::default(), bounds, stale: AtomicBool::new(false) });
        let counted = room.clone();
        // The first thing this store does, so no claim of this process is there yet.
        store.post(move |connection| give_up_running(connection, &counted.kept));
        Ok(Self { store, seal: Arc::new(seal), room, _lock: lock })
    }
}

pub(crate) fn lock(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::Error(error) => error,
        TryLockError::WouldBlock => io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process uses this store; give each gateway a data_dir of its own, and let the old one end first",
        ),
    })?;
    Ok(file)
}

/// Gives up what an earlier process left running, and counts.
fn give_up_running(connection: &Connection, kept: &Kept) -> rusqlite::Result<()> {
    connection.execute("UPDATE record SET state = ?1 WHERE state = ?2", [UNKNOWN, RUNNING])?;
    count(connection, kept)
}

fn count(connection: &Connection, kept: &Kept) -> rusqlite::Result<()> {
    let count: i64 = connection.query_row("SELECT count(*) FROM record", [], |row| row.get(0))?;
    let sql = "SELECT coalesce(sum(length(answer)), 0) FROM record INDEXED BY record_answer WHERE answer IS NOT NULL";
    let bytes: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    kept.set(usize::try_from(count).unwrap_or(0), bytes.unsigned_abs());
    Ok(())
}

fn find(connection: &Connection, id: RecordId) -> rusqlite::Result<Option<Row>> {
    let sql = "SELECT fence, fingerprint, state, lease_ms, until_ms, status, answer FROM record WHERE id = ?1";
    let row = |row: &rusqlite::Row<'_>| {
        Ok(Row {
            fence: row.get(0)?,
            fingerprint: row.get(1)?,
            state: row.get(2)?,
            lease: row.get(3)?,
            until: row.get(4)?,
            status: row.get(5)?,
            answer: row.get(6)?,
        })
    };
    connection.prepare_cached(sql)?.query_row([id.0.as_slice()], row).optional()
}

fn insert(connection: &Connection, claim: &Claim) -> rusqlite::Result<Claimed> {
    let sql = "INSERT INTO record (id, fingerprint, token, state, lease_ms, until_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(sql)?.execute(params![
        claim.id.0.as_slice(),
        claim.fingerprint.0.as_slice(),
        claim.token.to_le_bytes().as_slice(),
        RUNNING,
        ms(claim.now + claim.lease),
        ms(claim.now + claim.lease + claim.keep),
    ])?;
    Ok(Claimed::New { fence: u64::try_from(connection.last_insert_rowid()).unwrap_or(0) })
}

fn delete(connection: &Connection, fence: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM record WHERE fence = ?1")?.execute([fence])?;
    Ok(())
}

/// `None`: there is no room for a new one.
fn claim(connection: &Connection, claim: &Claim, room: &Room) -> rusqlite::Result<Option<Found>> {
    let Some(row) = find(connection, claim.id)? else {
        if room.kept.records() >= room.bounds.records() {
            return Ok(None);
        }
        let claimed = insert(connection, claim)?;
        room.kept.more(1, 0);
        return Ok(Some(Found::Plain(claimed)));
    };
    let (fence, size) = (row.fence, row.answer.as_ref().map_or(0, Vec::len) as u64);
    match row.judge(claim) {
        Verdict::Found(found) => Ok(Some(found)),
        Verdict::Lost(found) => {
            let sql = "UPDATE record SET state = ?1 WHERE fence = ?2";
            connection.prepare_cached(sql)?.execute([UNKNOWN, fence])?;
            Ok(Some(found))
        }
        Verdict::Replaced => {
            delete(connection, fence)?;
            room.kept.less(0, size);
            insert(connection, claim).map(|claimed| Some(Found::Plain(claimed)))
        }
    }
}

impl Sealed {
    fn apply(self, connection: &Connection, room: &Room) -> rusqlite::Result<()> {
        let (id, token, until) = (self.id.0, self.token.to_le_bytes(), ms(self.until));
        match self.end {
            // What was given up as unknown may have been done: it does not become free again.
            SealedEnd::Released => {
                let sql = "DELETE FROM record WHERE id = ?1 AND token = ?2 AND state = ?3";
                let gone = connection.prepare_cached(sql)?.execute(params![id, token, RUNNING])?;
                room.kept.less(gone, 0);
            }
            SealedEnd::Unknown => {
                let sql = "UPDATE record SET state = ?1, until_ms = ?2 WHERE id = ?3 AND token = ?4 AND state <> ?5";
                connection.prepare_cached(sql)?.execute(params![UNKNOWN, until, id, token, DONE])?;
            }
            SealedEnd::Done(status, answer) => {
                let sql = "UPDATE record SET state = ?1, until_ms = ?2, status = ?3, answer = ?4,
                               answered = 1 + coalesce((SELECT answered FROM record INDEXED BY record_answer
                                   WHERE answer IS NOT NULL ORDER BY answered DESC LIMIT 1), 0)
                           WHERE id = ?5 AND token = ?6 AND state <> ?1";
                let changed =
                    connection.prepare_cached(sql)?.execute(params![DONE, until, status, answer, id, token])?;
                room.kept.more(0, if changed > 0 { answer.as_ref().map_or(0, Vec::len) } else { 0 });
                make_room(connection, room)?;
            }
        }
        Ok(())
    }
}

/// Lets answers go, that which came first in front, until there is room. Their records stay.
fn make_room(connection: &Connection, room: &Room) -> rusqlite::Result<()> {
    if room.kept.bytes() <= room.bounds.bytes() {
        return Ok(());
    }
    let sql = "SELECT fence, length(answer) FROM record INDEXED BY record_answer WHERE answer IS NOT NULL
               ORDER BY answered LIMIT ?1";
    let mut oldest = connection.prepare_cached(sql)?;
    let oldest = oldest.query_map([DROPPED_AT_ONCE], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    for (fence, size) in oldest.collect::<rusqlite::Result<Vec<_>>>()? {
        if room.kept.bytes() <= room.bounds.bytes() {
            break;
        }
        connection.prepare_cached("UPDATE record SET answer = NULL WHERE fence = ?1")?.execute([fence])?;
        room.kept.less(0, size.unsigned_abs());
    }
    Ok(())
}

impl RecordStore for SqliteRecords {
    fn claim(&self, wish: Claim) -> Answer<Claimed> {
        let (store, seal, room) = (self.store.clone(), self.seal.clone(), self.room.clone());
        Answer::Later(Box::pin(async move {
            let id = wish.id;
            let kept = room.clone();
            let found = store.write(move |connection| claim(connection, &wish, &room)).await;
            let found = found.map_err(|error: Failed| kept.failed(&error))?.ok_or(StoreError::Full)?;
            Ok(found.open(id, &seal))
        }))
    }

    fn settle(&self, settle: Settle) -> Answer<()> {
        let (store, seal, room) = (self.store.clone(), self.seal.clone(), self.room.clone());
        Answer::Later(Box::pin(async move {
            let sealed = Sealed::of(settle, &seal);
            let kept = room.clone();
            let settled = store.write(move |connection| sealed.apply(connection, &room)).await;
            settled.map_err(|error: Failed| kept.failed(&error))
        }))
    }

    fn post(&self, settle: Settle) {
        let (sealed, room) = (Sealed::of(settle, &self.seal), self.room.clone());
        // A full queue leaves the claim running until its lease is over: the careful side.
        self.store.post(move |connection| sealed.apply(connection, &room));
    }

    fn purge(&self, now: Duration) {
        purge(self.store.clone(), self.room.clone(), now, MOST_PURGES);
    }

    fn len(&self) -> usize {
        self.room.kept.records()
    }

    fn commits(&self) -> u64 {
        self.store.stats().commits
    }
}

/// Forgets what is old, some at a time and so many times at most: claims that come meanwhile go in between, and where no commit
/// succeeds the same rows would be forgotten for ever.
fn purge(store: Store, room: Arc<Room>, now: Duration, left: u32) {
    let sql = "DELETE FROM record WHERE fence IN
               (SELECT fence FROM record WHERE until_ms <= ?1 AND state <> 0 LIMIT ?2)
               RETURNING coalesce(length(answer), 0)";
    store.clone().post(move |connection| {
        if room.stale.swap(false, Relaxed) {
            count(connection, &room.kept)?;
        }
        let mut delete = connection.prepare_cached(sql)?;
        let gone = delete.query_map([ms(now), i64::from(PURGED_AT_ONCE)], |row| row.get::<_, i64>(0))?;
        let gone = gone.collect::<rusqlite::Result<Vec<_>>>()?;
        room.kept.less(gone.len(), gone.iter().map(|size| size.unsigned_abs()).sum());
        if gone.len() == PURGED_AT_ONCE as usize && left > 1 {
            purge(store, room, now, left - 1);
        }
        Ok::<(), rusqlite::Error>(())
    });
}
