//! Places that kills left in doubt: taken as far as anybody knows, by somebody nobody knows.
//!
//! Each kill leaves as many as the journal had laid in for walk-ins, and each of these lots ends on its own: where a gateway
//! is killed again and again, a later kill must not keep the places of an earlier one.

use std::collections::VecDeque;

/// Lots of places, each until a moment of its own; the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Doubts(VecDeque<(u64, u64)>);

impl Doubts {
    /// What a journal says, and `count` places more until `until`; what has ended at `now` is left out.
    pub(super) fn carried(before: &[(u64, u64)], now: u64, (count, until): (u64, u64)) -> Self {
        let mut doubts = Self(before.iter().copied().collect());
        doubts.0.push_back((count, until));
        doubts.end(now);
        doubts
    }

    /// Places in doubt.
    pub(super) fn places(&self) -> u64 {
        self.0.iter().map(|(count, _)| count).sum()
    }

    /// Forgets what has ended at `now`.
    pub(super) fn end(&mut self, now: u64) {
        self.0.retain(|(count, until)| *count > 0 && *until > now);
    }

    /// Somebody came back and has one of them; `false` when none is left.
    pub(super) fn found(&mut self) -> bool {
        let lot = self.0.iter_mut().find(|(count, _)| *count > 0);
        lot.map(|(count, _)| *count -= 1).is_some()
    }

    /// As they are written down.
    pub(super) fn lots(&self) -> Vec<(u64, u64)> {
        self.0.iter().copied().filter(|(count, _)| *count > 0).collect()
    }
}
