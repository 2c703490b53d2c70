//! When each one really leaves. A request is called at its turn, written down as running, and then sent: how long the disk
//! takes for that differs, and a channel must not be sent in a burst what a slow disk has held up.
//!
//! So all of a line leave by the same time behind their turns, the longest that it took in the last minutes to call them and
//! to write them down, and keep the distance that their turns had. What comes later still is not made up for at once: the distance is never less than 96 % of
//! the pace's, which is within the 5 % that a channel's limit has to bear. Who has nobody behind leaves at once.

use std::time::Duration;

/// What the disk may take without anybody being late for it. Costs as many requests that were written down and not sent
/// when the process dies.
const LONGEST: Duration = Duration::from_millis(250);
/// The delay becomes less by so much each second: slowly, because each time that it grows there is a gap at the channel.
const FADES: f64 = 0.001;
/// Least distance, as a share of the pace's.
const CLOSEST: f64 = 0.96;

/// One that was called and has not left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Called {
    pub(super) lane: usize,
    pub(super) gate: usize,
    /// Its turn.
    slot: Duration,
    /// Nobody stood behind it.
    alone: bool,
}

impl Called {
    pub(super) fn new((lane, gate): (usize, usize), slot: Duration, alone: bool) -> Self {
        Self { lane, gate, slot, alone }
    }
}

/// The way out of one gate.
#[derive(Clone, Debug, Default)]
pub(super) struct Release {
    /// When the last one leaves.
    last: Duration,
    delay: Duration,
    delayed_at: Duration,
    /// Called, and not yet on the disk.
    writing: u32,
}

impl Release {
    /// One is called.
    pub(super) fn call(&mut self) {
        self.writing += 1;
    }

    /// One that was called does not leave.
    pub(super) fn give_up(&mut self) {
        self.writing = self.writing.saturating_sub(1);
    }

    /// Whether so much is on its way out that nobody else is called: what cannot leave waits better in the line, where it
    /// can be withdrawn and is not in doubt when the process dies.
    pub(super) fn is_full(&self, interval: Duration, now: Duration) -> bool {
        self.writing > 0 && self.last.saturating_sub(now) + interval * self.writing > 2 * LONGEST.max(interval)
    }

    /// When one leaves that is on the disk now.
    pub(super) fn at(&mut self, called: Called, interval: Duration, now: Duration) -> Duration {
        self.give_up();
        let faded = now.saturating_sub(self.delayed_at).mul_f64(FADES);
        self.delay = self.delay.saturating_sub(faded).max(now.saturating_sub(called.slot)).min(LONGEST);
        self.delayed_at = now;
        let wished = if called.alone { now } else { called.slot + self.delay };
        self.last = wished.max(now).max(self.last + interval.mul_f64(CLOSEST));
        self.last
    }
}
