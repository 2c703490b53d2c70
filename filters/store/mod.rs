//! What is remembered outside a filter's own memory: records of requests that must not be carried out twice.
//!
//! A file names its stores and says where each keeps things (`stores: {disk: {type: sqlite}}`); a filter names the store it
//! uses. A store outlives every snapshot, as states do. Its verbs are whole steps, each of them atomic: a `get` and a `set`
//! would leave room for two to find nothing and both go on.
//!
//! Times are durations since 1970, given by the caller: records outlive the process, and a process's clock does not.

mod bounds;
pub(crate) mod codec;
mod kept;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_room;
pub(crate) mod seal;
mod sqlite;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use tidegate_durable::Synchronous;

use crate::respond_async::{Shelf, Shelves};

pub use bounds::Most;
pub(crate) use bounds::{Bounds, Kept};
pub use kept::is_kept;
pub use memory::MemoryRecords;
#[cfg(feature = "postgres")]
pub use postgres::PostgresRecords;
pub use sqlite::SqliteRecords;
pub(crate) use sqlite::lock;

/// A store's answer: at hand, or a round trip away.
pub enum Answer<T> {
    /// At hand.
    Now(Result<T, StoreError>),
    /// On its way. Dropping it does not undo what was asked for.
    Later(Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>),
}

/// Why a store gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It has no room for more records.
    Full,
    /// It failed; for the log, never for a client.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Full => f.write_str("the store has no room for more records"),
            StoreError::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}

/// Names a record: a SHA-256 over everything that makes it somebody's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId(pub [u8; 32]);

/// What a request was: a SHA-256 over its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// An answer, as it is given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its status.
    pub status: StatusCode,
    /// Its headers, as far as they are worth repeating.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body; `None` when it was too long to be kept.
    pub body: Option<Bytes>,
}

/// The wish to carry out a request.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Which record.
    pub id: RecordId,
    /// What the request is.
    pub fingerprint: Fingerprint,
    /// Made anew for each claim; only who knows it settles the claim.
    pub token: u128,
    /// Time since 1970.
    pub now: Duration,
    /// Without a word for this long the claim counts as lost: its outcome is unknown then.
    pub lease: Duration,
    /// How long it is kept as unknown then.
    pub keep: Duration,
    /// A request whose outcome is unknown may be carried out again.
    pub again: bool,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is the caller's to carry out. `fence` is higher than that of every earlier claim in this store.
    New {
        /// The claim's number.
        fence: u64,
    },
    /// Somebody is carrying it out.
    Running,
    /// It was carried out.
    Done(Arc<Stored>),
    /// It may have been carried out.
    Unknown,
    /// The record is of a request with other contents.
    Mismatch,
}

/// How a claim ends.
#[derive(Clone, Debug)]
pub struct Settle {
    /// Which record.
    pub id: RecordId,
    /// Of the claim.
    pub token: u128,
    /// What became of it.
    pub end: End,
    /// When the record may be forgotten, since 1970.
    pub until: Duration,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing was done: the record goes, and the next one may try.
    Released,
    /// It may have been carried out.
    Unknown,
    /// It was carried out.
    Done(Arc<Stored>),
}

/// Records of requests that must not be carried out twice.
pub trait RecordStore: Send + Sync {
    /// Claims a record, or tells what is known of it.
    fn claim(&self, claim: Claim) -> Answer<Claimed>;

    /// Ends a claim. Answered once it is as durable as the store makes things. A claim that was given up as unknown
    /// still ends with what becomes known; one with another token is left alone.
    fn settle(&self, settle: Settle) -> Answer<()>;

    /// Ends a claim while nobody waits: what fails leaves the claim running, and at last unknown.
    fn post(&self, settle: Settle);

    /// Forgets records whose time is over; a bounded number at a time.
    fn purge(&self, now: Duration);

    /// How many records there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Commits to a file of its own so far, each with one wait for the disk; 0 where there is no such file.
    fn commits(&self) -> u64 {
        0
    }
}

/// Where a store keeps things.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreKind {
    /// In this process; ends with it.
    Memory,
    /// In a file of its own; survives a crash of the process and of the machine.
    Sqlite,
    /// In a database that gateways on several machines share.
    #[cfg(feature = "postgres")]
    Postgres(Shared),
}

/// A database that several gateways share.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shared {
    /// Where it is and who we are there: `postgres://user@host/database`.
    pub url: String,
    /// Absent where the database asks for none.
    pub password: Option<String>,
    /// What answers are sealed with; all gateways have the same.
    pub key: [u8; 32],
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared { .. }")
    }
}

type Open = BTreeMap<(String, StoreKind), Arc<dyn RecordStore>>;

/// The stores of a process.
#[derive(Default)]
pub struct Stores {
    /// Where files go; `None`: everything is a stand-in in memory.
    folder: Option<PathBuf>,
    /// The moment since 1970 that the gateway's clock counts from.
    epoch: Duration,
    open: Mutex<Open>,
    named: Mutex<BTreeMap<String, StoreKind>>,
    bounds: Mutex<BTreeMap<String, Arc<Bounds>>>,
    shelves: Mutex<BTreeMap<String, Arc<Shelf>>>,
    /// The same, for who must not wait while one is opened.
    open_shelves: Shelves,
}

impl Stores {
    /// Stores whose files are in `folder`. `epoch` is the time since 1970 at zero of the gateway's clock.
    #[must_use]
    pub fn new(folder: &Path, epoch: Duration) -> Self {
        Self { folder: Some(folder.to_owned()), epoch, ..Self::default() }
    }

    /// Whether nothing is kept: a rehearsal reads files at most.
    #[must_use]
    pub fn are_stand_ins(&self) -> bool {
        self.folder.is_none()
    }

    /// The time since 1970 at zero of the gateway's clock.
    #[must_use]
    pub fn epoch(&self) -> Duration {
        self.epoch
    }

    /// Names the stores of the file that is about to be built, and opens those that are not open yet. May block on files and databases.
    ///
    /// # Errors
    /// When a file cannot be opened or a database cannot be reached.
    pub fn declare(&self, wanted: impl IntoIterator<Item = (String, StoreKind)>) -> Result<(), StoreError> {
        let wanted: BTreeMap<String, StoreKind> = wanted.into_iter().collect();
        let mut open = self.open.lock();
        for (name, kind) in &wanted {
            if let Entry::Vacant(place) = open.entry((name.clone(), kind.clone())) {
                place.insert(self.make(name, kind)?);
            }
        }
        *self.named.lock() = wanted;
        Ok(())
    }

    /// Bounds the store of that name, also while it is open.
    pub fn bound(&self, name: &str, most: Most) {
        self.bounds_of(name, most).set(most);
    }

    fn bounds_of(&self, name: &str, usual: Most) -> Arc<Bounds> {
        self.bounds.lock().entry(name.to_owned()).or_insert_with(|| Arc::new(Bounds::new(usual))).clone()
    }

    fn make(&self, name: &str, kind: &StoreKind) -> Result<Arc<dyn RecordStore>, StoreError> {
        let usual = if *kind == StoreKind::Memory { Most::IN_MEMORY } else { Most::ON_DISK };
        let bounds = self.bounds_of(name, usual);
        let Some(folder) = &self.folder else { return Ok(Arc::new(MemoryRecords::new(bounds))) };
        Ok(match kind {
            StoreKind::Memory => Arc::new(MemoryRecords::new(bounds)),
            StoreKind::Sqlite => Arc::new(SqliteRecords::open(folder, name, bounds)?),
            #[cfg(feature = "postgres")]
            StoreKind::Postgres(shared) => Arc::new(PostgresRecords::open(shared, name, bounds)?),
        })
    }

    /// The records of the store of that name; `None` when the file names no such store.
    #[must_use]
    pub fn records(&self, name: &str) -> Option<Arc<dyn RecordStore>> {
        let kind = self.named.lock().get(name)?.clone();
        self.open.lock().get(&(name.to_owned(), kind)).cloned()
    }

    /// The deferred requests of the store of that name; opened when first asked for. `None`: this registry is a stand-in
    /// without files. May block on files.
    ///
    /// # Errors
    /// When there is no such store, it does not outlive the process, or its file cannot be opened.
    pub fn deferred(&self, name: &str) -> Result<Option<Arc<Shelf>>, StoreError> {
        match self.named.lock().get(name) {
            Some(StoreKind::Sqlite) => (),
            Some(StoreKind::Memory) => return Err(StoreError::Failed(format!("store `{name}` ends with the process"))),
            #[cfg(feature = "postgres")]
            Some(StoreKind::Postgres(_)) => {
                return Err(StoreError::Failed(format!("store `{name}` keeps records of requests only")));
            }
            None => return Err(StoreError::Failed(format!("no store is named `{name}`"))),
        }
        let Some(folder) = &self.folder else { return Ok(None) };
        let mut shelves = self.shelves.lock();
        if let Some(shelf) = shelves.get(name) {
            return Ok(Some(shelf.clone()));
        }
        let shelf = Arc::new(Shelf::open(folder, name, Synchronous::Full, self.bounds_of(name, Most::ON_DISK))?);
        shelves.insert(name.to_owned(), shelf.clone());
        self.open_shelves.set(shelves.values().cloned());
        Ok(Some(shelf))
    }

    /// The files of deferred requests that are open at any moment.
    pub(crate) fn open_shelves(&self) -> &Shelves {
        &self.open_shelves
    }

    /// All files of deferred requests there are, also of stores that the configuration does not name: what was promised
    /// there is promised. Opens them; one that cannot be opened is logged and left out. May block on files.
    #[must_use]
    pub fn shelves(&self) -> Vec<Arc<Shelf>> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let mut shelves = self.shelves.lock();
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            name.strip_suffix(Shelf::SUFFIX).map(str::to_owned)
        });
        for name in files {
            if let Entry::Vacant(place) = shelves.entry(name) {
                match Shelf::open(folder, place.key(), Synchronous::Full, self.bounds_of(place.key(), Most::ON_DISK)) {
                    Ok(shelf) => _ = place.insert(Arc::new(shelf)),
                    Err(error) => {
                        let store = place.key();
                        tracing::error!(target: "tidegate::deferred", store, %error, "what was promised cannot be kept");
                    }
                }
            }
        }
        self.open_shelves.set(shelves.values().cloned());
        shelves.values().cloned().collect()
    }
}
