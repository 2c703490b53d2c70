//! When each one really leaves. A request is called at its turn, written down as running, and then sent: how long the disk
//! takes for that differs, and a channel must not be sent in a burst what a slow disk has held up.
//!
//! So all of a line leave by the same time behind their turns, the longest that it took in the last minutes to call them and
//! to write them down, and keep the distance that their turns had. What comes later still is not made up for at once: the distance is never less than 96 % of
//! the pace's, which is within the 5 % that a channel's limit has to bear. Who has nobody behind leaves at once.
//!
//! At its moment each asks once more. A process that stood still meanwhile is late for many of them at once: all that are on
//! their way out move back by as much, so that they keep their distance, though two of them may change places. A pace that
//! became slower holds for them, too: they leave at the new distance, and go back into their line where that would be long.

use std::time::Duration;

/// What the disk may take without anybody being late for it. Costs as many requests that were written down and not sent
/// when the process dies.
const LONGEST: Duration = Duration::from_millis(250);
/// The delay becomes less by so much each second: slowly, because each time that it grows there is a gap at the channel.
const FADES: f64 = 0.001;
/// Least distance, as a share of the pace's.
const CLOSEST: f64 = 0.96;
/// A moment may be missed by so much without the others moving back: timers are as exact as a millisecond, and so much of a
/// second is half a per cent of its requests.
const TOLERANCE: Duration = Duration::from_millis(5);
/// It may seem to be so early: two clocks are read one behind the other.
const EARLY: Duration = Duration::from_micros(50);
/// Who would leave later than so many times the longest delay or the pace's distance, because the pace became slower, waits
/// in the line instead.
const FARTHEST: u32 = 3;

/// One that was called and has not left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Called {
    pub(super) lane: usize,
    pub(super) gate: usize,
    /// Its turn.
    slot: Duration,
    /// Nobody stood behind it.
    alone: bool,
    /// Which of the gate's paces it was called at, or given its moment with.
    pace: u32,
    /// When it leaves; `None`: it is not on the disk yet.
    plan: Option<Plan>,
}

/// A moment to leave.
#[derive(Clone, Copy, Debug)]
struct Plan {
    at: Duration,
    /// By how much the gate's had moved back in all when it was computed.
    moved: Duration,
}

/// What one does whose moment to leave has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It leaves.
    Now,
    /// Its moment is this one by now.
    At(Duration),
    /// The pace is so much slower that it waits in its line.
    Back,
}

impl Called {
    pub(super) fn new((lane, gate): (usize, usize), slot: Duration, alone: bool, pace: u32) -> Self {
        Self { lane, gate, slot, alone, pace, plan: None }
    }
}

/// The way out of one gate.
#[derive(Clone, Debug, Default)]
pub(super) struct Release {
    /// When the last one leaves.
    last: Duration,
    /// When the last one left.
    left: Duration,
    /// Counts how often the pace became slower.
    pace: u32,
    /// By how much all that were on their way out have moved back so far.
    moved: Duration,
    delay: Duration,
    delayed_at: Duration,
    /// Called, and not yet on the disk.
    writing: u32,
}

impl Release {
    /// One is called; at which of the paces.
    pub(super) fn call(&mut self) -> u32 {
        self.writing += 1;
        self.pace
    }

    /// One that was called does not leave.
    pub(super) fn give_up(&mut self, called: Called) {
        if called.plan.is_none() {
            self.written();
        }
    }

    fn written(&mut self) {
        self.writing = self.writing.saturating_sub(1);
    }

    /// The pace is slower from now on.
    pub(super) fn slow_down(&mut self) {
        self.pace += 1;
        self.last = self.left;
    }

    /// Whether so much is on its way out that nobody else is called: what cannot leave waits better in the line, where it
    /// can be withdrawn and is not in doubt when the process dies.
    pub(super) fn is_full(&self, interval: Duration, now: Duration) -> bool {
        self.writing > 0 && self.last.saturating_sub(now) + interval * self.writing > 2 * LONGEST.max(interval)
    }

    /// When one leaves that is on the disk now; `None`: it goes back.
    pub(super) fn at(&mut self, called: &mut Called, interval: Duration, now: Duration) -> Option<Duration> {
        self.written();
        let faded = now.saturating_sub(self.delayed_at).mul_f64(FADES);
        self.delay = self.delay.saturating_sub(faded).max(now.saturating_sub(called.slot)).min(LONGEST);
        self.delayed_at = now;
        let wished = if called.alone { now } else { called.slot + self.delay };
        if std::mem::replace(&mut called.pace, self.pace) == self.pace {
            return Some(self.place(called, wished.max(now), interval));
        }
        self.place_near(called, interval, now)
    }

    /// The moment of one has come.
    pub(super) fn leave(&mut self, called: &mut Called, interval: Duration, now: Duration) -> Leave {
        let Some(plan) = called.plan.filter(|_| called.pace == self.pace) else {
            called.pace = self.pace;
            return self.place_near(called, interval, now).map_or(Leave::Back, Leave::At);
        };
        let at = plan.at + self.moved.saturating_sub(plan.moved);
        if at > now + EARLY {
            return Leave::At(at);
        }
        let missed = now.saturating_sub(at + TOLERANCE);
        self.moved += missed;
        self.last += missed;
        self.left = now;
        Leave::Now
    }

    fn next(&self, wished: Duration, interval: Duration) -> Duration {
        wished.max(self.last + interval.mul_f64(CLOSEST))
    }

    fn place(&mut self, called: &mut Called, wished: Duration, interval: Duration) -> Duration {
        self.last = self.next(wished, interval);
        called.plan = Some(Plan { at: self.last, moved: self.moved });
        self.last
    }

    /// At a pace that became slower; `None`: it would leave far too late.
    fn place_near(&mut self, called: &mut Called, interval: Duration, now: Duration) -> Option<Duration> {
        let at = self.next(now, interval);
        called.plan = Some(Plan { at, moved: self.moved });
        let near = at <= now + FARTHEST * LONGEST.max(interval);
        near.then(|| self.place(called, now, interval))
    }
}
