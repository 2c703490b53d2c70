//! Checkpoints: what the log holds is moved to the file.
//!
//! Sixteen mebibytes of pages that lie all over the file take a slow disk a tenth of a second and more. A writer that
//! moves them itself keeps everybody waiting for so long, so a thread of its own does it, while the writer goes on. The
//! rest, which came meanwhile, is the writer's: see there. So is the wait for the disk at the end: SQLite syncs the file when
//! the last page is in it, and by then the system has written most of what was copied before.
//!
//! Always PASSIVE: moves what no reader still needs and waits for nobody.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rusqlite::Connection;

use crate::{StoreError, Synchronous, open};

/// How long the log is, in pages.
pub(crate) struct Log {
    pub(crate) pages: i64,
    /// Those of them that are not in the file yet.
    pub(crate) to_move: i64,
}

/// Runs a checkpoint of this mode; `NOOP` only looks.
pub(crate) fn run(connection: &Connection, mode: &str) -> Result<Log, StoreError> {
    let mut pragma = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    let log = pragma.query_row([], |row| {
        let (pages, moved): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(Log { pages, to_move: pages - moved })
    })?;
    Ok(log)
}

/// The thread that moves a long log. It ends when this is dropped.
pub(crate) struct Mover(SyncSender<()>);

impl Mover {
    /// Starts the thread, with a connection of its own.
    pub(crate) fn start(path: &Path, synchronous: Synchronous) -> Result<Self, StoreError> {
        let connection = open::mover(path, synchronous)?;
        // No place in the queue: who is at work need not be told again, the writer looks after each batch.
        let (sender, calls) = sync_channel(0);
        std::thread::Builder::new().name("durable-mover".to_owned()).spawn(move || serve(&connection, &calls))?;
        Ok(Self(sender))
    }

    /// Has the log moved. `false` when that is under way already, and what came since may be left behind.
    pub(crate) fn wake(&self) -> bool {
        self.0.try_send(()).is_ok()
    }
}

fn serve(connection: &Connection, calls: &Receiver<()>) {
    while calls.recv().is_ok() {
        if let Err(error) = run(connection, "PASSIVE") {
            tracing::warn!(%error, "checkpoint failed, the log keeps growing");
        }
    }
}
