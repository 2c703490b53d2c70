//! A reset: nobody waits, nobody is inside, tokens from before are good no more.

use std::collections::{HashMap, HashSet};

use super::Line;
use super::doubts::Doubts;
use crate::waiting_room::leases::Leases;
use crate::waiting_room::record::Delta;

impl Line {
    /// Begins anew under the next epoch. Numbers go on where they were, so none is ever given twice, and so do the
    /// admissions of the last 60 seconds: the backend has served them. Until the journal has it, newcomers are told to look
    /// again shortly.
    pub fn reset(&mut self, now: u64) {
        self.advance(now);
        self.epoch += 1;
        let open: Vec<u64> = self.turns.keys().copied().collect();
        open.into_iter().for_each(|number| self.give_up_turn(number));
        self.forget_everybody();
        self.frontier = self.tail - 1;
        self.waiting = 0;
        self.admitted = 0;
        self.sold_out = false;
        self.gone = false;
        self.stock = None;
        self.draining = false;
    }

    /// Forgets who is where; what bounds admissions by time is kept.
    pub(super) fn forget_everybody(&mut self) {
        self.leases = Leases::default();
        self.turns = HashMap::default();
        self.doubtful = 0;
        self.silence = None;
        self.late.clear();
        self.late_set = HashSet::default();
        self.subjects = HashMap::default();
        self.staged.clear();
        self.draws.clear();
        self.moved.clear();
        self.ended.clear();
        self.gaps.clear();
        self.collecting = None;
        self.unknown = Doubts::default();
        self.proof.begins_behind(0);
        self.turned_away = 0;
        self.pace = Default::default();
        let Delta { admissions, notice, .. } = std::mem::take(&mut self.dirty);
        self.dirty = Delta { admissions, notice, ..Delta::default() };
    }
}
