//! What can go wrong with a store, and what can go wrong with one operation.

use std::sync::Arc;

/// Failure of the store itself, as opposed to an operation that decided to fail.
///
/// Cheap to clone, because one failed `COMMIT` is reported to every operation of its batch.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The writer or the readers are gone: the process is shutting down.
    #[error("the store is not running")]
    Unavailable,
    /// The queue in front of the writer (or of the readers) is full. Nothing was done; try again later.
    #[error("too many operations are waiting for the store")]
    Full,
    /// SQLite or the disk refused. For a write: nothing of the operation was kept.
    #[error("sqlite: {0}")]
    Sqlite(#[source] Arc<rusqlite::Error>),
    /// The transaction an operation took part in was rolled back on account of a neighbour (SQLite does that when the
    /// disk is full, for instance). Nothing of the operation was kept.
    #[error("the whole batch was rolled back")]
    BatchLost,
    /// The operation panicked; its changes were rolled back.
    #[error("the operation panicked")]
    Panicked,
    /// The file was written by a newer version of the program: it has had `found` migrations, this program knows
    /// `known`. Opening it would risk misreading it.
    #[error("the file has schema version {found}, this program knows versions up to {known}")]
    NewerSchema {
        /// `user_version` of the file.
        found: usize,
        /// How many migrations the program brought along.
        known: usize,
    },
    /// The file cannot be kept with a write-ahead log (no shared memory on that file system, for instance); the text is
    /// the mode it is in instead.
    #[error("the file cannot have a write-ahead log; its journal mode is {0}")]
    NoLog(String),
    /// A thread could not be started, or the file's folder could not be used.
    #[error("cannot start the store: {0}")]
    Start(#[source] Arc<std::io::Error>),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Start(Arc::new(error))
    }
}

/// Why a write did not happen. In both cases nothing of the operation was kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError<E> {
    /// The operation itself returned this error.
    #[error("{0}")]
    Op(E),
    /// The store could not run or commit the operation.
    #[error(transparent)]
    Store(#[from] StoreError),
}
