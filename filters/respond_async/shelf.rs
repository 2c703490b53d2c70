//! Deferred requests in a SQLite file: a promise is on the disk before it is given, a sending before a byte leaves, an
//! answer before anybody sees it.
//!
//! One file a store, `<name>.deferred.sqlite` in the data folder, with the key its bodies and answers are sealed with: they
//! hold tokens on the way in and card keys on the way out. One writer thread with group commit, so a promise costs a share
//! of one fsync. A lock beside the file, which ends with its process, keeps a second gateway out.
//!
//! What is over is kept for its time and counted. When there are as many as may be, nothing new is taken: to forget one
//! would be to carry it out twice. When their answers are too many bytes, those that came first go.
//!
//! A filter that the configuration has no more may still owe answers: the file knows whose records it holds, and with which
//! settings they were promised (`orphans`).

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use rusqlite::Connection;
use tidegate_durable::{Options, Store, Synchronous, WriteError};

use super::core::{Entry, Id, State};
use super::letter::Letter;
use super::over::{self, Purged};
use super::rows::{self, Appended, Change, Known, New, Twin};
use crate::store::seal::Seal;
use crate::store::{Bounds, Kept, RecordId, StoreError, Stored, codec, lock};

/// What is sealed, in the name under which it is.
const LETTER: u8 = 1;
const ANSWER: u8 = 2;

/// Operations that may wait for the disk; more are refused.
const QUEUE: usize = 32_768;

type Twins = HashSet<u64, ahash::RandomState>;

fn short(twin: &[u8]) -> u64 {
    twin.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// The file of one store.
pub struct Shelf {
    /// The store's name.
    name: Arc<str>,
    store: Store,
    seal: Arc<Seal>,
    path: PathBuf,
    /// First bytes of every key in the file: a key that is not among them has no record.
    twins: Arc<Mutex<Twins>>,
    /// Records that are over, and the bytes of their answers.
    over: Arc<Kept>,
    /// Bytes of answers that were let go in a commit that is not done yet.
    freeing: Arc<AtomicU64>,
    bounds: Arc<Bounds>,
    _lock: File,
}

fn failed(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

fn named(id: Id, what: u8) -> RecordId {
    let mut name = [0; 32];
    name[..16].copy_from_slice(&id.0.to_be_bytes());
    name[31] = what;
    RecordId(name)
}

impl Shelf {
    /// What its file is called behind the store's name.
    pub(crate) const SUFFIX: &str = ".deferred.sqlite";

    /// Opens (or makes) the file of the store `name` in `folder`. Blocks. `synchronous`: how much the disk is waited for;
    /// only a test has a reason for less than full.
    ///
    /// # Errors
    /// When the file or its key cannot be used.
    pub(crate) fn open(
        folder: &Path,
        name: &str,
        synchronous: Synchronous,
        bounds: Arc<Bounds>,
    ) -> Result<Self, StoreError> {
        let failed = |what: &str, why: &dyn std::fmt::Display| failed(&format!("store `{name}`: {what}: {why}"));
        let lock = lock(&folder.join(format!("{name}.deferred.lock"))).map_err(|why| failed("its lock", &why))?;
        let seal =
            Seal::from_file(&folder.join(format!("{name}.deferred.key"))).map_err(|why| failed("its key", &why))?;
        let path = folder.join(format!("{name}{}", Self::SUFFIX));
        let options = Options { synchronous, queue: QUEUE, ..Options::default() };
        let schema = [rows::SCHEMA, rows::SCHEMA_2, rows::SCHEMA_3, over::SCHEMA_4];
        let store = Store::open(&path, &schema, options).map_err(|why| failed("its file", &why))?;
        let mut twins = Twins::default();
        let counted = Connection::open(&path).and_then(|connection| {
            rows::twins(&connection, |twin| _ = twins.insert(short(twin)))?;
            over::over(&connection)
        });
        let (records, bytes) = counted.map_err(|why| failed("its file", &why))?;
        let over = Arc::new(Kept::default());
        over.set(records, bytes);
        Ok(Self {
            name: name.into(),
            store,
            seal: Arc::new(seal),
            path,
            twins: Arc::new(Mutex::new(twins)),
            over,
            freeing: Arc::default(),
            bounds,
            _lock: lock,
        })
    }

    /// The store's name.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The filters that have records in it, each with the settings that it had last. Others are forgotten unless `open`
    /// says that they are in use. Blocks.
    pub(super) fn books(&self, open: impl Fn(&str) -> bool) -> Result<Vec<(String, String)>, StoreError> {
        self.connect().and_then(|connection| over::books(&connection, open)).map_err(|error| failed(&error))
    }

    /// Notes the settings of a filter, for when nothing else knows them.
    pub(super) fn describe(&self, filter: &str, settings: &str) {
        let (filter, settings) = (filter.to_owned(), settings.to_owned());
        self.store.post(move |connection| over::describe(connection, &filter, &settings));
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        Ok(connection)
    }

    /// Whether it keeps as many records that are over as it may.
    pub(super) fn is_full(&self) -> bool {
        self.over.records() >= self.bounds.records()
    }

    /// When the next record may be forgotten, in milliseconds since 1970; `None` when none is over.
    pub(super) async fn next_forgotten(&self) -> Result<Option<u64>, StoreError> {
        self.read(over::next_forgotten).await
    }

    /// Records that are over, and the bytes of their answers.
    pub(super) fn over(&self) -> (usize, u64) {
        (self.over.records(), self.over.bytes())
    }

    /// Commits and operations so far.
    #[must_use]
    pub fn stats(&self) -> tidegate_durable::Stats {
        self.store.stats()
    }

    async fn write<T: Send + 'static>(
        &self,
        op: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.store.write(op).await.map_err(|error: WriteError<rusqlite::Error>| failed(&error))
    }

    async fn read<T: Send + 'static>(
        &self,
        op: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.store.read(op).await.map_err(|error| failed(&error))
    }

    /// Reads what an earlier process left: every record that is not over, with its upstream; how many are over. Blocks.
    pub(super) fn recover(
        &self,
        filter: &str,
        idempotent: bool,
        each: impl FnMut(Entry, &str),
    ) -> Result<usize, StoreError> {
        let recovered = self.connect().and_then(|connection| {
            over::enrol(&connection, filter)?;
            rows::give_up_running(&connection, filter, idempotent)?;
            rows::live(&connection, filter, each)?;
            over::over_of(&connection, filter)
        });
        recovered.map_err(|error| failed(&error))
    }

    pub(super) fn seal(&self, id: Id, letter: &Letter) -> Option<Vec<u8>> {
        self.seal.close(named(id, LETTER), &letter.encode()?)
    }

    pub(super) async fn append(&self, new: New) -> Result<Appended, StoreError> {
        let key = new.twin;
        let appended = self.write(move |connection| rows::append(connection, &new)).await?;
        if let (Appended::New(_), Some(key)) = (&appended, key) {
            self.twins.lock().insert(short(&key));
        }
        Ok(appended)
    }

    /// Whether some record may have that key.
    pub(super) fn may_know(&self, twin: &[u8; 32]) -> bool {
        self.twins.lock().contains(&short(twin))
    }

    /// The record that has a key.
    pub(super) async fn twin(&self, key: [u8; 32]) -> Result<Option<Twin>, StoreError> {
        let found = self.read(move |connection| rows::twin_of(connection, &key)).await?;
        Ok(found.filter(|twin| !twin.is_free()))
    }

    pub(super) async fn running(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let marks: Vec<(i64, u32)> = entries.iter().map(|entry| (entry.seq, entry.version)).collect();
        self.write(move |connection| rows::running(connection, &marks)).await
    }

    /// Writes a change down. `answer`: of one that is done. The moments: this one, and when it may be forgotten.
    pub(super) async fn change(
        &self,
        entry: &Entry,
        answer: Option<&Stored>,
        why: &str,
        (now, until): (u64, u64),
    ) -> Result<(), StoreError> {
        let status = answer.map(|answer| answer.status.as_u16());
        let sealed = answer.and_then(codec::encode).and_then(|plain| self.seal.close(named(entry.id, ANSWER), &plain));
        let whole = answer.is_some_and(|answer| answer.body.is_some());
        let size = sealed.as_ref().map_or(0, Vec::len);
        let change = Change { entry: entry.clone(), until, now, status, whole, answer: sealed, why: why.to_owned() };
        self.write(move |connection| rows::change(connection, &change)).await?;
        if entry.state.is_over() {
            self.over.more(1, size);
            self.make_room();
        }
        Ok(())
    }

    fn make_room(&self) {
        if self.over.bytes() <= self.bounds.bytes() {
            return;
        }
        let (over, bounds, freeing) = (self.over.clone(), self.bounds.clone(), self.freeing.clone());
        let mine = Arc::new(AtomicU64::new(0));
        let (dropped, freeing_then) = (mine.clone(), freeing.clone());
        let drop_answers = move |connection: &Connection| {
            let excess = over.bytes().saturating_sub(freeing.load(Relaxed)).saturating_sub(bounds.bytes());
            let freed = over::drop_answers(connection, excess)?;
            freeing.fetch_add(freed, Relaxed);
            dropped.store(freed, Relaxed);
            Ok::<(), rusqlite::Error>(())
        };
        let over = self.over.clone();
        self.store.post_then(drop_answers, move |dropped| {
            let freed = mine.load(Relaxed);
            // What was not committed is there still.
            if dropped.is_ok() {
                over.less(0, freed);
            }
            freeing_then.fetch_sub(freed, Relaxed);
        });
    }

    /// The bodies of these records, as far as they are there and whole.
    pub(super) async fn letters(&self, entries: &[Entry]) -> Result<Vec<(i64, Letter)>, StoreError> {
        let ids: Vec<(i64, Id)> = entries.iter().map(|entry| (entry.seq, entry.id)).collect();
        let seqs: Vec<i64> = ids.iter().map(|(seq, _)| *seq).collect();
        let sealed = self.read(move |connection| rows::letters(connection, &seqs)).await?;
        let id_of = |seq: i64| ids.iter().find(|(known, _)| *known == seq).map(|(_, id)| *id);
        let open = |(seq, sealed): (i64, Vec<u8>)| {
            Some((seq, Letter::decode(&self.seal.open(named(id_of(seq)?, LETTER), &sealed)?)?))
        };
        Ok(sealed.into_iter().filter_map(open).collect())
    }

    pub(super) async fn find(&self, filter: &str, id: Id) -> Result<Option<Known>, StoreError> {
        let filter = filter.to_owned();
        self.read(move |connection| rows::find(connection, &filter, id)).await
    }

    pub(super) async fn list(
        &self,
        filter: &str,
        state: Option<State>,
        limit: usize,
    ) -> Result<Vec<Known>, StoreError> {
        let filter = filter.to_owned();
        self.read(move |connection| rows::list(connection, &filter, state, limit)).await
    }

    /// The answer of a record that is done; without a body when that was too long to be kept.
    pub(super) async fn answer(&self, known: &Known) -> Result<Option<Stored>, StoreError> {
        let Some(status) = known.status else { return Ok(None) };
        let seq = known.entry.seq;
        let sealed = self.read(move |connection| rows::answer(connection, seq)).await?;
        let plain = sealed.and_then(|sealed| self.seal.open(named(known.entry.id, ANSWER), &sealed));
        let status_code = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::OK);
        let without = Stored { status: status_code, headers: Vec::new(), body: None };
        Ok(Some(plain.and_then(|plain| codec::decode(status, &plain)).unwrap_or(without)))
    }

    /// Forgets some of what is over and old; `freed` learns what.
    pub(super) fn purge(&self, filter: &str, now: u64, freed: impl FnOnce(Purged) + Send + 'static) {
        let filter = filter.to_owned();
        let (over, twins) = (self.over.clone(), self.twins.clone());
        let purge = move |connection: &Connection| over::purge(connection, &filter, now);
        // What was not committed is not forgotten.
        self.store.post_then(purge, move |purged| {
            let Ok(purged) = purged else { return };
            over.less(purged.records, purged.bytes);
            {
                let mut twins = twins.lock();
                purged.twins.iter().for_each(|key| _ = twins.remove(&short(key)));
            }
            freed(purged);
        });
    }
}
