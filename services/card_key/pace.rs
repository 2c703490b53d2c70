//! How many keys are written at a time, and how long the writer is left to buyers in between.
//!
//! Each new key touches a page of its own in the index of fingerprints, so what a chunk costs grows with its size, with
//! the keys there are, and with a slow disk. A fixed size is too large for one shop and too small for another; this one
//! follows what the last chunk took, waiting behind buyers included.
//!
//! Buyers come first: while somebody buys, chunks are small and each is followed by a pause twice as long as it took, so
//! that a purchase meets a chunk in one case of three, and then a short one. A shop without buyers is filled as fast as it goes.

use std::time::Duration;

/// What a chunk may take while nobody buys. The first buyer waits for one of these at most.
const QUIET: Duration = Duration::from_millis(20);

/// What it may take while somebody does. A purchase is two writes, each of which may wait for a chunk and share the
/// commit of another.
const BUSY: Duration = Duration::from_millis(6);

/// Rest for each unit of work while somebody buys.
const PAUSES: u32 = 2;

/// Longest pause: a disk that hangs for ten seconds does not stop an import for twenty.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Chunks after the last purchase for which the shop counts as busy; with their pauses some seconds.
const PATIENCE: u32 = 200;

/// Fewest keys at a time: below it a commit costs more than what is in it, and smaller chunks would help nobody. Most:
/// what is held in memory.
const FEWEST: usize = 32;
const MOST: usize = 2_000;

/// The size of the next chunk, and whom it disturbs.
#[derive(Debug)]
pub(super) struct Pace {
    size: usize,
    /// What buyers had done when it was looked at last; absent before that.
    seen: Option<u64>,
    /// Chunks for which the shop is still taken for busy.
    busy: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { size: FEWEST * 4, seen: None, busy: 0 }
    }
}

impl Pace {
    /// Keys the next chunk may have.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The last chunk took so long, and buyers have done so much until now. Answers how long to leave the file to them.
    pub(super) fn learn(&mut self, took: Duration, by_buyers: u64) -> Duration {
        let bought = self.seen.is_some_and(|seen| by_buyers > seen);
        self.seen = Some(by_buyers);
        self.busy = if bought { PATIENCE } else { self.busy.saturating_sub(1) };
        let wanted = if self.busy > 0 { BUSY } else { QUIET };
        if took > wanted {
            self.size = (self.size / 2).max(FEWEST);
        } else if took < wanted / 2 {
            self.size = (self.size + self.size / 4).min(MOST);
        }
        if self.busy > 0 { (took * PAUSES).min(LONGEST_PAUSE) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn chunks_shrink_while_they_are_slow_and_grow_while_they_are_quick() {
        let mut pace = Pace::default();
        let learn = |pace: &mut Pace, took| assert_eq!(pace.learn(took, 7), Duration::ZERO, "nobody buys");
        let start = pace.size();
        learn(&mut pace, 15 * MS);
        assert_eq!(pace.size(), start, "neither slow nor quick");
        for _ in 0..20 {
            learn(&mut pace, 100 * MS);
        }
        assert_eq!(pace.size(), FEWEST);
        for _ in 0..40 {
            learn(&mut pace, MS);
        }
        assert_eq!(pace.size(), MOST);
    }

    #[test]
    fn while_somebody_buys_chunks_are_short_and_two_thirds_of_the_time_are_his() {
        let mut pace = Pace::default();
        pace.learn(15 * MS, 7);
        let before = pace.size();
        assert_eq!(pace.learn(15 * MS, 9), 30 * MS);
        assert!(pace.size() < before);
        assert_eq!(pace.learn(15 * MS, 9), 30 * MS, "he may come back");
        assert_eq!(pace.learn(Duration::from_secs(9), 9), LONGEST_PAUSE);
        for _ in 0..PATIENCE {
            pace.learn(MS, 9);
        }
        assert_eq!(pace.learn(15 * MS, 9), Duration::ZERO, "he has gone");
    }
}
