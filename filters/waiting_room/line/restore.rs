//! A line as its journal tells it: after a restart nobody has lost a place, and what is in doubt counts as taken.

use std::sync::Arc;

use super::doubts::Doubts;
use super::{Draw, Line, Turn};
use crate::waiting_room::leases::{Aim, Lease};
use crate::waiting_room::record::{Delta, History};

impl Line {
    /// Takes over what a journal kept, at `now`. Time goes on from the later of `now` and the last line.
    pub(in crate::waiting_room) fn restore(&mut self, history: &History, now: u64) {
        let Some(last) = history.lines.last() else { return };
        for delta in &history.lines {
            self.replay(delta);
        }
        self.now = now.max(last.at);
        self.began = self.now;
        self.ticked = self.now;
        self.turned_at = self.now;
        self.patience = (0, self.now);
        self.apply_limits();
        self.after_restore(last);
    }

    fn replay(&mut self, delta: &Delta) {
        self.now = self.now.max(delta.at);
        if self.epoch != delta.epoch {
            self.forget_everybody();
            self.epoch = delta.epoch;
            self.told_epoch = delta.epoch;
        }
        self.reserved = self.reserved.max(delta.reserved);
        self.frontier = self.frontier.max(delta.frontier);
        self.admitted = delta.admitted;
        self.sold_out = delta.sold_out;
        self.gone = delta.gone;
        self.stock = delta.stock;
        self.draining = delta.draining;
        if let Some(notice) = &delta.notice {
            self.notice = (!notice.text.is_empty()).then(|| Arc::new(notice.clone()));
        }
        self.collecting = delta.collecting;
        for (chunk, bits) in &delta.marks {
            self.marks.set_spent(*chunk, bits, self.now);
        }
        self.gaps.extend(&delta.gaps);
        for (at, count) in &delta.admissions {
            self.window.add(*at, *count);
        }
        for (first, count, base) in &delta.draws {
            let ranks = self.ranks(*first, *count);
            for number in *first..*first + u64::from(*count) {
                self.use_up(number);
            }
            self.draws.push(Draw { first: *first, base: *base, ranks, told: true });
        }
        self.moved.extend(delta.moved.iter().copied());
        self.subjects.extend(delta.names.iter().map(|(number, subject)| (*subject, *number)));
        for (number, second) in &delta.turns {
            let turn = Turn { since: delta.at, until: 0, show_up: 0, second: *second, doubtful: true };
            self.turns.insert(*number, turn);
        }
        for (number, since, until) in &delta.doubtful {
            if let Some(turn) = self.turns.get_mut(number) {
                (turn.since, turn.until) = (*since, *until);
            }
        }
        for number in &delta.missed {
            self.turns.remove(number);
        }
        for number in &delta.spent {
            self.turns.remove(number);
            self.use_up(*number);
        }
        for number in &delta.picked {
            self.marks.cover(*number, self.now);
            self.marks.pick(*number);
        }
        for (number, began, until, subject) in &delta.visits {
            let aim = self.leases.get(*number).map_or(Aim::Restored, |lease| lease.aim);
            let lease = Lease { began: *began, until: *until, durable: *until, short: false, subject: *subject, aim };
            self.turns.remove(number);
            self.use_up(*number);
            self.leases.put(*number, lease);
            if *subject != 0 {
                self.subjects.insert(*subject, *number);
            }
        }
        for number in &delta.settled {
            self.leases.settle(*number);
        }
        for (number, until) in &delta.ended {
            self.leases.remove(*number);
            self.use_up(*number);
            self.marks.end(*number);
            self.ended.push_back((*until, *number));
        }
    }

    fn use_up(&mut self, number: u64) {
        self.marks.cover(number, self.now);
        self.marks.spend(number);
    }

    /// What the journal cannot know is taken for granted against us: open turns may have been taken, laid-in places too,
    /// and everybody in line may still be there.
    fn after_restore(&mut self, last: &Delta) {
        self.leases.take_changed();
        self.silence = Some(self.now + self.rules.refresh * 3 / 2);
        let until = self.now + self.doubt();
        self.doubtful = self.turns.len() as u64;
        for (number, turn) in &mut self.turns {
            // What was in doubt before stays so no longer for a further kill: no pass promises more.
            turn.until = if turn.until == 0 { until } else { turn.until };
            turn.show_up = turn.until;
            self.turn_ends.add(turn.until, *number);
            self.dirty.doubtful.push((*number, turn.since, turn.until));
            // Theirs already, so chance does not fall on them again.
            if *number > self.frontier {
                self.marks.cover(*number, self.now);
                self.marks.pick(*number);
            }
        }
        self.unknown = Doubts::carried(&last.doubt, self.now, (u64::from(last.credit), until));
        self.proof.begins_behind(self.frontier);
        if last.credit > 0 {
            self.window.add(self.now, last.credit);
            self.dirty.admissions.push((self.now, last.credit));
            self.admitted += u64::from(last.credit);
        }
        let mut number = self.frontier + 1;
        while number < last.tail {
            if let Some((_, end)) = self.gaps.iter().find(|(start, end)| (*start..*end).contains(&number)) {
                // Nobody can be told from a number that was never given: who has one of these says so by looking.
                number = *end;
                continue;
            }
            self.marks.cover(number, self.now);
            self.marks.see(number);
            number += 1;
        }
        if last.tail < self.reserved {
            self.gaps.push((last.tail, self.reserved));
            self.dirty.gaps.push((last.tail, self.reserved));
        }
        self.tail = self.reserved;
        if self.tail > 1 {
            self.marks.cover(self.tail - 1, self.now);
        }
        self.published = self.frontier;
        self.waiting = self.marks.count(self.frontier + 1, self.tail);
        self.last = last.counts();
        self.last.credit = 0;
    }

    /// Everything, as one line; `delta` is what the tick that has just been made says.
    pub(in crate::waiting_room) fn whole(&self, delta: &Delta) -> Delta {
        let visit = |(number, lease): (u64, &Lease)| (number, lease.began, lease.until, lease.subject);
        let mut turns: Vec<_> = self.turns.iter().map(|(number, turn)| (*number, turn.second)).collect();
        turns.extend(&self.staged);
        turns.sort_unstable();
        let doubtful =
            self.turns.iter().filter(|(_, turn)| turn.doubtful).map(|(number, turn)| (*number, turn.since, turn.until));
        let settled = self.leases.all().filter(|(_, lease)| lease.aim == Aim::Settled);
        let waiting = self.frontier + 1..self.tail;
        Delta {
            gaps: self.gaps.clone(),
            moved: self.moved.iter().map(|(old, new)| (*old, *new)).collect(),
            draws: self.draws.iter().map(|draw| (draw.first, draw.ranks.len() as u32, draw.base)).collect(),
            admissions: self.window.entries(),
            turns,
            doubtful: doubtful.collect(),
            visits: self.leases.all().map(visit).collect(),
            settled: settled.map(|(number, _)| number).collect(),
            names: self.subjects.iter().map(|(subject, number)| (*number, *subject)).collect(),
            ended: self.ended.iter().map(|(until, number)| (*number, *until)).collect(),
            picked: waiting.filter(|number| self.marks.is_picked(*number)).collect(),
            marks: self.marks.spent(self.tail),
            notice: self.notice.as_deref().cloned(),
            ..delta.counts()
        }
    }
}
