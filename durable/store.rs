//! The handle: what callers hold, clone and call.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rusqlite::Connection;

use crate::checkpoint::Mover;
use crate::reader::{self, ReadJob};
use crate::writer::{self, WriteJob};
use crate::{StoreError, WriteError, open};

/// How much SQLite waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// An fsync for every commit: what was acknowledged survives a loss of power. The default.
    #[default]
    Full,
    /// No fsync at commit: survives a crash of the process, a loss of power may take the last commits (the file stays
    /// consistent).
    Normal,
    /// No fsync at all: a loss of power may damage the file. For tests and throw-away data.
    Off,
}

impl Synchronous {
    pub(crate) fn as_pragma(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
            Self::Off => "OFF",
        }
    }
}

/// Settings of a store. The defaults suit a service that handles money.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most operations in one commit (at least 1). More share an fsync better but keep the first one waiting longer.
    pub max_batch: usize,
    /// Longest time the writer lingers for late-comers before it commits; zero never lingers.
    pub max_delay: Duration,
    /// How much SQLite waits for the disk.
    pub synchronous: Synchronous,
    /// Reading threads, each with its own connection (at least 1).
    pub readers: usize,
    /// Operations that may wait in front of the writer, and queries in front of the readers. Beyond it calls are
    /// refused with [`StoreError::Full`] instead of piling up.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_batch: 512,
            max_delay: Duration::from_millis(1),
            synchronous: Synchronous::Full,
            readers: 2,
            queue: 8_192,
        }
    }
}

/// Figures since the store was opened. `commits / operations` is the number of fsyncs one operation cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Transactions committed.
    pub commits: u64,
    /// Operations kept in those transactions; failed ones do not count.
    pub operations: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) operations: AtomicU64,
}

/// One SQLite file with its writer thread and its read pool. Clones share both; dropping the last handle ends the
/// threads after they have worked off what is queued.
#[derive(Debug, Clone)]
pub struct Store {
    writer: SyncSender<Box<dyn WriteJob>>,
    readers: SyncSender<ReadJob>,
    counters: Arc<Counters>,
}

impl Store {
    /// Opens the file at `path`, creating it and its folder when absent, and brings it up to date: `migrations` are
    /// SQL scripts in order, and the file remembers in `user_version` how many it has had.
    ///
    /// Blocks while it works; call it at start.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] when the file has had more migrations than there are; [`StoreError::Sqlite`] when
    /// a script fails or the file is no database; [`StoreError::Start`] when the folder or a thread cannot be made.
    pub fn open(path: &Path, migrations: &[&str], options: Options) -> Result<Self, StoreError> {
        let connection = open::writer(path, migrations, options.synchronous)?;
        let queue = options.queue.max(1);
        let (sender, receiver) = sync_channel(queue);
        let counters = Arc::new(Counters::default());
        // Readers first: a writer that runs without them would outlive a failed `open`.
        let readers = reader::start(path, options.readers, queue)?;
        let mover = Mover::start(path, options.synchronous)?;
        writer::start(connection, receiver, mover, &options, Arc::clone(&counters))?;
        Ok(Self { writer: sender, readers, counters })
    }

    /// Runs `op` in the next group commit inside its own SAVEPOINT, and resolves after `COMMIT` has returned.
    ///
    /// Once the operation is queued it runs even if the caller stops waiting.
    ///
    /// # Errors
    /// [`WriteError::Op`] when `op` returned an error (its SAVEPOINT was rolled back, no other); [`WriteError::Store`]
    /// when the queue is full, the store is gone, the operation panicked or the commit failed.
    pub async fn write<T, E, F>(&self, op: F) -> Result<T, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let (job, answer) = writer::pack(op);
        self.writer.try_send(job).map_err(|error| refused(&error))?;
        answer.await.unwrap_or(Err(WriteError::Store(StoreError::Unavailable)))
    }

    /// Runs `op` in the next group commit, behind everything that was queued before, while nobody waits for it. What goes
    /// wrong is logged: use it for what another path makes good.
    pub fn post<E, F>(&self, op: F)
    where
        E: fmt::Display + Send + 'static,
        F: FnOnce(&Connection) -> Result<(), E> + Send + 'static,
    {
        self.post_then(op, |_| ());
    }

    /// Like [`Store::post`]; `then` learns what came of it: behind `COMMIT`, so what it counts is what the file has. It runs
    /// on the writer's thread and must not block. Where the queue is full it never runs.
    pub fn post_then<T, E, F>(&self, op: F, then: impl FnOnce(Result<T, WriteError<E>>) + Send + 'static)
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let told = move |connection: &Connection| {
            op(connection).inspect_err(|error| tracing::error!(%error, "a posted operation failed"))
        };
        if let Err(error) = self.writer.try_send(writer::pack_then(told, then)) {
            tracing::error!(error = %refused(&error), "an operation could not be posted");
        }
    }

    /// Runs `op` on a read-only connection. It sees everything acknowledged before the call.
    ///
    /// # Errors
    /// [`StoreError::Sqlite`] when `op` fails (also when it tries to write); [`StoreError::Full`],
    /// [`StoreError::Unavailable`] or [`StoreError::Panicked`] as for writes.
    pub async fn read<T, F>(&self, op: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (job, answer) = reader::pack(op);
        self.readers.try_send(job).map_err(|error| refused(&error))?;
        answer.await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// Commits and operations so far.
    pub fn stats(&self) -> Stats {
        Stats {
            commits: self.counters.commits.load(Ordering::Relaxed),
            operations: self.counters.operations.load(Ordering::Relaxed),
        }
    }
}

fn refused<T>(error: &TrySendError<T>) -> StoreError {
    match error {
        TrySendError::Full(_) => StoreError::Full,
        TrySendError::Disconnected(_) => StoreError::Unavailable,
    }
}
