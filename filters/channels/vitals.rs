//! How fast a channel answers and how often it fails, as counts that only grow: whoever wants to know how it does *now*
//! takes two readings and compares them.
//!
//! A try costs one atomic addition and no lock. Times fall into eight classes for each doubling, so a percentile is at
//! most an eighth above the truth.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{Judged, judge};
use crate::engine::{AttemptEnd, AttemptResult};

/// Classes of each doubling.
const STEPS: u64 = 8;
/// From one millisecond to well over an hour; what is longer counts as that.
const CLASSES: usize = 184;

/// The counts of one channel.
pub struct Vitals {
    answered: [AtomicU64; CLASSES],
    failed: AtomicU64,
    /// Tries that ended without an answer; they failed, too.
    mute: AtomicU64,
}

/// What the counts were at one moment, or with [`Reading::since`] what happened between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    answered: Box<[u64]>,
    failed: u64,
    mute: u64,
}

impl Vitals {
    /// Notes how a try ended. One whose channel says that it has too much to do counts as failed here.
    pub fn note(&self, end: &AttemptEnd) {
        if judge(end) != Judged::Good {
            self.failed.fetch_add(1, Relaxed);
        }
        match end.result {
            AttemptResult::ConnectFailed | AttemptResult::Broken => drop(self.mute.fetch_add(1, Relaxed)),
            // Nobody knows how long the answer would have taken; at least this long.
            AttemptResult::TimedOut | AttemptResult::Status(_) | AttemptResult::Declined { .. } => {
                self.answered[class(end.took)].fetch_add(1, Relaxed);
            }
        }
    }

    /// The counts now.
    #[must_use]
    pub fn read(&self) -> Reading {
        Reading {
            answered: self.answered.iter().map(|count| count.load(Relaxed)).collect(),
            failed: self.failed.load(Relaxed),
            mute: self.mute.load(Relaxed),
        }
    }
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            answered: std::array::from_fn(|_| AtomicU64::new(0)),
            failed: AtomicU64::new(0),
            mute: AtomicU64::new(0),
        }
    }
}

impl Reading {
    /// What happened since an earlier reading of the same counts.
    #[must_use]
    pub fn since(&self, earlier: &Reading) -> Reading {
        let pairs = self.answered.iter().zip(&earlier.answered);
        Reading {
            answered: pairs.map(|(now, before)| now.saturating_sub(*before)).collect(),
            failed: self.failed.saturating_sub(earlier.failed),
            mute: self.mute.saturating_sub(earlier.mute),
        }
    }

    /// Adds another channel's.
    pub fn add(&mut self, other: &Reading) {
        self.answered.iter_mut().zip(&other.answered).for_each(|(sum, more)| *sum += more);
        self.failed += other.failed;
        self.mute += other.mute;
    }

    /// Tries that ended.
    #[must_use]
    pub fn tries(&self) -> u64 {
        self.answered.iter().sum::<u64>() + self.mute
    }

    /// Share of tries that failed, 0 to 1; 0 without any.
    #[must_use]
    pub fn error_ratio(&self) -> f64 {
        self.failed as f64 / self.tries().max(1) as f64
    }

    /// The time that 95 in 100 answers stay below; `None` without answers.
    #[must_use]
    pub fn p95(&self) -> Option<Duration> {
        let answers: u64 = self.answered.iter().sum();
        let rank = (answers * 95).div_ceil(100);
        let mut below = 0;
        let longest = self.answered.iter().position(|count| {
            below += count;
            *count > 0 && below >= rank
        })?;
        Some(Duration::from_millis(highest(longest)))
    }
}

fn class(took: Duration) -> usize {
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    if millis < STEPS {
        return usize::try_from(millis).unwrap_or(0);
    }
    let shift = u64::from(millis.ilog2() - STEPS.ilog2());
    usize::try_from(shift * STEPS + (millis >> shift)).unwrap_or(CLASSES).min(CLASSES - 1)
}

/// The longest time of a class, in milliseconds.
fn highest(class: usize) -> u64 {
    let class = class as u64;
    if class < STEPS {
        return class;
    }
    let shift = class / STEPS - 1;
    ((class - shift * STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::engine::{ChannelId, Known};

    fn end(result: AttemptResult, millis: u64) -> AttemptEnd {
        let took = Duration::from_millis(millis);
        AttemptEnd { channel: ChannelId(0), result, known: Known::Final, took, replayable: false }
    }

    #[test]
    fn a_class_holds_its_times_and_is_narrow() {
        for millis in (0..3_000).chain([59_999, 3_000_000, u64::MAX]) {
            let class = class(Duration::from_millis(millis));
            if class < CLASSES - 1 {
                assert!(highest(class) >= millis && highest(class) <= millis + millis / 8, "{millis}");
            }
        }
    }

    #[test]
    fn two_readings_say_what_happened_between_them() {
        let vitals = Vitals::default();
        let ok = AttemptResult::Status(StatusCode::OK);
        vitals.note(&end(ok, 5_000));
        let before = vitals.read();
        for _ in 0..95 {
            vitals.note(&end(ok, 20));
        }
        for _ in 0..3 {
            vitals.note(&end(AttemptResult::Status(StatusCode::SERVICE_UNAVAILABLE), 900));
        }
        vitals.note(&end(AttemptResult::Status(StatusCode::TOO_MANY_REQUESTS), 1));
        vitals.note(&end(AttemptResult::Broken, 4_000));
        let since = vitals.read().since(&before);
        assert_eq!(since.tries(), 100);
        assert!((since.error_ratio() - 0.05).abs() < 1e-9, "{since:?}");
        assert_eq!(since.p95(), Some(Duration::from_millis(21)), "95 of 99 were that fast");
        let mut both = since.clone();
        both.add(&before);
        assert_eq!(both.tries(), 101);
        assert_eq!(vitals.read().since(&vitals.read()).p95(), None);
    }
}
