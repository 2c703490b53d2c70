//! How many keys are written at a time while buyers are served from the same file.
//!
//! Each new key touches a page of its own in the index of fingerprints, so what a chunk costs grows with its size, with
//! the keys there are, and with a slow disk. A fixed size is too large for one shop and too small for another; this one
//! follows what the last chunk took, waiting behind buyers included: they come first.

use std::time::Duration;

/// What a chunk may take. A purchase is two writes, each of which may wait for a chunk and share the commit of another.
const WANTED: Duration = Duration::from_millis(20);

/// Fewest keys at a time: below it a commit costs more than what is in it, and smaller chunks would help nobody. Most:
/// what is held in memory.
const FEWEST: usize = 250;
const MOST: usize = 2_000;

/// The size of the next chunk.
#[derive(Debug)]
pub(super) struct Pace(usize);

impl Default for Pace {
    fn default() -> Self {
        Self(FEWEST * 2)
    }
}

impl Pace {
    /// Keys the next chunk may have.
    pub(super) fn size(&self) -> usize {
        self.0
    }

    /// The last chunk took so long.
    pub(super) fn learn(&mut self, took: Duration) {
        if took > WANTED {
            self.0 = (self.0 / 2).max(FEWEST);
        } else if took < WANTED / 2 {
            self.0 = (self.0 + self.0 / 4).min(MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_shrink_while_they_are_slow_and_grow_while_they_are_quick() {
        let mut pace = Pace::default();
        let start = pace.size();
        pace.learn(Duration::from_millis(15));
        assert_eq!(pace.size(), start, "neither slow nor quick");
        for _ in 0..20 {
            pace.learn(Duration::from_millis(100));
        }
        assert_eq!(pace.size(), FEWEST);
        for _ in 0..40 {
            pace.learn(Duration::from_millis(1));
        }
        assert_eq!(pace.size(), MOST);
    }
}
