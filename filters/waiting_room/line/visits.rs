//! Visits: what becomes of somebody who was let in.

use super::{Admission, Claim, Line, admission};

impl Line {
    /// Somebody inside makes a request with a pass that was made at `issued` and ends at `expires`. `None` when the visit
    /// is over.
    pub fn visit(&mut self, now: u64, number: u64, subject: u64, issued: u64, expires: u64) -> Option<Admission> {
        self.advance(now);
        if let Some(lease) = self.leases.get(number).copied() {
            self.leases.heard(number);
            let renewal = self.limits.renewal && !self.draining;
            if lease.short || renewal {
                let from = if renewal { self.now } else { lease.began };
                self.leases.confirm(number);
                self.leases.end_at(number, lease.until.max(from + self.limits.session));
            }
            return self.leases.get(number).map(|lease| admission(number, lease));
        }
        if self.marks.is_ended(number) || expires <= self.now {
            return None;
        }
        // Admitted right before a kill: the journal knows the place, but not that it was taken.
        if let Some(admission) = self.take_turn(number, subject) {
            return Some(admission);
        }
        if issued <= self.began {
            self.keep_inside(number, subject, (issued, expires, expires));
            if !self.unknown.found() {
                self.admitted += 1;
                self.prove_place((self.limits, None));
            }
            return self.leases.get(number).map(|lease| admission(number, lease));
        }
        None
    }

    /// Somebody comes back from paying with a token that was made at `issued` and ends at `expires`. A place that was held
    /// right before a kill may be another's by now: then there has to be a free one.
    pub fn come_back(&mut self, now: u64, number: u64, issued: u64, expires: u64) -> Option<Admission> {
        self.advance(now);
        let here = self.resolve(number);
        let lost = issued <= self.began && expires > self.now && !self.marks.is_ended(number);
        // To ask for a turn that is over is to get in line again: somebody who was inside does not.
        if !lost || self.leases.get(here).is_some() || self.turns.contains_key(&here) {
            return match self.claim(now, number, 0) {
                Claim::Pass(admission) => Some(admission),
                _ => None,
            };
        }
        // A walk-in of whom the journal knows the place alone has it still.
        let walked_in = self.gaps.iter().any(|(start, end)| (*start..*end).contains(&number));
        if !(walked_in && self.unknown.found()) && self.free_places() == 0 {
            return None;
        }
        // The journal does not know of it yet, so nothing is promised. The visit began before the order that the token is for.
        self.keep_inside(number, 0, (issued.saturating_sub(self.limits.session), expires, self.now));
        self.settle(number);
        self.leases.get(number).map(|lease| admission(number, lease))
    }

    /// Somebody leaves, from wherever they are.
    pub fn leave(&mut self, now: u64, asked: u64) {
        self.advance(now);
        let number = self.resolve(asked);
        if !self.end(number) && number < self.tail && !self.marks.is_spent(number) {
            self.give_up_turn(number);
            self.forget_late(number);
            if number > self.frontier && self.marks.is_seen(number) {
                self.waiting = self.waiting.saturating_sub(1);
            }
            self.spend(number);
        }
    }

    /// Ends a visit before its time; its pass is good no more. False when there is none.
    pub fn end(&mut self, number: u64) -> bool {
        self.take_doubtful(number);
        let Some(lease) = self.leases.remove(number) else { return false };
        self.freed += 1;
        self.marks.end(number);
        self.ended.push_back((lease.until, number));
        self.dirty.ended.push((number, lease.until));
        self.subjects.remove(&lease.subject);
        self.note_visit(lease);
        true
    }

    /// Makes a visit last at least `span` milliseconds from now, whatever its length otherwise.
    pub fn extend(&mut self, now: u64, number: u64, span: u64) -> Option<Admission> {
        self.advance(now);
        let until = self.leases.get(number)?.until.max(self.now.saturating_add(span));
        self.leases.confirm(number);
        self.leases.end_at(number, until);
        self.leases.get(number).map(|lease| admission(number, lease))
    }

    /// The same, for somebody who has ordered and goes to pay: what they take is not in the stock any more.
    pub fn hold(&mut self, now: u64, number: u64, span: u64) -> Option<Admission> {
        self.advance(now);
        self.take_doubtful(number);
        let held = self.extend(now, number, span)?;
        self.settle(number);
        Some(held)
    }

    /// Somebody is known to be inside: if a kill has left their turn in doubt, they took it.
    fn take_doubtful(&mut self, number: u64) {
        if self.turns.get(&number).is_some_and(|turn| turn.doubtful) {
            self.take_turn(number, 0);
        }
    }

    /// Notes that a visitor looks for nothing any more.
    pub fn settle(&mut self, number: u64) {
        if self.leases.settle(number) {
            self.dirty.settled.push(number);
        }
    }

    /// When the visit of this number began, or the turn that a kill left in doubt; `None` when there is neither.
    pub fn began(&self, number: u64) -> Option<u64> {
        let turn = self.turns.get(&number).filter(|turn| turn.doubtful).map(|turn| turn.since);
        self.leases.get(number).map(|lease| lease.began).or(turn)
    }
}
