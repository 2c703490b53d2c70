//! What time does to a line: visits and turns end, places become free, turns begin.

use super::{Draw, Line, Lottery, Turn};
use crate::waiting_room::draw;
use crate::waiting_room::record::Delta;
use crate::waiting_room::rules::{Method, Missed, Phase};
use sha2::{Digest, Sha256};

/// One admission of the allowance.
pub(super) const ONE: u64 = 60_000;
/// Numbers that are laid in ahead of the tail.
const AHEAD: u64 = 65_536;
/// A reservation is renewed when this many are left: once in tens of thousands of joins.
const LOW: u64 = AHEAD / 2;

/// The most that may be admitted at once after a quiet time: five seconds' worth.
pub(super) fn burst(per_minute: u32) -> u64 {
    u64::from(per_minute / 12).max(1) * ONE
}

impl Line {
    /// Lets time pass up to `now`, decides whose turn it is, and says what must be written before it takes effect.
    /// `None` when nothing has to be.
    pub(in crate::waiting_room) fn tick(&mut self, now: u64) -> Option<Delta> {
        self.advance(now);
        let span = self.now - self.ticked;
        self.ticked = self.now;
        self.apply_limits();
        self.turn_generation();
        self.end_visits();
        self.end_turns();
        self.end_silence();
        self.draw();
        self.waiting = self.marks.count(self.frontier + 1, self.tail);
        if self.waiting < self.rules.max_queue_length {
            self.turned_away = 0;
        }
        self.refill(span);
        if self.staged.is_empty() {
            self.grant();
        }
        if self.waiting > 0 || self.releases > 0 {
            self.pace.observe(span, self.releases);
        }
        self.releases = 0;
        self.prune();
        self.delta()
    }

    /// What a tick decided was written, which may have taken a while: it takes effect now.
    pub(in crate::waiting_room) fn written(&mut self, now: u64, delta: &Delta) {
        self.advance(now);
        self.reserved = self.reserved.max(delta.reserved);
        if delta.epoch != self.epoch {
            // The room was reset meanwhile; what the tick decided concerns nobody any more.
            return;
        }
        self.credit = delta.credit;
        (self.writing, self.freeing) = (0, 0);
        for (number, _, until, _) in &delta.visits {
            self.leases.known(*number, *until);
        }
        for (number, second) in std::mem::take(&mut self.staged) {
            self.begin_turn(number, second);
        }
        self.draws.iter_mut().for_each(|draw| draw.told = true);
        self.published = self.frontier;
        self.told_epoch = self.epoch;
        self.last = delta.counts();
    }

    fn begin_turn(&mut self, number: u64, second: bool) {
        // Where chance decides, it may fall on somebody whose turn is open since before a kill.
        if self.marks.is_spent(number) || self.turns.contains_key(&number) {
            return;
        }
        let until = self.now + self.rules.claim_window;
        // Whoever is there looks within the refresh time of a page without scripts, give or take half.
        let show_up = until.min(self.now + self.rules.refresh + self.rules.refresh / 2);
        self.turns.insert(number, Turn { since: self.now, until, show_up, second, doubtful: false });
        self.turn_ends.add(show_up, number);
        self.prove_turn(number, second);
        self.marks.unsee(number);
        if self.limits.method == Method::Random {
            self.marks.pick(number);
            self.dirty.picked.push(number);
        }
    }

    pub(super) fn apply_limits(&mut self) {
        let limits = self.rules.limits_at(self.now);
        if limits != self.limits {
            self.limits = limits;
            // What was measured under other limits says little about these.
            self.pace = Default::default();
        }
    }

    /// How long silence may last before a waiter counts as gone: a tenth more than the longest wait between two looks that
    /// anybody was asked for.
    fn patience(&self) -> u64 {
        let rate = self.pace.per_second().unwrap_or(0.0);
        let wait = if rate > 0.0 { self.waiting as f64 / rate } else { f64::INFINITY };
        let polling = self.rules.polling;
        let asked = (wait * 1_000.0 / f64::from(polling.divisor.max(1))).min(polling.max as f64);
        let longest = (asked * 1.3 * 1.1) as u64;
        longest.max(self.rules.refresh * 3 / 2).min((self.rules.queue_grace / 2).max(1))
    }

    /// The same, and no less than what somebody who was asked before may still keep to.
    fn held_patience(&mut self) -> u64 {
        let patience = self.patience();
        let (held, since) = self.patience;
        if patience >= held || self.now.saturating_sub(since) > held {
            self.patience = (patience, self.now);
        }
        self.patience.0
    }

    fn turn_generation(&mut self) {
        if self.now.saturating_sub(self.turned_at) >= self.held_patience() {
            self.turned_at = self.now;
            self.marks.turn(self.now);
        }
    }

    fn end_visits(&mut self) {
        while let Some((_, lease)) = self.leases.ended(self.now) {
            if lease.subject != 0 {
                self.subjects.remove(&lease.subject);
            }
            self.note_visit(lease);
        }
        while self.ended.front().is_some_and(|(until, _)| *until < self.now) {
            self.ended.pop_front();
        }
        self.unknown.end(self.now);
    }

    fn end_turns(&mut self) {
        while let Some(number) = self.turn_ends.due(self.now) {
            let Some(turn) = self.turns.get(&number).copied() else { continue };
            if turn.until > self.now && (turn.show_up > self.now || self.marks.is_seen(number)) {
                self.turn_ends.add(turn.until, number);
                continue;
            }
            self.give_up_turn(number);
            self.dirty.missed.push(number);
            self.missed += 1;
            self.proof.over(true);
            self.allowance += if turn.doubtful { 0 } else { ONE };
            // A second chance is the last one.
            if turn.second || self.rules.missed == Missed::Expire {
                self.spend(number);
            }
        }
    }

    /// Who was inside before a kill and is there looks in as often as a page without scripts does. What became of the
    /// others may have been lost with the kill: that they ordered, or were done. They keep their places, and no pieces from
    /// those who wait.
    fn end_silence(&mut self) {
        if self.silence.is_some_and(|until| until <= self.now) {
            self.silence = None;
            self.leases.fall_silent();
        }
    }

    /// Puts those who registered into an order drawn by chance, once the event begins.
    fn draw(&mut self) {
        let Some(first) = self.collecting.filter(|_| !matches!(self.rules.phase(self.now), Phase::Prequeue(_))) else {
            return;
        };
        let count = self.tail - first;
        // Until numbers for all of them are laid in, the event waits a tick.
        if self.reserved < self.tail + count {
            return;
        }
        self.collecting = None;
        let base = self.tail;
        self.tail += count;
        let ranks = self.ranks(first, u32::try_from(count).unwrap_or(u32::MAX));
        for (at, rank) in (first..).zip(&ranks) {
            let drawn = base + u64::from(*rank);
            self.marks.cover(drawn, self.now);
            if self.marks.is_spent(at) {
                self.marks.spend(drawn);
            } else if self.marks.is_seen(at) {
                self.marks.see(drawn);
            }
            self.marks.spend(at);
        }
        self.dirty.draws.push((first, ranks.len() as u32, base));
        self.draws.push(Draw { first, base, ranks, told: false });
    }

    fn draw_secret(&self, first: u64) -> [u8; 32] {
        Sha256::new().chain_update(self.seed).chain_update(first.to_be_bytes()).finalize().into()
    }

    /// What binds the draw that is coming, or opens the last one that was made.
    pub(super) fn lottery(&self) -> Option<Lottery> {
        let drawn = self.draws.last().filter(|draw| draw.told);
        let first = self.collecting.or(drawn.map(|draw| draw.first))?;
        let secret = self.draw_secret(first);
        let opened = drawn.filter(|_| self.collecting.is_none());
        let opened = opened.map(|draw| (secret, draw.first, draw.ranks.len() as u32, draw.base));
        Some(Lottery { commit: draw::commitment(&secret), opened })
    }

    /// The rank of each registration.
    pub(super) fn ranks(&self, first: u64, count: u32) -> Vec<u32> {
        let secret = self.draw_secret(first);
        let roster = Sha256::digest(u64::from(count).to_be_bytes()).into();
        let order = draw::order(&draw::seed(&secret, &[0; 32], &roster), &self.room, count);
        let mut ranks = vec![0; order.len()];
        for (rank, index) in order.iter().enumerate() {
            ranks[*index as usize] = rank as u32;
        }
        ranks
    }

    fn per_minute(&self) -> u32 {
        self.health_rate.unwrap_or(u32::MAX).min(self.limits.new_users_per_minute)
    }

    fn refill(&mut self, span: u64) {
        let rate = self.per_minute();
        let wanted = self.waiting > 0 || !self.late.is_empty();
        // While people wait, what was saved up is spent and nothing is saved: the flow is even.
        let most = if wanted { u64::from(rate / 300).max(1) * ONE } else { burst(rate) };
        let more = self.allowance + u64::from(rate) * span.min(ONE);
        self.allowance = if more <= most { more } else { most.max(self.allowance.min(burst(rate))) };
    }

    /// Places that are free, whatever they are wanted for.
    pub(super) fn free(&mut self) -> u64 {
        let closed = self.is_sold_out() || self.draining || self.limits.queue_all || self.collecting.is_some();
        if closed || matches!(self.rules.phase(self.now), Phase::Prequeue(_)) {
            return 0;
        }
        self.places(self.allowance / ONE)
    }

    /// Places that the limits leave, at most `most`.
    pub(super) fn places(&mut self, most: u64) -> u64 {
        let open = (self.turns.len() + self.staged.len()) as u64;
        let taken = self.leases.len() + open + self.unknown.places();
        let places = u64::from(self.limits.total_active_users).saturating_sub(taken);
        let minute = self.window.sum(self.now) + open;
        let rate = u64::from(self.limits.new_users_per_minute).saturating_sub(minute);
        places.min(rate).min(self.left().unwrap_or(u64::MAX)).min(most)
    }

    /// Places for somebody who was let in before.
    pub(super) fn free_places(&self) -> u64 {
        let taken = self.leases.len() + (self.turns.len() + self.staged.len()) as u64 + self.unknown.places();
        u64::from(self.limits.total_active_users).saturating_sub(taken + self.freeing + self.freed)
    }

    /// How many more the cap and the stock allow to be let in; `None`: neither is known.
    pub(super) fn left(&self) -> Option<u64> {
        let open = (self.turns.len() + self.staged.len()) as u64;
        let cap = self.rules.admission_cap.map(|cap| cap.saturating_sub(self.admitted + open));
        // Nobody knows what a kill left in doubt to be there. It counts where a bound must hold; this one only spares
        // people a way for nothing, and must not keep the last pieces from those who wait.
        let looking = (self.leases.looking() + open).saturating_sub(self.doubtful);
        let stock = self.stock.zip(self.rules.per_piece);
        let stock = stock.map(|(left, each)| left.saturating_mul(each).saturating_sub(looking));
        cap.into_iter().chain(stock).min()
    }

    /// Gives free places to those who wait: first to those who missed their turn and came back, then in order or by chance.
    fn grant(&mut self) {
        if self.waiting == 0 && self.late.is_empty() {
            if self.collecting.is_none() {
                self.move_frontier(self.tail - 1);
            }
            return;
        }
        let mut left = self.free();
        self.granted_under = (self.limits, self.rules.admission_cap);
        while left > 0 {
            let Some(number) = self.late.pop_front() else { break };
            self.late_set.remove(&number);
            if !self.marks.is_spent(number) && self.marks.is_seen(number) {
                self.staged.push((number, true));
                left -= 1;
            }
        }
        match self.limits.method {
            Method::Random => self.pick(left),
            Method::Fifo | Method::Reject | Method::Passthrough => self.pass(left),
        }
        let granted = self.staged.len() as u64;
        self.allowance -= granted * ONE;
        self.releases = granted;
        self.waiting = self.marks.count(self.frontier + 1, self.tail);
    }

    fn pass(&mut self, count: u64) {
        if count == 0 {
            return;
        }
        let mut last = self.tail - 1;
        let mut left = count;
        let staged = &mut self.staged;
        self.marks.each(self.frontier + 1, self.tail, |number| {
            staged.push((number, false));
            left -= 1;
            if left == 0 {
                last = number;
            }
            left > 0
        });
        self.move_frontier(last);
    }

    fn move_frontier(&mut self, to: u64) {
        if to > self.frontier {
            self.note_silent(self.frontier + 1, to + 1);
            self.frontier = to;
        }
    }

    fn pick(&mut self, count: u64) {
        let count = count.min(self.waiting);
        if count == 0 {
            return;
        }
        // Robert Floyd's sample: distinct ranks, each set of them as likely as any other.
        let mut ranks = std::collections::BTreeSet::new();
        for at in self.waiting - count..self.waiting {
            let stamp = draw::stamp(&self.seed, b"pick", &[self.now.to_be_bytes(), at.to_be_bytes()].concat());
            let rank = ((u128::from(stamp) * u128::from(at + 1)) >> 64) as u64;
            if !ranks.insert(rank) {
                ranks.insert(at);
            }
        }
        let staged = &mut self.staged;
        self.marks.at_ranks(self.frontier + 1, self.tail, ranks, |number| staged.push((number, false)));
    }

    /// How many places the journal is to count as taken, so that no walk-in waits for the disk. After a kill they stay
    /// empty for a claim window, hence not all of them; and they count towards the cap for good, hence few of what is left
    /// of that. None where nothing is left: a kill then leaves no doubt who was inside.
    fn wanted_credit(&self) -> u32 {
        if !self.is_open() || self.is_sold_out() {
            return 0;
        }
        let total = self.limits.total_active_users;
        let left = self.left().unwrap_or(u64::MAX);
        let few = u32::try_from((left / 16).max(4).min(left)).unwrap_or(u32::MAX);
        (total / 4).max(4).min(total).min(few)
    }

    fn prune(&mut self) {
        self.marks.prune(self.frontier, self.now, self.rules.ticket_life());
        let lowest = self.marks.lowest();
        self.gaps.retain(|(_, end)| *end > self.frontier + 1);
        self.draws.retain(|draw| draw.base + draw.ranks.len() as u64 > lowest);
        self.moved.retain(|old, _| *old >= lowest);
        let live = self.waiting + self.leases.len() + self.turns.len() as u64 + self.late.len() as u64;
        if self.subjects.len() as u64 > 4 * live + 4_096 {
            let (leases, marks) = (&self.leases, &self.marks);
            self.subjects.retain(|_, number| leases.get(*number).is_some() || !marks.is_spent(*number));
        }
    }

    /// What changed since the last line.
    fn delta(&mut self) -> Option<Delta> {
        let goal = self.tail + self.collecting.map_or(0, |first| self.tail - first);
        let reserved = if self.reserved < goal + LOW { goal + AHEAD } else { self.reserved };
        let visits = self.leases.take_changed();
        let mut delta = std::mem::take(&mut self.dirty);
        delta.at = self.now;
        delta.epoch = self.epoch;
        delta.reserved = reserved;
        delta.frontier = self.frontier;
        delta.credit = self.wanted_credit();
        self.next_credit = delta.credit;
        self.writing += std::mem::take(&mut self.fresh);
        self.freeing += std::mem::take(&mut self.freed);
        delta.tail = self.tail;
        delta.admitted = self.admitted;
        delta.sold_out = self.sold_out;
        delta.gone = self.gone;
        delta.stock = self.stock;
        delta.draining = self.draining;
        delta.doubt = self.unknown.lots();
        delta.collecting = self.collecting;
        delta.turns.clone_from(&self.staged);
        delta.visits =
            visits.iter().map(|(number, lease)| (*number, lease.began, lease.until, lease.subject)).collect();
        (!delta.says_nothing_after(&self.last)).then_some(delta)
    }
}
