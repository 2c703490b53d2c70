//! What a room promises, held against what it does: order, bounds, and who does not come.
//!
//! Decisions are made in `tick`, from what is free. Here it is counted afterwards, when a turn is told or somebody is
//! inside: an inversion or an overshoot other than 0 is a fault of this program, or a journal that was lost.

use super::Line;
use crate::waiting_room::rules::{Limits, Method};

/// Turns over which the share of no-shows is taken, about.
const MEMORY: u32 = 100;

/// Counts since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Proof {
    /// Turns told to a number below one that had a turn already, where order goes by number.
    pub inversions: u64,
    /// Places given beyond the limits that held when they were given.
    pub overshoot: u64,
    /// Numbers that were passed over because their holders had gone silent.
    pub silent: u64,
    /// The highest number that had a turn by order.
    highest: u64,
    ended: u32,
    no_show: f64,
}

impl Proof {
    /// A first turn is told to `number`; `by_chance`: the order of numbers says nothing.
    pub(in crate::waiting_room) fn turn(&mut self, number: u64, by_chance: bool) {
        if by_chance {
            self.highest = 0;
        } else if number < self.highest {
            self.inversions += 1;
        } else {
            self.highest = number;
        }
    }

    /// Turns up to this number are a matter of before.
    pub(super) fn begins_behind(&mut self, number: u64) {
        self.highest = number;
    }

    /// A turn is over; `missed`: nobody took it.
    pub(super) fn over(&mut self, missed: bool) {
        self.ended = (self.ended + 1).min(MEMORY);
        self.no_show += (f64::from(u8::from(missed)) - self.no_show) / f64::from(self.ended);
    }

    /// Share of turns that nobody took, of about the last hundred; `None` before the first was over.
    #[must_use]
    pub fn no_show_ratio(&self) -> Option<f64> {
        (self.ended > 0).then_some(self.no_show)
    }
}

impl Line {
    /// A place was given while these limits and this cap held: counts it if that was one too many.
    pub(super) fn prove_place(&mut self, (limits, cap): (Limits, Option<u64>)) {
        let open = self.turns.len() as u64;
        let inside = self.leases.len() + open + self.unknown.places() > u64::from(limits.total_active_users);
        let minute = self.window.sum(self.now) + open > u64::from(limits.new_users_per_minute);
        let all = cap.is_some_and(|cap| self.admitted + open > cap);
        self.proof.overshoot += u64::from(inside || minute || all);
    }

    /// The frontier has moved from behind `from` up to `to`: who was passed over had gone silent.
    pub(super) fn note_silent(&mut self, from: u64, to: u64) {
        let gaps = self.gaps.iter().map(|(start, end)| (from.max(*start), to.min(*end)));
        let never_given: u64 = gaps.map(|(start, end)| self.marks.absent(start, end)).sum();
        self.proof.silent += self.marks.absent(from, to).saturating_sub(never_given);
    }

    pub(super) fn prove_turn(&mut self, number: u64, second: bool) {
        if !second {
            self.proof.turn(number, self.limits.method == Method::Random);
        }
        self.prove_place(self.granted_under);
    }
}
