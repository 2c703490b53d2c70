//! The arithmetic of one bucket: pure functions over one number, the theoretical arrival time.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::engine::{Nanos, Rate};

/// A bucket that takes longer than this to fill outlives any process, so it is a slip of the pen. 366 days.
pub const LONGEST_FILL: Duration = Duration::from_secs(366 * 86_400);

/// What a bucket holds and how fast it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    interval: u64,
    tolerance: u64,
    burst: NonZeroU32,
}

impl Quota {
    /// `burst` units at once (absent: the count written in `rate`), each coming back after its share of `rate`.
    ///
    /// The time of one unit is rounded up to whole nanoseconds, so the true rate is never above the written one.
    /// `None` when the bucket would take longer than [`LONGEST_FILL`] to fill.
    #[must_use]
    pub fn new(rate: Rate, burst: Option<NonZeroU32>) -> Option<Self> {
        let burst = burst.unwrap_or(rate.count);
        let interval = rate.per.as_nanos().div_ceil(u128::from(rate.count.get()));
        let tolerance = interval.checked_mul(u128::from(burst.get())).filter(|t| *t <= LONGEST_FILL.as_nanos())?;
        Some(Self { interval: u64::try_from(interval).ok()?, tolerance: u64::try_from(tolerance).ok()?, burst })
    }

    /// Time one unit takes to come back.
    #[must_use]
    pub fn interval(self) -> Duration {
        Duration::from_nanos(self.interval)
    }

    /// Time an empty bucket takes to fill.
    #[must_use]
    pub fn fill_time(self) -> Duration {
        Duration::from_nanos(self.tolerance)
    }

    /// Units a full bucket holds.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.burst.get()
    }

    /// Nanoseconds that `cost` units take to come back.
    pub(super) fn charge(self, cost: u32) -> u64 {
        self.interval.saturating_mul(u64::from(cost))
    }

    /// Takes `cost` units at `now` from a bucket that is full again at `full_at`.
    ///
    /// `Ok` carries the new moment of being full; `Err` the nanoseconds to wait, after which the same take passes.
    pub(super) fn decide(self, full_at: u64, cost: u32, now: Nanos) -> Result<u64, u64> {
        let next = full_at.max(now.0).saturating_add(self.charge(cost));
        match (next - now.0).checked_sub(self.tolerance) {
            None | Some(0) => Ok(next),
            Some(wait) => Err(wait),
        }
    }

    /// When the bucket is full after a refusal that is to be paid for. At most one cost more than an empty bucket owes:
    /// hammering keeps a client out, but its wait does not grow with it.
    pub(super) fn penalise(self, full_at: u64, cost: u32, now: Nanos) -> u64 {
        let charge = self.charge(cost);
        let most = now.0.saturating_add(self.tolerance).saturating_add(charge).max(full_at);
        full_at.max(now.0).saturating_add(charge).min(most)
    }

    /// What is left at `now` in a bucket that is full again at `full_at`.
    pub(super) fn standing(self, full_at: u64, now: Nanos) -> Standing {
        let debt = full_at.saturating_sub(now.0);
        let remaining = self.tolerance.saturating_sub(debt) / self.interval;
        // A debt past the tolerance comes from a clock that went back; the next unit is then that much further away.
        let over = debt.saturating_sub(self.tolerance);
        let next_unit = match (debt - over) % self.interval {
            _ if debt == 0 => 0,
            0 => self.interval,
            part => part,
        };
        Standing {
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            next_unit: Duration::from_nanos(next_unit.saturating_add(over)),
            full_in: Duration::from_nanos(debt),
        }
    }

    /// The moment of being full under `self` for a bucket that `old` filled so far: the share that is missing stays the
    /// same. Rounded up, so that going back and forth never makes a unit.
    pub(super) fn rescale(self, old: Quota, full_at: u64, now: Nanos) -> u64 {
        let debt = full_at.saturating_sub(now.0);
        if debt == 0 || self.tolerance == old.tolerance {
            return full_at;
        }
        let debt = (u128::from(debt) * u128::from(self.tolerance)).div_ceil(u128::from(old.tolerance));
        now.0.saturating_add(u64::try_from(debt).unwrap_or(u64::MAX))
    }
}

/// How a bucket stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whole units that can be taken now.
    pub remaining: u32,
    /// Until one more unit is there; zero when full.
    pub next_unit: Duration,
    /// Until the bucket is full.
    pub full_in: Duration,
}
