//! How fast one channel is sent to: a leaky bucket that becomes slower when the channel says that it has too much.
//!
//! One number, the moment of the next one's turn (GCRA without a burst). Who wakes up late while something waits may catch
//! up 250 ms: a busy machine's timers must not cost throughput, and idleness saves up nothing. That is no burst at the
//! channel: those who were called together leave as far from each other as their turns were (`release`).
//! A busy or slow answer takes 30 % off the pace, once a second at most; two seconds behind the last of them the pace
//! comes back by 5 % of the full rate a second. Multiplicative down, additive up, as TCP does, since that is what lets
//! several senders find a fair share without knowing of each other.

use std::time::Duration;

use crate::engine::Rate;

/// What may be caught up.
const SLACK: Duration = Duration::from_millis(250);
/// What is left of the pace at a sign of overload.
const CUT: f64 = 0.7;
/// Between two cuts.
const CUT_EVERY: Duration = Duration::from_secs(1);
/// Quiet behind a cut before the pace comes back.
const QUIET: Duration = Duration::from_secs(2);
/// Share of the full rate that comes back in a second.
const BACK: f64 = 0.05;
/// The slowest pace, as a share of the full rate: something must go out to see that it goes better.
const FLOOR: f64 = 0.01;

/// The pace of one channel. Moments are durations since 1970.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// The moment of the latest one.
    slot: Duration,
    /// Nothing waited before.
    since: Duration,
    /// Share of the rate right behind the last cut.
    base: f64,
    cut_at: Duration,
    paused_until: Duration,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            slot: Duration::ZERO,
            since: Duration::ZERO,
            base: 1.0,
            cut_at: Duration::ZERO,
            paused_until: Duration::ZERO,
        }
    }

    /// The share of the rate that is used now.
    pub(super) fn factor(&self, now: Duration) -> f64 {
        let back = now.saturating_sub(self.cut_at + QUIET).as_secs_f64() * BACK;
        (self.base + back).min(1.0)
    }

    /// When the next one may go, at today's rate: another rate counts from the latest one on.
    pub(super) fn next(&self, rate: Rate, now: Duration) -> Duration {
        (self.slot + self.interval(rate, now)).max(self.since).max(self.paused_until)
    }

    /// The turn of the latest one.
    pub(super) fn slot(&self) -> Duration {
        self.slot
    }

    /// The time between two at today's rate.
    pub(super) fn interval(&self, rate: Rate, now: Duration) -> Duration {
        rate.interval().div_f64(self.factor(now))
    }

    /// Something waits that did not before: the time without it is not caught up.
    pub(super) fn begin(&mut self, now: Duration) {
        self.since = now;
    }

    /// One goes.
    pub(super) fn take(&mut self, rate: Rate, now: Duration) {
        self.slot = self.next(rate, now).max(now.saturating_sub(SLACK));
    }

    /// One does not go after all.
    pub(super) fn give_back(&mut self, rate: Rate, now: Duration) {
        self.slot = self.slot.saturating_sub(self.interval(rate, now));
    }

    /// The channel has too much to do.
    pub(super) fn slow_down(&mut self, now: Duration) {
        if now >= self.cut_at + CUT_EVERY {
            self.base = (self.factor(now) * CUT).max(FLOOR);
            self.cut_at = now;
        }
    }

    /// It may not be asked until then.
    pub(super) fn pause(&mut self, until: Duration) {
        self.paused_until = self.paused_until.max(until);
    }

    /// Whether it may not be asked now.
    pub(super) fn is_paused(&self, now: Duration) -> bool {
        now < self.paused_until
    }

    /// Until when it may not be asked.
    pub(super) fn paused_until(&self) -> Duration {
        self.paused_until
    }
}
