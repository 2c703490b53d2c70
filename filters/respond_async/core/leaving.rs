//! The way out of the book: when those that were called are sent.

use std::time::Duration;

use super::book::Book;
use super::release::Leave;

impl Book {
    /// These are written down as running: when each of them is to be sent, in their order; `None`: not now, it goes back into
    /// its line ([`super::Verdict::Postponed`]).
    pub fn leave_at(&mut self, seqs: impl Iterator<Item = i64>, now: Duration) -> Vec<Option<Duration>> {
        let leave = |seq| {
            let Some(called) = self.called.get_mut(&seq) else { return Some(now) };
            let lane = self.lanes.get_mut(called.lane);
            lane.map_or(Some(now), |lane| lane.leaves_at(called, &self.rules, now))
        };
        seqs.map(leave).collect()
    }

    /// The moment that one was given has come.
    pub fn leave(&mut self, seq: i64, now: Duration) -> Leave {
        let Some(called) = self.called.get_mut(&seq) else { return Leave::Now };
        let lane = self.lanes.get_mut(called.lane);
        let leave = lane.map_or(Leave::Now, |lane| lane.leave(called, &self.rules, now));
        if leave == Leave::Now {
            self.called.remove(&seq);
        }
        leave
    }
}
