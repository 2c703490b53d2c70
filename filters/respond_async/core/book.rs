//! The book: every record that is not over, its lane and its time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::lane::{Lane, May};
use super::record::{Class, Entry, Id, State, Verdict, millis};
use super::release::Called;
use super::room::{Full, Refused, Room, Seat};
use super::rules::Rules;

/// Sent in one go at most: what fits into one commit of the disk's.
const AT_ONCE: usize = 256;

type Map<K, V> = HashMap<K, V, ahash::RandomState>;

/// What is to be done now.
#[derive(Debug, Default)]
pub struct Due {
    /// To be written down as running and then sent.
    pub send: Vec<Entry>,
    /// Their time is over: to be written down as expired, then removed.
    pub expired: Vec<Entry>,
    /// Unknown ones whose upstream's own books may be looked into.
    pub look: Vec<Entry>,
    /// When there is something to do again, at the latest; `None`: when something comes.
    pub wake: Option<Duration>,
}

/// All records of one filter that are not over.
pub struct Book {
    pub(super) rules: Rules,
    pub(super) room: Room,
    pub(super) entries: Map<i64, Entry>,
    ids: Map<Id, i64>,
    pub(super) lanes: Vec<Lane>,
    timers: BTreeSet<(u64, i64)>,
    pub(super) waiting: BTreeSet<i64>,
    /// In somebody's hands: being sent or written down. Nobody else changes them meanwhile. With the gate whose turn they
    /// have, of those that are being sent.
    held: Map<i64, Option<usize>>,
    /// Called and not yet gone.
    pub(super) called: Map<i64, Called>,
    pub(super) counts: [usize; State::ALL.len()],
}

impl Book {
    /// An empty book.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            room: Room::default(),
            entries: Map::default(),
            ids: Map::default(),
            lanes: Vec::new(),
            timers: BTreeSet::new(),
            waiting: BTreeSet::new(),
            held: Map::default(),
            called: Map::default(),
            counts: Default::default(),
        }
    }

    /// Other rules from now on; what waits goes on waiting.
    pub fn retune(&mut self, rules: Rules) {
        if rules.rate.interval() > self.rules.rate.interval() {
            self.lanes.iter_mut().for_each(Lane::slow_down);
        }
        self.rules = rules;
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Records that are not over.
    #[must_use]
    pub fn records(&self) -> usize {
        self.entries.len()
    }

    /// Records that wait in lines.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.lanes.iter().map(|lane| lane.line.len()).sum()
    }

    /// Room for a newcomer, or why there is none. `lot`: chance, over the whole range.
    ///
    /// # Errors
    /// When a bound is reached or the newcomer is shed.
    pub fn reserve(&mut self, class: Class, party: u64, size: u32, lot: u32, now: Duration) -> Result<Seat, Refused> {
        self.room.check(&self.rules, class, party, size, lot).map_err(|full| self.refused(full, now))?;
        Ok(self.room.take(party, size))
    }

    fn refused(&self, full: Full, now: Duration) -> Refused {
        // No sooner than one more has left.
        let next = self.lanes.iter().filter_map(|lane| Some(lane.next(&self.rules, now)?.1.saturating_sub(now))).min();
        match full {
            Full::Quota => Refused::Quota,
            Full::All => Refused::Full { wait: next.unwrap_or_default().max(Duration::from_secs(1)) },
        }
    }

    /// The record did not get onto the disk.
    pub fn give_back(&mut self, seat: Seat) {
        self.room.give_back(seat);
    }

    /// The number of an upstream's lane.
    pub fn lane(&mut self, upstream: &str) -> u16 {
        let found = self.lanes.iter().position(|lane| &*lane.upstream == upstream);
        let at = found.unwrap_or_else(|| {
            self.lanes.push(Lane::new(upstream));
            self.lanes.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// Which channels the upstreams have, as far as `channels` knows them.
    pub fn set_channels(&mut self, channels: impl Fn(&str) -> Vec<Arc<str>>) {
        for lane in &mut self.lanes {
            lane.set_channels(&channels(&lane.upstream));
        }
    }

    /// How many lanes there are.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// The record is on the disk and joins. `seat`: what was reserved for it.
    pub fn insert(&mut self, seat: Seat, entry: Entry) {
        // The seat's bounds become the entry's; what it says of itself counts from now on.
        self.room.give_back(seat);
        self.load(entry);
    }

    /// A record found on the disk joins, whatever the bounds say: it was promised.
    pub fn load(&mut self, entry: Entry) {
        self.room.take(entry.party, entry.size);
        self.ids.insert(entry.id, entry.seq);
        let seq = entry.seq;
        self.counts[entry.state as usize] += 1;
        self.entries.insert(seq, entry);
        self.place(seq);
    }

    /// Puts an entry where its state belongs: line or timer.
    fn place(&mut self, seq: i64) {
        let Some(entry) = self.entries.get(&seq) else { return };
        let expires = if entry.may_expire() { entry.expires } else { u64::MAX };
        let timer = match entry.state {
            State::Queued if entry.due == 0 => expires,
            State::Queued | State::Retrying | State::DeadLetter => entry.due.min(expires),
            State::Unknown => entry.due,
            _ => u64::MAX,
        };
        if entry.state == State::Queued && entry.due == 0 {
            let (class, party, since) = (entry.class, entry.party, entry.created);
            if let Some(lane) = self.lanes.get_mut(usize::from(entry.lane)) {
                lane.line.join(class, party, seq, since);
            }
        }
        if entry.state.is_waiting() {
            self.waiting.insert(seq);
        }
        if timer != u64::MAX {
            self.timers.insert((timer, seq));
        }
    }

    /// Takes an entry out of line and timers into somebody's hands; it stays in the book.
    fn hold(&mut self, seq: i64, gate: Option<usize>) {
        self.lift(seq);
        self.held.insert(seq, gate);
    }

    fn lift(&mut self, seq: i64) {
        let Some(entry) = self.entries.get(&seq) else { return };
        self.timers.remove(&(entry.due, seq));
        self.timers.remove(&(entry.expires, seq));
        self.waiting.remove(&seq);
        if let Some(lane) = self.lanes.get_mut(usize::from(entry.lane)) {
            lane.line.leave(entry.class, entry.party, seq);
        }
    }

    /// What is to be done at this moment. What is handed out stays in the book, out of its line.
    pub fn due(&mut self, now: Duration) -> Due {
        let mut due = Due::default();
        self.run_timers(millis(now), &mut due);
        let mut wake: Option<Duration> = None;
        for at in 0..self.lanes.len() {
            self.lanes[at].begin(now);
            while due.send.len() < AT_ONCE {
                let Some((seq, gate)) = self.call(at, now) else { break };
                self.hold(seq, Some(gate));
                if let Some(called) = self.lanes[at].called((at, gate)) {
                    self.called.insert(seq, called);
                }
                if let Some(entry) = self.entries.get_mut(&seq) {
                    self.counts[entry.state as usize] -= 1;
                    entry.turn(State::Running, 0);
                    self.counts[entry.state as usize] += 1;
                    due.send.push(entry.clone());
                }
            }
            let lane = &mut self.lanes[at];
            lane.end(&self.rules, now);
            if lane.line.len() > 0
                && let Some((_, next)) = lane.next(&self.rules, now)
            {
                wake = Some(wake.map_or(next, |wake| wake.min(next)));
            }
        }
        let timer = self.timers.first().map(|(at, _)| Duration::from_millis(*at));
        due.wake = match (wake, timer) {
            (Some(wake), Some(timer)) => Some(wake.min(timer)),
            (wake, timer) => wake.or(timer),
        };
        due
    }

    /// The next of a lane, and the gate that has called it.
    fn call(&mut self, at: usize, now: Duration) -> Option<(i64, usize)> {
        let lane = &mut self.lanes[at];
        let (gate, _) = lane.next(&self.rules, now).filter(|(_, next)| *next <= now)?;
        let weights = &self.rules.weights;
        let weight = |party: u64| weights.get(&party).copied().unwrap_or(1);
        let seq = lane.line.call(millis(self.rules.ageing), millis(now), weight)?;
        lane.take(gate, &self.rules, now);
        Some((seq, gate))
    }

    fn run_timers(&mut self, now: u64, due: &mut Due) {
        while let Some(&(at, seq)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let Some(entry) = self.entries.get_mut(&seq) else { continue };
            if entry.may_expire() && entry.expires <= now {
                let mut gone = entry.clone();
                gone.turn(State::Expired, 0);
                self.hold(seq, None);
                due.expired.push(gone);
            } else if entry.state == State::Unknown {
                due.look.push(entry.clone());
                self.hold(seq, None);
            } else if entry.state.is_waiting() {
                // Due again: back into its line, where it stood.
                self.counts[entry.state as usize] -= 1;
                self.counts[State::Queued as usize] += 1;
                entry.state = State::Queued;
                entry.due = 0;
                self.place(seq);
            }
        }
    }

    /// What the end of a try would make of a record; to be written down before [`Book::ended`].
    #[must_use]
    pub fn judge(&self, seq: i64, verdict: Verdict, now: Duration) -> Option<Entry> {
        let mut entry = self.entries.get(&seq)?.clone();
        entry.end(verdict, &self.rules, millis(now));
        Some(entry)
    }

    /// The end of a try is written down.
    pub fn ended(&mut self, entry: Entry, verdict: Verdict, now: Duration) {
        let gate = self.held.get(&entry.seq).copied().flatten();
        if let (Some(gate), Some(lane)) = (gate, self.lanes.get_mut(usize::from(entry.lane))) {
            lane.ended(gate, !matches!(verdict, Verdict::Postponed { .. }));
            if let Verdict::Postponed { wait, all: true } = verdict {
                lane.pause(now + wait);
            }
        }
        self.change(entry);
    }

    /// The gate that a record which is being sent has a turn of, and its lane.
    fn turn(&mut self, seq: i64) -> Option<(usize, &mut Lane, &Rules)> {
        let gate = self.held.get(&seq).copied().flatten()?;
        let lane = self.lanes.get_mut(usize::from(self.entries.get(&seq)?.lane))?;
        Some((gate, lane, &self.rules))
    }

    /// Whether a record that is being sent may go to that channel.
    pub fn may(&mut self, seq: i64, channel: &str, now: Duration) -> May {
        self.turn(seq).map_or(May::Now, |(held, lane, rules)| lane.may(held, channel, rules, now))
    }

    /// Takes a turn of that channel's for a record that is being sent; false when somebody else was quicker.
    pub fn charge(&mut self, seq: i64, channel: &str, now: Duration) -> bool {
        let Some((held, lane, rules)) = self.turn(seq) else { return true };
        let gate = lane.charge(held, channel, rules, now);
        if let Some(gate) = gate {
            self.held.insert(seq, Some(gate));
        }
        gate.is_some()
    }

    /// The channel cannot be used before then.
    pub fn rest(&mut self, seq: i64, channel: &str, until: Duration) {
        if let Some((held, lane, _)) = self.turn(seq)
            && let Some(pace) = lane.pace_of(held, channel)
        {
            pace.pause(until);
        }
    }

    /// A try at the channel has ended. `busy`: it said that it has too much to do. `took`: from sending to the answer.
    pub fn tried(&mut self, seq: i64, channel: &str, busy: bool, took: Duration, now: Duration) {
        if let Some((held, lane, rules)) = self.turn(seq)
            && (busy || took >= rules.slow_call)
            && let Some(pace) = lane.pace_of(held, channel)
        {
            pace.slow_down(now);
        }
    }

    /// Puts a changed record where it belongs now; one that is over leaves the book.
    pub fn change(&mut self, entry: Entry) {
        let seq = entry.seq;
        self.lift(seq);
        self.held.remove(&seq);
        if let Some(called) = self.called.remove(&seq)
            && let Some(lane) = self.lanes.get_mut(called.lane)
        {
            lane.stays(called);
        }
        let Some(before) = self.entries.remove(&seq) else { return };
        self.counts[before.state as usize] -= 1;
        if entry.state.is_over() {
            self.ids.remove(&entry.id);
            self.room.leave(entry.party, entry.size);
        } else {
            self.counts[entry.state as usize] += 1;
            self.entries.insert(seq, entry);
            self.place(seq);
        }
    }

    /// A record as somebody wants to change it: to be written down, then [`Book::change`]d or [`Book::put_back`]. `None`:
    /// it is over, in other hands, or `wish` refuses.
    pub fn take(&mut self, id: Id, wish: impl FnOnce(&mut Entry) -> bool) -> Option<Entry> {
        let seq = *self.ids.get(&id)?;
        if self.held.contains_key(&seq) {
            return None;
        }
        let mut entry = self.entries.get(&seq)?.clone();
        if !wish(&mut entry) {
            return None;
        }
        self.hold(seq, None);
        Some(entry)
    }

    /// What was taken could not be written down: it stands as before.
    pub fn put_back(&mut self, seq: i64) {
        if self.held.remove(&seq).is_some() {
            self.place(seq);
        }
    }

    /// The record of that name; `None` when it is over or was never here.
    #[must_use]
    pub fn find(&self, id: Id) -> Option<&Entry> {
        self.entries.get(self.ids.get(&id)?)
    }
}
