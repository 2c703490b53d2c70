//! Turns: whose has come, who takes it, and what becomes of those who were not there.

use super::{Admission, Line, admission};
use crate::waiting_room::rules::Missed;

/// What somebody with a number is told who wants in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Come in.
    Pass(Admission),
    /// Not yet. The number may be another than the one that was asked for, where a draw gave a new one.
    Wait(u64),
    /// You missed your turn; this is your new number at the end.
    Moved(u64),
    /// That number is used up.
    Gone,
}

/// What somebody with a number is told who only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// You are inside already.
    Inside(Admission),
    /// It is your turn until this moment (milliseconds since 1970). The number may be a drawn one.
    Turn(u64, u64),
    /// Not yet; as [`Claim::Wait`].
    Wait(u64),
    /// You missed your turn; this is your new number at the end.
    Moved(u64),
    /// That number is used up.
    Gone,
}

impl Line {
    /// Somebody with a number wants in. Doing it twice gives the same answer, and counts once.
    pub fn claim(&mut self, now: u64, asked: u64, subject: u64) -> Claim {
        match self.look(now, asked, subject) {
            Look::Inside(admission) => Claim::Pass(admission),
            Look::Turn(number, _) => {
                if let Some(inside) = self.inside_elsewhere(number, subject) {
                    return Claim::Pass(inside);
                }
                self.turns.remove(&number);
                self.proof.over(false);
                Claim::Pass(self.admit(number, subject, self.limits.session))
            }
            Look::Wait(number) => Claim::Wait(number),
            Look::Moved(number) => Claim::Moved(number),
            Look::Gone => Claim::Gone,
        }
    }

    /// Somebody with a number looks whether it is their turn. It stays open; who missed it is in line again as the rules say.
    pub fn look(&mut self, now: u64, asked: u64, subject: u64) -> Look {
        self.advance(now);
        let number = self.resolve(asked);
        if self.told_epoch != self.epoch {
            return Look::Wait(number);
        }
        if let Some(lease) = self.leases.get(number) {
            return Look::Inside(admission(number, lease));
        }
        if let Some(turn) = self.turns.get(&number) {
            self.marks.see(number);
            return Look::Turn(number, turn.until);
        }
        if self.is_being_drawn(number) {
            return Look::Wait(number);
        }
        if self.marks.is_spent(number) {
            return Look::Gone;
        }
        self.marks.see(number);
        let waits = number > self.published && !self.marks.is_picked(number);
        if waits || number >= self.tail || self.late_set.contains(&number) || self.is_staged(number) {
            return Look::Wait(number);
        }
        self.missed(number, subject)
    }

    /// Ends a turn that nobody took. One from before a kill may have been taken after all: it counts as an admission, so
    /// that bounds hold whatever became of it.
    pub(super) fn give_up_turn(&mut self, number: u64) {
        if self.turns.remove(&number).is_some_and(|turn| turn.doubtful) {
            self.count_admission();
        }
    }

    /// A person has one place. Who is inside under another number gives this turn back; who is in line under another
    /// leaves that.
    fn inside_elsewhere(&mut self, number: u64, subject: u64) -> Option<Admission> {
        let other = self.subjects.get(&subject).map(|other| self.resolve(*other)).filter(|other| *other != number)?;
        let Some(inside) = self.leases.get(other).map(|lease| admission(other, lease)) else {
            self.leave(self.now, other);
            return None;
        };
        self.leave(self.now, number);
        Some(inside)
    }

    fn missed(&mut self, number: u64, subject: u64) -> Look {
        match self.rules.missed {
            Missed::Front => {
                self.late.push_back(number);
                self.late_set.insert(number);
                Look::Wait(number)
            }
            Missed::Back if self.tail < self.reserved && !self.is_sold_out() => {
                self.spend(number);
                let moved = self.join(subject);
                self.moved.insert(number, moved);
                self.dirty.moved.push((number, moved));
                Look::Moved(moved)
            }
            Missed::Back => Look::Wait(number),
            Missed::Expire => {
                self.spend(number);
                Look::Gone
            }
        }
    }
}
