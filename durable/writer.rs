//! The writer thread: gathers operations, runs each in a SAVEPOINT, commits once, answers all.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::checkpoint::{self, Mover};
use crate::store::Counters;
use crate::{Options, StoreError, WriteError};

/// Silence after which the log is moved to the file.
const IDLE: Duration = Duration::from_millis(200);

/// Silence that ends the gathering of a batch. Callers answered by the last commit need some tens of microseconds to
/// come back with their next operation; an fsync costs ten times as much.
const GATHER_GAP: Duration = Duration::from_micros(100);

/// Pages in the log beyond which they are moved to the file even without silence: 16 MiB at SQLite's 4 KiB pages. Beyond
/// it reads get slower, since each looks through the log's index.
const LONG: i64 = 4_096;

/// Pages that the writer moves itself, between two batches. Only when all are moved does the log begin anew, and while
/// the writer goes on writing, another thread never catches up with it.
const LAST_PAGES: i64 = 256;

/// A log of so many pages is moved by the writer, whatever that takes: the other thread has fallen behind for good.
const TOO_LONG: i64 = 4 * LONG;

/// One operation on its way through the writer.
pub(crate) trait WriteJob: Send {
    /// Runs the operation and keeps its result. `true` when its changes are to be kept.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Answers the caller: with the kept result after a commit, with the error when there was none.
    fn finish(self: Box<Self>, failure: Option<StoreError>);
}

struct Packed<F, T, E, R> {
    op: Option<F>,
    result: Result<T, WriteError<E>>,
    reply: R,
}

impl<F, T, E, R> WriteJob for Packed<F, T, E, R>
where
    T: Send,
    E: Send,
    F: FnOnce(&Connection) -> Result<T, E> + Send,
    R: FnOnce(Result<T, WriteError<E>>) + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let Some(op) = self.op.take() else {
            return false;
        };
        // Unwind safety: what the operation left half done in the file is rolled back, and it owned everything else.
        self.result = match catch_unwind(AssertUnwindSafe(|| op(connection))) {
            Ok(result) => result.map_err(WriteError::Op),
            Err(_) => Err(WriteError::Store(StoreError::Panicked)),
        };
        self.result.is_ok()
    }

    fn finish(self: Box<Self>, failure: Option<StoreError>) {
        let result = failure.map_or(self.result, |error| Err(WriteError::Store(error)));
        (self.reply)(result);
    }
}

/// Packs an operation together with the place its answer goes to.
#[expect(clippy::type_complexity, reason = "the pair is taken apart at the only call")]
pub(crate) fn pack<T, E, F>(op: F) -> (Box<dyn WriteJob>, oneshot::Receiver<Result<T, WriteError<E>>>)
where
    T: Send + 'static,
    E: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    // A caller that stopped waiting does not undo the operation.
    (pack_then(op, move |result| _ = reply.send(result)), answer)
}

/// Packs an operation together with what is done when it is committed, or will not be.
pub(crate) fn pack_then<T, E, F, R>(op: F, then: R) -> Box<dyn WriteJob>
where
    T: Send + 'static,
    E: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    R: FnOnce(Result<T, WriteError<E>>) + Send + 'static,
{
    let result = Err(WriteError::Store(StoreError::Unavailable));
    Box::new(Packed { op: Some(op), result, reply: then })
}

/// Starts the writer thread on a connection that has been prepared for it.
pub(crate) fn start(
    connection: Connection,
    queue: Receiver<Box<dyn WriteJob>>,
    mover: Mover,
    options: &Options,
    counters: Arc<Counters>,
) -> Result<(), StoreError> {
    let mut writer = Writer {
        connection,
        queue,
        mover,
        max_batch: options.max_batch.max(1),
        max_delay: options.max_delay,
        counters,
        unchecked: false,
        last_batch: 0,
    };
    std::thread::Builder::new().name("durable-writer".to_owned()).spawn(move || writer.serve())?;
    Ok(())
}

/// Answers a caller. One who has gone away leaves a value of his to be dropped here, and if that panics it must not end
/// the thread everybody else relies on.
fn answer(job: Box<dyn WriteJob>, failure: Option<StoreError>) {
    if catch_unwind(AssertUnwindSafe(|| job.finish(failure))).is_err() {
        tracing::error!("the answer to an operation panicked when it was dropped");
    }
}

struct Writer {
    connection: Connection,
    queue: Receiver<Box<dyn WriteJob>>,
    /// Moves the log to the file meanwhile.
    mover: Mover,
    max_batch: usize,
    max_delay: Duration,
    counters: Arc<Counters>,
    /// Something was committed since the last checkpoint.
    unchecked: bool,
    /// Size of the batch before: the forecast of whether company is coming.
    last_batch: usize,
}

/// What became of the operations of one batch.
#[derive(Default)]
struct Batch {
    jobs: Vec<Box<dyn WriteJob>>,
    kept: u64,
}

impl Writer {
    fn serve(&mut self) {
        loop {
            let first = if self.unchecked {
                match self.queue.recv_timeout(IDLE) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => {
                        self.unchecked = !self.mover.wake();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            } else {
                match self.queue.recv() {
                    Ok(job) => job,
                    Err(_) => return,
                }
            };
            self.batch(first);
            self.checkpoint_when_long();
        }
    }

    /// One transaction. Running operations while gathering them makes the gathering free of charge.
    fn batch(&mut self, first: Box<dyn WriteJob>) {
        if let Err(error) = self.execute("BEGIN IMMEDIATE") {
            tracing::error!(%error, "cannot begin a transaction");
            answer(first, Some(error));
            return;
        }
        let mut batch = Batch::default();
        let mut failure = self.run(first, &mut batch).err();
        let deadline = Instant::now() + self.max_delay;
        while failure.is_none() && batch.jobs.len() < self.max_batch {
            match self.next(deadline) {
                Some(job) => failure = self.run(job, &mut batch).err(),
                None => break,
            }
        }
        self.last_batch = batch.jobs.len();
        if failure.is_none() {
            failure = self.execute("COMMIT").err();
        }
        if let Some(error) = &failure {
            tracing::error!(%error, operations = batch.jobs.len(), "a batch was not committed");
            self.abandon();
        } else {
            self.counters.commits.fetch_add(1, Ordering::Relaxed);
            self.counters.operations.fetch_add(batch.kept, Ordering::Relaxed);
            self.unchecked = true;
        }
        for job in batch.jobs {
            answer(job, failure.clone());
        }
    }

    /// The next operation for the current batch: what is queued already, else what turns up within the gap.
    fn next(&self, deadline: Instant) -> Option<Box<dyn WriteJob>> {
        if let Ok(job) = self.queue.try_recv() {
            return Some(job);
        }
        // A lone caller waits for this very commit; lingering would only delay it.
        if self.last_batch < 2 {
            return None;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        self.queue.recv_timeout(left.min(GATHER_GAP)).ok()
    }

    /// Runs one operation in its SAVEPOINT. An error means that the transaction is lost, not that the operation failed.
    fn run(&self, mut job: Box<dyn WriteJob>, batch: &mut Batch) -> Result<(), StoreError> {
        let opened = self.execute("SAVEPOINT op");
        let keep = opened.is_ok() && job.run(&self.connection);
        batch.jobs.push(job);
        opened?;
        // On a full disk and on some I/O errors SQLite rolls the whole transaction back by itself.
        if self.connection.is_autocommit() {
            return Err(StoreError::BatchLost);
        }
        if keep {
            batch.kept += 1;
        } else {
            self.execute("ROLLBACK TO op")?;
        }
        self.execute("RELEASE op")
    }

    /// Leaves the transaction behind whatever state it is in, so that the next batch can begin.
    fn abandon(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            tracing::error!(%error, "cannot roll back");
        }
    }

    fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Has a long log moved to the file. Asking how long it is costs no disk access.
    fn checkpoint_when_long(&self) {
        let Ok(log) = checkpoint::run(&self.connection, "NOOP") else { return };
        if log.pages <= LONG {
            return;
        }
        if log.to_move <= LAST_PAGES || log.pages > TOO_LONG {
            self.checkpoint();
        } else {
            self.mover.wake();
        }
    }

    fn checkpoint(&self) {
        if let Err(error) = checkpoint::run(&self.connection, "PASSIVE") {
            tracing::warn!(%error, "checkpoint failed, the log keeps growing");
        }
    }
}
