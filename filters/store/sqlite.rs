//! Records in a SQLite file: a claim is on disk before the request goes on, its end before the client knows.
//!
//! One file a store, `<name>.records.sqlite` in the data folder, and the key its answers are sealed with beside it. All
//! writes share the file's writer thread and its group commit, so claims cost a share of one fsync. What a process left
//! running when it died is unknown from the moment the file is opened again: the process that could tell is gone. That is
//! why two processes must not share a file; a lock beside it, which ends with its process, sees to that.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tidegate_durable::{Options, Store, WriteError};

use super::seal::Seal;
use super::verdict::{DONE, Found, RUNNING, Row, Sealed, SealedEnd, UNKNOWN, Verdict, ms};
use super::{Answer, Claim, Claimed, RecordId, RecordStore, Settle, StoreError};

/// Records forgotten in one go: a few milliseconds of the writer's time.
const PURGED_AT_ONCE: u32 = 2_000;

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

type Failed = WriteError<rusqlite::Error>;

/// Records in a file.
pub struct SqliteRecords {
    store: Store,
    seal: Arc<Seal>,
    records: Arc<AtomicUsize>,
    _lock: File,
}

impl SqliteRecords {
    /// Opens (or makes) the file of the store `name` in `folder`. Blocks.
    ///
    /// # Errors
    /// When the file or its key cannot be used.
    pub fn open(folder: &Path, name: &str) -> Result<Self, StoreError> {
        let failed =
            |what: &str, why: &dyn std::fmt::Display| StoreError::Failed(format!("store `{name}`: {what}: {why}"));
        let lock = lock(&folder.join(format!("{name}.records.lock"))).map_err(|why| failed("its lock", &why))?;
        let seal =
            Seal::from_file(&folder.join(format!("{name}.records.key"))).map_err(|why| failed("its key", &why))?;
        let path = folder.join(format!("{name}.records.sqlite"));
        let store = Store::open(&path, &[SCHEMA], Options::default()).map_err(|why| failed("its file", &why))?;
        let records = Arc::new(AtomicUsize::new(0));
        let counted = records.clone();
        // The first thing this store does, so no claim of this process is there yet.
        store.post(move |connection| give_up_running(connection, &counted));
        Ok(Self { store, seal: Arc::new(seal), records, _lock: lock })
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
fn give_up_running(connection: &Connection, records: &AtomicUsize) -> rusqlite::Result<()> {
    connection.execute("UPDATE record SET state = ?1 WHERE state = ?2", [UNKNOWN, RUNNING])?;
    let count: i64 = connection.query_row("SELECT count(*) FROM record", [], |row| row.get(0))?;
    records.store(usize::try_from(count).unwrap_or(0), Relaxed);
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

fn claim(connection: &Connection, claim: &Claim, records: &AtomicUsize) -> rusqlite::Result<Found> {
    let Some(row) = find(connection, claim.id)? else {
        let claimed = insert(connection, claim)?;
        records.fetch_add(1, Relaxed);
        return Ok(Found::Plain(claimed));
    };
    let fence = row.fence;
    match row.judge(claim) {
        Verdict::Found(found) => Ok(found),
        Verdict::Lost(found) => {
            let sql = "UPDATE record SET state = ?1 WHERE fence = ?2";
            connection.prepare_cached(sql)?.execute([UNKNOWN, fence])?;
            Ok(found)
        }
        Verdict::Replaced => {
            delete(connection, fence)?;
            insert(connection, claim).map(Found::Plain)
        }
    }
}

impl Sealed {
    fn apply(self, connection: &Connection, records: &AtomicUsize) -> rusqlite::Result<()> {
        let (id, token, until) = (self.id.0, self.token.to_le_bytes(), ms(self.until));
        match self.end {
            // What was given up as unknown may have been done: it does not become free again.
            SealedEnd::Released => {
                let sql = "DELETE FROM record WHERE id = ?1 AND token = ?2 AND state = ?3";
                let gone = connection.prepare_cached(sql)?.execute(params![id, token, RUNNING])?;
                records.fetch_sub(gone, Relaxed);
            }
            SealedEnd::Unknown => {
                let sql = "UPDATE record SET state = ?1, until_ms = ?2 WHERE id = ?3 AND token = ?4 AND state <> ?5";
                connection.prepare_cached(sql)?.execute(params![UNKNOWN, until, id, token, DONE])?;
            }
            SealedEnd::Done(status, answer) => {
                let sql = "UPDATE record SET state = ?1, until_ms = ?2, status = ?3, answer = ?4
                           WHERE id = ?5 AND token = ?6 AND state <> ?1";
                connection.prepare_cached(sql)?.execute(params![DONE, until, status, answer, id, token])?;
            }
        }
        Ok(())
    }
}

fn failed(error: &Failed) -> StoreError {
    StoreError::Failed(error.to_string())
}

impl RecordStore for SqliteRecords {
    fn claim(&self, wish: Claim) -> Answer<Claimed> {
        let (store, seal, records) = (self.store.clone(), self.seal.clone(), self.records.clone());
        Answer::Later(Box::pin(async move {
            let id = wish.id;
            let found = store.write(move |connection| claim(connection, &wish, &records)).await;
            Ok(found.map_err(|error: Failed| failed(&error))?.open(id, &seal))
        }))
    }

    fn settle(&self, settle: Settle) -> Answer<()> {
        let (store, seal, records) = (self.store.clone(), self.seal.clone(), self.records.clone());
        Answer::Later(Box::pin(async move {
            let sealed = Sealed::of(settle, &seal);
            let settled = store.write(move |connection| sealed.apply(connection, &records)).await;
            settled.map_err(|error: Failed| failed(&error))
        }))
    }

    fn post(&self, settle: Settle) {
        let (sealed, records) = (Sealed::of(settle, &self.seal), self.records.clone());
        // A full queue leaves the claim running until its lease is over: the careful side.
        self.store.post(move |connection| sealed.apply(connection, &records));
    }

    fn purge(&self, now: Duration) {
        purge(self.store.clone(), self.records.clone(), now);
    }

    fn len(&self) -> usize {
        self.records.load(Relaxed)
    }
}

/// Forgets what is old, some at a time: claims that come meanwhile go in between.
fn purge(store: Store, records: Arc<AtomicUsize>, now: Duration) {
    let sql = "DELETE FROM record WHERE fence IN
               (SELECT fence FROM record WHERE until_ms <= ?1 AND state <> 0 LIMIT ?2)";
    store.clone().post(move |connection| {
        let gone = connection.prepare_cached(sql)?.execute([ms(now), i64::from(PURGED_AT_ONCE)])?;
        records.fetch_sub(gone, Relaxed);
        if gone == PURGED_AT_ONCE as usize {
            purge(store, records, now);
        }
        Ok::<(), rusqlite::Error>(())
    });
}
