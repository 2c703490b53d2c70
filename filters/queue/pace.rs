//! A leaky bucket: one leaves at a time, a fixed interval apart, and slower at first when it is cold.

use std::time::Duration;

use crate::engine::{Nanos, Rate, TimeSpan};

/// A wake-up may be this late without the line losing its rate: places that fell due meanwhile are given at once. A
/// longer delay (a process that was stopped) is not made up for, since that would be a burst.
const LARGEST_DEBT: Duration = Duration::from_millis(20);

/// A slow beginning, so that a backend with cold caches is not hit by the full rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WarmUp {
    /// From cold to the full rate; the same time of idleness makes it cold again.
    pub(super) period: TimeSpan,
    /// The full rate is so many times the cold one.
    pub(super) cold_factor: u32,
}

/// When the next one may leave.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    interval: u64,
    warm_up: Option<WarmUp>,
    stand: Stand,
    /// How things stood before the last place was given, for as long as it can be taken back.
    given: Option<Stand>,
}

/// What giving a place changes.
#[derive(Clone, Copy, Debug, Default)]
struct Stand {
    next_at: Nanos,
    last: Option<Nanos>,
    /// Nanoseconds of warmth, from 0 to the period.
    warmth: u64,
    /// Nanoseconds by which all later places have been put off, because somebody was too late for theirs.
    slipped: u64,
}

impl Pace {
    pub(super) fn new(rate: Rate, warm_up: Option<WarmUp>) -> Self {
        Self { interval: nanos(rate.interval()), warm_up, stand: Stand::default(), given: None }
    }

    /// Another rate from now on. Who waits for the next place waits no longer than one new interval.
    pub(super) fn retune(&mut self, rate: Rate, warm_up: Option<WarmUp>, now: Nanos) {
        (self.interval, self.warm_up) = (nanos(rate.interval()), warm_up);
        self.stand.next_at = self.stand.next_at.min(Nanos(now.0.saturating_add(self.interval())));
    }

    /// Nanoseconds between two places as things stand.
    pub(super) fn interval(&self) -> u64 {
        let Some(WarmUp { period, cold_factor }) = self.warm_up else { return self.interval };
        let period = nanos(period.0).max(1);
        let warm = u128::from(self.stand.warmth.min(period));
        let (period, factor) = (u128::from(period), u128::from(cold_factor.max(1)));
        // The rate grows evenly from 1/factor of the full one: interval = full / (1/factor + (1 - 1/factor) * warm).
        let slow = u128::from(self.interval) * factor * period / (period + (factor - 1) * warm);
        u64::try_from(slow).unwrap_or(u64::MAX)
    }

    /// By how much everybody's place has been put off so far. What was told at an entry holds plus what came on top since.
    pub(super) fn slipped(&self) -> Duration {
        Duration::from_nanos(self.stand.slipped)
    }

    /// When the next place falls due; may lie in the past.
    pub(super) fn next_at(&self) -> Nanos {
        self.stand.next_at
    }

    /// The wait of one with `ahead` others in front. Exact at a steady rate, and too long while it warms.
    pub(super) fn wait(&self, ahead: u64, now: Nanos) -> Duration {
        self.stand.next_at.since(now).saturating_add(Duration::from_nanos(self.interval().saturating_mul(ahead)))
    }

    /// Takes the next place if it is due. Returns what [`Self::give_back`] needs.
    pub(super) fn take(&mut self, now: Nanos) -> Option<Nanos> {
        let before = self.stand;
        if before.next_at > now {
            return None;
        }
        self.warm(now);
        let floor = Nanos(now.0.saturating_sub(nanos(LARGEST_DEBT)));
        self.stand.slipped += nanos(floor.since(before.next_at));
        self.stand.next_at = Nanos(before.next_at.max(floor).0.saturating_add(self.interval()));
        self.given = Some(before);
        Some(before.next_at)
    }

    /// The first place after idleness is due now and not in arrears.
    pub(super) fn begin(&mut self, now: Nanos) {
        self.stand.next_at = self.stand.next_at.max(now);
    }

    /// Whoever the place was for has left: nothing happened. An older one than the last is gone: to give it again would be
    /// a burst.
    pub(super) fn give_back(&mut self, taken: Nanos) {
        if let Some(before) = self.given.take_if(|given| given.next_at == taken) {
            self.stand = before;
        }
    }

    /// Takes a place in the future, as a shadow does that holds nobody back.
    pub(super) fn take_ahead(&mut self, now: Nanos) {
        self.given = None;
        self.warm(now);
        self.stand.next_at = Nanos(self.stand.next_at.max(now).0.saturating_add(self.interval()));
    }

    fn warm(&mut self, now: Nanos) {
        let Some(WarmUp { period, .. }) = self.warm_up else { return };
        let gap = nanos(self.stand.last.map_or(Duration::ZERO, |last| now.since(last)));
        // Busy is whoever takes places about as fast as they come.
        let busy = gap <= self.interval().saturating_mul(2);
        let warmth = self.stand.warmth;
        let warmth = if busy { warmth.saturating_add(gap) } else { warmth.saturating_sub(gap) };
        self.stand.warmth = warmth.min(nanos(period.0));
        self.stand.last = Some(now);
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
