//! The read pool: a few threads, each with its own read-only connection.
//!
//! In WAL mode readers neither wait for the writer nor make it wait. Threads of our own rather than the runtime's
//! blocking pool, so that at most [`crate::Options::readers`] queries compete with the writer for the processor.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{StoreError, open};

/// A query on its way to a reading thread.
pub(crate) type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// Packs a query together with the place its answer goes to.
pub(crate) fn pack<T, F>(op: F) -> (ReadJob, oneshot::Receiver<Result<T, StoreError>>)
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let job: ReadJob = Box::new(move |connection| {
        let result = match catch_unwind(AssertUnwindSafe(|| op(connection))) {
            Ok(result) => result.map_err(StoreError::from),
            Err(_) => Err(StoreError::Panicked),
        };
        // The asker may have gone away; a read then has no further effect.
        let _ = reply.send(result);
    });
    (job, answer)
}

/// Starts `readers` threads (at least one) on the file and returns the queue in front of them.
pub(crate) fn start(path: &Path, readers: usize, queue: usize) -> Result<SyncSender<ReadJob>, StoreError> {
    let (sender, receiver) = sync_channel(queue);
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..readers.max(1) {
        let connection = open::reader(path)?;
        let receiver = Arc::clone(&receiver);
        std::thread::Builder::new().name("durable-reader".to_owned()).spawn(move || serve(&connection, &receiver))?;
    }
    Ok(sender)
}

/// Takes queries until every handle of the store is gone.
fn serve(connection: &Connection, queue: &Mutex<Receiver<ReadJob>>) {
    loop {
        // The guard is dropped at the end of this statement: one thread waits in `recv`, the others behind the lock.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            // The query's own panic is caught inside; this one comes from an answer that nobody took.
            Ok(job) => {
                if catch_unwind(AssertUnwindSafe(|| job(connection))).is_err() {
                    tracing::error!("the answer to a query panicked when it was dropped");
                }
            }
            Err(_) => return,
        }
    }
}
