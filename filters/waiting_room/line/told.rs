//! What a line is told from outside: by operators, by the backend, by a new configuration.

use std::sync::Arc;

use super::Line;
use crate::waiting_room::rules::Rules;

impl Line {
    /// An operator says whether the sale is over. While it is, nobody is admitted and nobody gets a number. False also
    /// forgets what the backend said.
    pub fn set_sold_out(&mut self, sold_out: bool) {
        self.sold_out = sold_out;
        self.gone &= sold_out;
    }

    /// The backend says whether everything is gone; the same follows from it.
    pub fn set_gone(&mut self, gone: bool) {
        self.gone = gone;
    }

    /// Numbers and admissions given so far.
    pub(in crate::waiting_room) fn given(&self) -> (u64, u64) {
        (self.tail, self.admitted)
    }

    pub(super) fn is_sold_out(&self) -> bool {
        self.sold_out || self.gone
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
