//! CoDel (RFC 8289): sheds when the shortest wait of an interval was still too long, and ever more often until it is not.
//!
//! A burst that the line works off is fine, however long it was for a moment; a line that never gets short is of no use to
//! anybody and only makes everybody wait.

use std::time::Duration;

use crate::engine::Nanos;

/// When to shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The standing wait that is fine.
    pub(super) target: Duration,
    /// For how long it may be above that.
    pub(super) interval: Duration,
}

/// What has been seen so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CoDel {
    /// When shedding begins unless a wait falls below the target first.
    above_until: Option<Nanos>,
    /// When the next one is shed, while shedding.
    next_shed: Option<Nanos>,
    shed: u32,
}

impl CoDel {
    /// One leaves the line after `waited`; `last`: nobody waits behind. True when one is to be shed.
    pub(super) fn sheds(&mut self, to: Target, waited: Duration, last: bool, now: Nanos) -> bool {
        if waited < to.target || last {
            (self.above_until, self.next_shed) = (None, None);
            return false;
        }
        let Some(until) = self.above_until else {
            self.above_until = Some(now.after(to.interval));
            return false;
        };
        if now < until {
            return false;
        }
        match self.next_shed {
            None => {
                // Soon after the last time, it goes on about where it was.
                self.shed = if self.shed > 2 { self.shed - 2 } else { 1 };
                self.next_shed = Some(now.after(self.gap(to.interval)));
                true
            }
            Some(next) if now >= next => {
                self.shed = self.shed.saturating_add(1);
                self.next_shed = Some(next.after(self.gap(to.interval)));
                true
            }
            Some(_) => false,
        }
    }

    fn gap(&self, interval: Duration) -> Duration {
        interval.div_f64(f64::from(self.shed.max(1)).sqrt())
    }
}
