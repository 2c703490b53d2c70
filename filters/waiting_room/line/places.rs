//! Numbers and visits: who gets one, and what becomes of it.

use super::{Admission, Claim, Draw, Entry, Line, Visitor, admission, tick};
use crate::waiting_room::draw;
use crate::waiting_room::leases::{Aim, Lease};
use crate::waiting_room::marks::CHUNK;
use crate::waiting_room::rules::{Overflow, Phase};

impl Line {
    /// The number that a draw gave for this one, or a missed turn; itself where there was neither.
    pub(super) fn resolve(&self, number: u64) -> u64 {
        let drawn = |draw: &Draw| {
            let at = usize::try_from(number.checked_sub(draw.first)?).ok()?;
            draw.ranks.get(at).map(|rank| draw.base + u64::from(*rank))
        };
        let mut number = self.draws.iter().filter(|draw| draw.told).find_map(drawn).unwrap_or(number);
        // Whoever did not hear of the new number comes back with the old one.
        while let Some(moved) = self.moved.get(&number) {
            number = *moved;
        }
        number
    }

    /// What a known person has here already: their visit, their turn, which is theirs without a token too, or their place.
    pub(super) fn known(&mut self, subject: u64) -> Option<Entry> {
        let number = *self.subjects.get(&subject)?;
        match self.claim(self.now, number, subject) {
            Claim::Pass(admission) => Some(Entry::Pass(admission)),
            Claim::Wait(number) | Claim::Moved(number) => {
                let collected = self.collecting.is_some_and(|first| number >= first);
                let registered = collected || self.is_being_drawn(number);
                Some(if registered { Entry::Registered(number) } else { Entry::Place(number) })
            }
            Claim::Gone => {
                self.subjects.remove(&subject);
                None
            }
        }
    }

    /// Whether a number takes part in a draw that is made and not yet written down.
    pub(super) fn is_being_drawn(&self, number: u64) -> bool {
        let mut untold = self.draws.iter().filter(|draw| !draw.told);
        untold.any(|draw| (draw.first..draw.base).contains(&number))
    }

    /// Whether a newcomer may walk in: nobody waits, nobody's turn is open.
    pub(super) fn is_open(&self) -> bool {
        let empty = self.waiting == 0 && self.turns.is_empty() && self.late.is_empty() && self.staged.is_empty();
        empty && self.collecting.is_none() && !self.limits.queue_all && !self.draining
    }

    /// Whether one more walk-in is covered by what is on disk, now and after the line that is being written.
    pub(super) fn has_credit(&self) -> bool {
        self.credit > self.writing + self.fresh && self.next_credit > self.fresh
    }

    pub(super) fn shuffles(&self) -> bool {
        matches!(self.rules.phase(self.now), Phase::Prequeue(event) if event.shuffle)
    }

    pub(super) fn has_room_for(&mut self, subject: u64) -> bool {
        let most = self.rules.max_queue_length;
        // Numbers of those who left cost bits too; eight for each place bounds what a flood of joins can take.
        if self.tail.saturating_sub(self.frontier) > most.saturating_mul(8).saturating_add(CHUNK) {
            return false;
        }
        if self.waiting < most {
            return true;
        }
        self.turned_away += 1;
        if self.rules.overflow == Overflow::Reject || self.collecting.is_some() {
            return false;
        }
        let who = if subject == 0 { self.tail ^ self.turned_away.rotate_left(32) } else { subject };
        let lot = draw::lot(&self.seed, &self.room, &who.to_be_bytes());
        let chance = most as f64 / (most + self.turned_away) as f64;
        if lot as f64 / u64::MAX as f64 >= chance {
            return false;
        }
        let rank = draw::stamp(&self.seed, b"drop", &self.turned_away.to_be_bytes()) % self.waiting.max(1);
        let mut victim = None;
        self.marks.at_ranks(self.frontier + 1, self.tail, [rank], |number| victim = Some(number));
        victim.is_some_and(|victim| {
            self.spend(victim);
            self.waiting -= 1;
            true
        })
    }

    pub(super) fn take_number(&mut self) -> u64 {
        let number = self.tail;
        self.tail += 1;
        self.marks.cover(number, self.now);
        number
    }

    pub(super) fn join(&mut self, subject: u64) -> u64 {
        let number = self.take_number();
        self.marks.see(number);
        self.waiting += 1;
        self.remember(subject, number);
        number
    }

    fn remember(&mut self, subject: u64, number: u64) {
        if subject != 0 {
            self.subjects.insert(subject, number);
            self.dirty.names.push((number, subject));
        }
    }

    /// Somebody walks in on a place that the journal has laid in. Until it knows who took it, the pass is good for the
    /// claim window only: after a kill, that is how long the place counts as taken.
    pub(super) fn walk_in(&mut self, visitor: Visitor) -> Admission {
        self.fresh += 1;
        self.allowance = self.allowance.saturating_sub(tick::ONE);
        let number = self.take_number();
        let span = self.doubt();
        let admission = self.admit(number, visitor.subject, if visitor.steady { self.limits.session } else { span });
        let durable = self.now + span;
        self.prove_place((self.limits, self.rules.admission_cap));
        self.leases.promise(number, durable, !visitor.steady);
        Admission { until: durable, short: !visitor.steady, ..admission }
    }

    /// Lets somebody in, for `span` milliseconds without a request.
    pub(super) fn admit(&mut self, number: u64, subject: u64, span: u64) -> Admission {
        let until = self.now + span;
        let lease = Lease { began: self.now, until, durable: until, short: false, subject, aim: Aim::Looks };
        self.leases.put(number, lease);
        self.count_admission();
        self.marks.cover(number, self.now);
        self.marks.spend(number);
        if subject != 0 {
            self.subjects.insert(subject, number);
        }
        admission(number, &lease)
    }

    pub(super) fn count_admission(&mut self) {
        self.window.add(self.now, 1);
        self.admitted += 1;
        self.dirty.admissions.push((self.now, 1));
    }

    /// Takes somebody in again whom the journal did not know: since when, until when, and until when that may be promised.
    pub(super) fn keep_inside(&mut self, number: u64, subject: u64, (began, until, durable): (u64, u64, u64)) {
        let lease = Lease { began, until, durable, short: false, subject, aim: Aim::Looks };
        self.leases.put(number, lease);
        self.marks.cover(number, self.now);
        self.marks.spend(number);
        if subject != 0 {
            self.subjects.insert(subject, number);
        }
    }

    pub(super) fn spend(&mut self, number: u64) {
        self.marks.spend(number);
        self.dirty.spent.push(number);
    }

    pub(super) fn forget_late(&mut self, number: u64) {
        if self.late_set.remove(&number) {
            self.late.retain(|other| *other != number);
        }
    }

    pub(super) fn is_staged(&self, number: u64) -> bool {
        self.staged.iter().any(|(other, _)| *other == number)
    }

    pub(super) fn note_visit(&mut self, lease: Lease) {
        let length = self.now.saturating_sub(lease.began) as f64;
        self.mean_visit = if self.mean_visit == 0.0 { length } else { self.mean_visit * 0.95 + length * 0.05 };
    }
}
