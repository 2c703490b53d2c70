//! How fast and how often one channel may be asked.
//!
//! `rate` is GCRA (ITU-T I.371) on one atomic number, the moment the bucket is full again, as in `rate_limit`; the burst
//! is the count written. `quota` counts in fixed spans that begin at multiples of their length since 1970 (a day begins
//! at midnight UTC): a contract that says 10,000 a day means no more than that in a day, which a bucket that refills
//! meanwhile would exceed. Both are kept over a reload and lost with the process.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::engine::{Nanos, Rate};

/// What a channel was asked.
#[derive(Default)]
pub(super) struct Pace {
    full_at: AtomicU64,
    /// Number of the span (upper half) and tries in it (lower half).
    spent: AtomicU64,
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds of one unit, rounded up: the true rate is never above the written one.
fn interval(rate: Rate) -> u64 {
    let interval = rate.per.as_nanos().div_ceil(u128::from(rate.count.get()));
    u64::try_from(interval).unwrap_or(u64::MAX)
}

fn decide(rate: Rate, full_at: u64, now: Nanos) -> Result<u64, Duration> {
    let next = full_at.max(now.0).saturating_add(interval(rate));
    let tolerance = interval(rate).saturating_mul(u64::from(rate.count.get()));
    match (next - now.0).checked_sub(tolerance) {
        None | Some(0) => Ok(next),
        Some(over) => Err(Duration::from_nanos(over)),
    }
}

fn span_of(quota: Rate, wall: Duration) -> u64 {
    (nanos(wall) / nanos(quota.per).max(1)) & u64::from(u32::MAX)
}

fn used(quota: Rate, spent: u64, wall: Duration) -> u64 {
    if spent >> 32 == span_of(quota, wall) { spent & u64::from(u32::MAX) } else { 0 }
}

impl Pace {
    /// How long until the rate allows a try; `None`: now.
    pub(super) fn wait(&self, rate: Rate, now: Nanos) -> Option<Duration> {
        decide(rate, self.full_at.load(Relaxed), now).err()
    }

    pub(super) fn take(&self, rate: Rate, now: Nanos) -> bool {
        self.full_at.fetch_update(Relaxed, Relaxed, |full_at| decide(rate, full_at, now).ok()).is_ok()
    }

    /// How long until the quota's next span; `None`: a try is left in this one.
    pub(super) fn quota_wait(&self, quota: Rate, wall: Duration) -> Option<Duration> {
        let spent = used(quota, self.spent.load(Relaxed), wall);
        let per = nanos(quota.per).max(1);
        (spent >= u64::from(quota.count.get())).then(|| Duration::from_nanos(per - nanos(wall) % per))
    }

    pub(super) fn take_quota(&self, quota: Rate, wall: Duration) -> bool {
        let take = |spent| {
            let used = used(quota, spent, wall);
            (used < u64::from(quota.count.get())).then(|| span_of(quota, wall) << 32 | (used + 1))
        };
        self.spent.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}
