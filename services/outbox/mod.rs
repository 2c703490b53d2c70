//! Events that leave a business transaction with it, or not at all.
//!
//! *Commit, then tell the queue* loses the event when the process dies in between; *tell, then commit* tells what never
//! happened. Here the event is a row written by the same transaction as the change it speaks of. A relay claims rows,
//! publishes them and deletes them; since it can die between publishing and deleting, a consumer may see an event twice,
//! and notes its id in the same transaction as the effect.
//!
//! * **Producer**: [`push`] inside the business transaction, on any connection whose file has [`SCHEMA`].
//! * **Relay**: [`relay`], one task a file. A claim is a lease, so that what a dead relay had taken comes back.
//! * **Consumer**: [`first_time`] inside its own transaction.
//!
//! A failed delivery is tried again after 1, 2 and 4 units (seconds). After the fourth failure the event is a dead
//! letter, tried three times more at intervals of 60. Then it is PARKED: it stays, an error is logged, and only a person
//! brings it back ([`unpark`]).
//!
//! What a consumer has seen is forgotten after thirty days, when the event's row is gone from its file. An event that waits
//! for a person in another file must have been looked at by then.
//!
//! Order is kept for nobody: events of one key can overtake each other when one fails.

mod relay;
mod rows;
#[cfg(test)]
mod tests;

pub use relay::{Failure, Publish, relay};
pub use rows::{
    Depth, Message, Parked, SCHEMA, SEEN_BY_TIME, Topic, claim, depth, due_now, failed, first_time, forget_seen,
    parked, published, push, unpark,
};
