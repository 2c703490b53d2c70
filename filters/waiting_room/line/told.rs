//! What a line is told from outside: by operators, by the backend, by a new configuration.

use std::sync::Arc;

use super::Line;
use crate::waiting_room::public::Notice;
use crate::waiting_room::rules::Rules;

impl Line {
    /// An operator says whether the sale is over. While it is, nobody is admitted and nobody gets a number. False also
    /// forgets what the backend said.
    pub fn set_sold_out(&mut self, sold_out: bool) {
        self.sold_out = sold_out;
        if !sold_out {
            (self.gone, self.stock) = (false, None);
        }
    }

    /// The backend says how much is left: of nothing the same follows. `None`: something, it does not say how much.
    pub fn set_stock(&mut self, left: Option<u64>) {
        (self.gone, self.stock) = (left == Some(0), left);
    }

    /// Takes somebody out of the line. False when they are not in it.
    pub(in crate::waiting_room) fn take_out(&mut self, now: u64, asked: u64) -> bool {
        let number = self.resolve(asked);
        let there = number > 0 && number < self.tail && !self.marks.is_spent(number);
        if there {
            self.leave(now, number);
        }
        there
    }

    /// Under which number somebody is inside or in line.
    pub(in crate::waiting_room) fn number_of(&self, subject: u64) -> Option<u64> {
        self.subjects.get(&subject).map(|number| self.resolve(*number))
    }

    /// Numbers and admissions given so far.
    pub(in crate::waiting_room) fn given(&self) -> (u64, u64) {
        (self.tail, self.admitted)
    }

    /// Nobody will be let in any more: somebody says so, or as many were admitted in all as may be, and no turn is open that
    /// could be missed.
    pub(super) fn is_sold_out(&self) -> bool {
        let exhausted = self.rules.admission_cap.is_some_and(|cap| self.admitted >= cap);
        self.sold_out || self.gone || (exhausted && self.turns.is_empty() && self.staged.is_empty())
    }

    /// An operator empties the room, or opens it again. Those in line keep their places; visits end when they would have
    /// without another request.
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// An operator's word to all who wait, or none any more. To be written down like everything else.
    pub(in crate::waiting_room) fn set_notice(&mut self, notice: Option<Arc<Notice>>) {
        self.dirty.notice = Some(notice.as_deref().map_or_else(Notice::none, Clone::clone));
        self.notice = notice;
    }

    /// The word as it stands.
    pub(in crate::waiting_room) fn notice(&self) -> Option<Arc<Notice>> {
        self.notice.clone()
    }

    /// Bounds admissions by what the backend can take; `None`: as configured.
    pub fn set_health_rate(&mut self, per_minute: Option<u32>) {
        self.health_rate = per_minute;
    }

    /// From now on these rules. Nobody loses a place, a turn or a visit.
    pub fn set_rules(&mut self, rules: Arc<Rules>) {
        self.rules = rules;
        self.apply_limits();
    }
}
