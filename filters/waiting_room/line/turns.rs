//! Turns: whose has come, who takes it, and what becomes of those who were not there.

use super::{Admission, Line, Turn, admission};
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
                self.take_turn(number, subject).map_or(Claim::Gone, Claim::Pass)
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

    /// Somebody takes an open turn. Until the journal knows that it was taken, it knows the turn only, and after a kill
    /// keeps that for a claim window: the pass promises no more.
    pub(super) fn take_turn(&mut self, number: u64, subject: u64) -> Option<Admission> {
        let turn = self.close_turn(number)?;
        self.proof.over(false);
        let entered = self.admit(number, subject, self.limits.session);
        let known = self.now + self.doubt();
        let durable = if turn.doubtful { known.min(turn.until) } else { known };
        self.leases.promise(number, durable, false);
        if turn.doubtful {
            self.leases.began_at(number, turn.since);
        }
        Some(Admission { until: durable, ..entered })
    }

    /// Ends a turn that nobody took. One from before a kill may have been taken after all: it counts as an admission, so
    /// that bounds hold whatever became of it.
    pub(super) fn give_up_turn(&mut self, number: u64) {
        let Some(turn) = self.close_turn(number) else { return };
        self.freed += 1;
        if turn.doubtful {
            self.count_admission();
        }
    }

    fn close_turn(&mut self, number: u64) -> Option<Turn> {
        let turn = self.turns.remove(&number)?;
        self.doubtful -= u64::from(turn.doubtful);
        Some(turn)
    }

    /// For how long a place counts as taken of which the journal does not know by whom: as long as a pass is good that was
    /// given for it.
    pub(super) fn doubt(&self) -> u64 {
        self.rules.claim_window.min(self.limits.session)
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
