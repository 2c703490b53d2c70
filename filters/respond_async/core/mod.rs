//! What waits, who is next and what follows from an end: pure decisions, with time and chance as arguments.
//!
//! The [`Book`] knows one small entry for each request that is not over; bodies stay on the disk. It never does anything:
//! whoever holds it writes to the disk, sends, and tells it what came of that.

mod book;
mod figures;
mod lane;
mod leaving;
mod line;
mod pace;
mod record;
mod release;
mod room;
mod rules;
#[cfg(test)]
mod tests;

pub use book::{Book, Due};
pub use figures::{Depth, Drain, Figures};
pub use lane::May;
pub(crate) use record::millis;
pub use record::{Class, Entry, Id, State, Verdict};
pub use release::Leave;
pub use room::{Refused, Seat};
pub use rules::{Retries, Rules, Shed};
