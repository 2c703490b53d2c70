//! One writer thread per SQLite file, group commit, a SAVEPOINT per operation.
//!
//! A durable commit costs one fsync, and a disk does a few hundred to a few thousand of those a second. A service
//! that commits once per request is pinned at that figure. Here all writes of one file go through one thread which
//! puts whatever is waiting into one transaction: the fsync is shared, nobody waits for a lock, and
//! `SQLITE_BUSY_SNAPSHOT` cannot happen because there is no second writer.
//!
//! * **Isolation of failures.** Every operation runs inside its own SAVEPOINT. If it returns an error or panics, its
//!   changes alone are undone; its neighbours in the same batch are not touched.
//! * **Acknowledged means durable.** [`Store::write`] resolves after `COMMIT` has returned, with `synchronous = FULL`
//!   that is after the fsync. If `COMMIT` fails (disk full, I/O error) nobody in the batch is acknowledged, and the
//!   writer carries on: a disk can recover.
//! * **Latency.** A lone operation is committed at once. Only when the batch before held several operations does the
//!   writer linger for late-comers, never longer than [`Options::max_delay`].
//! * **Checkpoints** run in a thread of their own, in silence or when the log has grown long. The writer itself moves no
//!   more than the last mebibyte, between batches and after the waiters have been answered.
//!
//! An operation must not begin, commit or roll back a transaction itself, and must not rely on deferred foreign
//! keys: those are checked at `COMMIT`, where a violation would fail the whole batch.

mod checkpoint;
mod error;
mod open;
mod reader;
mod store;
mod writer;

pub use error::{StoreError, WriteError};
pub use store::{Options, Stats, Store, Synchronous};
