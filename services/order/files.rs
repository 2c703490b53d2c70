//! The files of the orders, and the way to the right one.
//!
//! All rows of a user lie in one file, his orders' payments, tasks and events among them, so every step is still one
//! transaction. Each file has a writer of its own and readers beside it: more files are more fsyncs side by side. The
//! number of an order or a payment carries the shard, so whoever knows only that finds the same file.

use std::path::Path;

use rusqlite::Connection;
use tidegate_durable::{Options, Stats, Store, WriteError};
use tokio::sync::watch;

use super::model::Refusal;
use super::{SERVICE, payments, schema};
use crate::outbox;
use crate::support::{Files, Problem, Shard, StartError, open_sharded};

/// One file.
pub(super) struct OrderFile {
    pub(super) store: Store,
    /// Rung whenever there may be something to do in the background.
    pub(super) bell: watch::Sender<()>,
    /// Rung whenever there may be an event to take in.
    pub(super) events: watch::Sender<()>,
}

impl OrderFile {
    /// Wakes the background: there may be something to do.
    pub(super) fn ring(&self) {
        self.bell.send_replace(());
        self.events.send_replace(());
    }

    /// Runs an operation in the writer and turns its refusal into an answer.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        op: impl FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Problem> {
        self.store.write(op).await.map_err(|error| match error {
            WriteError::Op(refusal) => refusal.into(),
            WriteError::Store(error) => error.into(),
        })
    }

    /// The same on a reading connection.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        op: impl FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Problem> {
        // The pool knows SQLite's errors only; ours travel inside.
        Ok(self.store.read(move |connection| Ok(op(connection))).await??)
    }
}

/// All of them.
pub(super) struct OrderFiles {
    files: Files,
    all: Vec<OrderFile>,
}

impl OrderFiles {
    /// Opens the files, making what is not there; what a crash left behind is due at once.
    ///
    /// # Errors
    /// When a file cannot be opened, or when the folder holds files of another number of shards.
    pub(super) async fn open(folder: &Path, files: Files, options: &Options) -> Result<Self, StartError> {
        let migrations = [schema::SCHEMA, outbox::SCHEMA, outbox::SEEN_BY_TIME];
        let stores = open_sharded(folder, SERVICE, files, &migrations, options, recover).await?;
        let file = |store| OrderFile { store, bell: watch::Sender::new(()), events: watch::Sender::new(()) };
        let all = stores.into_iter().map(file).collect();
        Ok(Self { files, all })
    }

    /// The file of a shard: the only way from rows to their file.
    fn of(&self, shard: Shard) -> &OrderFile {
        &self.all[self.files.of(shard)]
    }

    /// The file with the rows of a user.
    pub(super) fn of_user(&self, user: &str) -> &OrderFile {
        self.of(Shard::of_user(user))
    }

    /// The file with an order, by its number or the number of one of its payments; absent when it is neither.
    pub(super) fn of_number(&self, number: &str) -> Option<&OrderFile> {
        Shard::of_number(number.split('-').next()?).map(|shard| self.of(shard))
    }

    /// Every file, in the order of their names.
    pub(super) fn all(&self) -> &[OrderFile] {
        &self.all
    }

    /// What all of them have committed.
    pub(super) fn stats(&self) -> Stats {
        self.all.iter().map(|file| file.store.stats()).fold(Stats::default(), |sum, one| Stats {
            commits: sum.commits + one.commits,
            operations: sum.operations + one.operations,
        })
    }
}

fn recover(connection: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    payments::look_at_all(connection, now_ms)?;
    outbox::due_now(connection, now_ms)
}
