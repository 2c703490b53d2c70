//! Moments at which something about a number is due, the earliest first.
//!
//! Entries are never taken back: whoever pops one looks whether it still holds. That costs one stale entry for each
//! change and saves a search.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Moments (milliseconds) with the numbers they are about.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BinaryHeap<Reverse<(u64, u64)>>);

impl Deadlines {
    pub(super) fn add(&mut self, at: u64, number: u64) {
        self.0.push(Reverse((at, number)));
    }

    /// The next number that is due at `now`.
    pub(super) fn due(&mut self, now: u64) -> Option<u64> {
        self.0.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.0.pop().map(|Reverse((_, number))| number)
    }
}
