//! How many were admitted in the last 60 seconds, never told too low.
//!
//! Admissions are counted in tenths of a second. The sum takes in the tenth that is running and the 600 before it, so it
//! covers every window of 60 seconds that ends now, whatever its offset: a limit that this sum keeps holds over *any* 60
//! seconds, not over those that begin on a full minute. Empty tenths are not stored: an idle room costs nothing.

use std::collections::VecDeque;

const TENTH: u64 = 100;
const TENTHS: u64 = 600;

/// Admissions of the last minute, by tenths of a second.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Number of the tenth since 1970, and how many were admitted in it; oldest first.
    tenths: VecDeque<(u64, u32)>,
    sum: u64,
}

impl Window {
    /// Counts `count` admissions at `now` (milliseconds).
    pub(super) fn add(&mut self, now: u64, count: u32) {
        let tenth = now / TENTH;
        self.sum += u64::from(count);
        match self.tenths.back_mut() {
            Some((last, sum)) if *last >= tenth => *sum += count,
            _ => self.tenths.push_back((tenth, count)),
        }
    }

    /// Admissions in any 60 seconds that end at `now`, at most.
    pub(super) fn sum(&mut self, now: u64) -> u64 {
        let oldest = (now / TENTH).saturating_sub(TENTHS);
        while let Some((_, count)) = self.tenths.front().copied().filter(|(tenth, _)| *tenth < oldest) {
            self.sum -= u64::from(count);
            self.tenths.pop_front();
        }
        self.sum
    }

    /// The tenths as moments in milliseconds, with their counts.
    pub(super) fn entries(&self) -> Vec<(u64, u32)> {
        self.tenths.iter().map(|(tenth, count)| (tenth * TENTH, *count)).collect()
    }
}
