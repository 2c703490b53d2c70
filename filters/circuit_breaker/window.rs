//! Outcomes of the latest seconds, in buckets that take turns.
//!
//! Without a lock: whoever comes first in a new bucket's time empties it. An outcome that is counted in the same instant
//! may be lost with the old ones; a ratio over twenty and more does not depend on one. A window of another length begins
//! empty, since the numbers of its buckets are others.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::settings::{MOST_BUCKETS, Rules};
use crate::engine::Nanos;

struct Bucket {
    number: AtomicU64,
    all: AtomicU32,
    failed: AtomicU32,
    slow: AtomicU32,
}

/// Counts of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Outcomes.
    pub all: u32,
    /// Failures among them.
    pub failed: u32,
    /// Slow ones among them.
    pub slow: u32,
}

/// A moving window.
pub(super) struct Outcomes([Bucket; MOST_BUCKETS]);

impl Outcomes {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Bucket {
            number: AtomicU64::new(u64::MAX),
            all: AtomicU32::new(0),
            failed: AtomicU32::new(0),
            slow: AtomicU32::new(0),
        }))
    }

    fn number(rules: &Rules, now: Nanos) -> u64 {
        now.0 / u64::try_from(rules.bucket.as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    pub(super) fn count(&self, failed: bool, slow: bool, rules: &Rules, now: Nanos) {
        let number = Self::number(rules, now);
        let Some(bucket) = self.0.get(usize::try_from(number % MOST_BUCKETS as u64).unwrap_or(0)) else { return };
        let before = bucket.number.load(Relaxed);
        if before != number && bucket.number.compare_exchange(before, number, Relaxed, Relaxed).is_ok() {
            [&bucket.all, &bucket.failed, &bucket.slow].iter().for_each(|count| count.store(0, Relaxed));
        }
        bucket.all.fetch_add(1, Relaxed);
        if failed {
            bucket.failed.fetch_add(1, Relaxed);
        }
        if slow {
            bucket.slow.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn counts(&self, rules: &Rules, now: Nanos) -> Counts {
        let number = Self::number(rules, now);
        let oldest = (number + 1).saturating_sub(u64::from(rules.buckets));
        let mut counts = Counts::default();
        for bucket in &self.0 {
            if (oldest..=number).contains(&bucket.number.load(Relaxed)) {
                counts.all += bucket.all.load(Relaxed);
                counts.failed += bucket.failed.load(Relaxed);
                counts.slow += bucket.slow.load(Relaxed);
            }
        }
        counts
    }

    pub(super) fn clear(&self) {
        self.0.iter().for_each(|bucket| bucket.number.store(u64::MAX, Relaxed));
    }
}
