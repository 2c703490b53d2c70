//! The book: every record that is not over, its lane and its time.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::line::Line;
use super::pace::Pace;
use super::record::{Class, Entry, Id, State, Verdict, millis};
use super::room::{Full, Refused, Room, Seat};
use super::rules::Rules;

/// Sent in one go at most: what fits into one commit of the disk's.
const AT_ONCE: usize = 256;

type Map<K, V> = HashMap<K, V, ahash::RandomState>;

pub(super) struct Lane {
    pub(super) upstream: Arc<str>,
    pub(super) line: Line,
    pub(super) pace: Pace,
    pub(super) in_flight: usize,
    pub(super) sent: u64,
    /// Nothing could be sent when it was looked at last: there is nothing to catch up.
    idle: bool,
}

impl Lane {
    /// Something may be sent: the pace counts from now, unless it has counted all the while.
    fn begin(&mut self, now: Duration) {
        if self.line.len() > 0 && std::mem::take(&mut self.idle) {
            self.pace.begin(now);
        }
    }
}

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
    /// In somebody's hands: being sent or written down. Nobody else changes them meanwhile.
    held: HashSet<i64, ahash::RandomState>,
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
            held: HashSet::default(),
            counts: Default::default(),
        }
    }

    /// Other rules from now on; what waits goes on waiting.
    pub fn retune(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
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
        let next = self.lanes.iter().map(|lane| lane.pace.next(self.rules.rate, now).saturating_sub(now)).min();
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
            let upstream = upstream.into();
            self.lanes.push(Lane {
                upstream,
                line: Line::default(),
                pace: Pace::new(),
                in_flight: 0,
                sent: 0,
                idle: true,
            });
            self.lanes.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
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
    fn hold(&mut self, seq: i64) {
        self.lift(seq);
        self.held.insert(seq);
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
                let Some(seq) = self.call(at, now) else { break };
                self.hold(seq);
                if let Some(entry) = self.entries.get_mut(&seq) {
                    self.counts[entry.state as usize] -= 1;
                    entry.turn(State::Running, 0);
                    self.counts[entry.state as usize] += 1;
                    due.send.push(entry.clone());
                }
            }
            let lane = &mut self.lanes[at];
            lane.idle = lane.line.len() == 0 || lane.in_flight >= self.rules.max_in_flight || lane.pace.is_paused(now);
            if lane.line.len() > 0 && lane.in_flight < self.rules.max_in_flight {
                let next = lane.pace.next(self.rules.rate, now);
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

    fn call(&mut self, at: usize, now: Duration) -> Option<i64> {
        let lane = &mut self.lanes[at];
        if lane.in_flight >= self.rules.max_in_flight || now < lane.pace.next(self.rules.rate, now) {
            return None;
        }
        let weights = &self.rules.weights;
        let weight = |party: u64| weights.get(&party).copied().unwrap_or(1);
        let seq = lane.line.call(millis(self.rules.ageing), millis(now), weight)?;
        lane.pace.take(self.rules.rate, now);
        lane.in_flight += 1;
        lane.sent += 1;
        Some(seq)
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
                self.hold(seq);
                due.expired.push(gone);
            } else if entry.state == State::Unknown {
                due.look.push(entry.clone());
                self.hold(seq);
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

    /// The end of a try is written down. `took`: from sending to the answer.
    pub fn ended(&mut self, entry: Entry, verdict: Verdict, took: Duration, now: Duration) {
        if let Some(lane) = self.lanes.get_mut(usize::from(entry.lane)) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
            let busy = matches!(verdict, Verdict::Nothing { busy: true, .. });
            if busy || (took >= self.rules.slow_call && !matches!(verdict, Verdict::Postponed { .. })) {
                lane.pace.slow_down(now);
            }
            if let Verdict::Postponed { wait } = verdict {
                lane.pace.pause(now + wait);
                lane.sent -= 1;
            }
        }
        self.change(entry);
    }

    /// Puts a changed record where it belongs now; one that is over leaves the book.
    pub fn change(&mut self, entry: Entry) {
        let seq = entry.seq;
        self.lift(seq);
        self.held.remove(&seq);
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
        if self.held.contains(&seq) {
            return None;
        }
        let mut entry = self.entries.get(&seq)?.clone();
        if !wish(&mut entry) {
            return None;
        }
        self.hold(seq);
        Some(entry)
    }

    /// What was taken could not be written down: it stands as before.
    pub fn put_back(&mut self, seq: i64) {
        if self.held.remove(&seq) {
            self.place(seq);
        }
    }

    /// The record of that name; `None` when it is over or was never here.
    #[must_use]
    pub fn find(&self, id: Id) -> Option<&Entry> {
        self.entries.get(self.ids.get(&id)?)
    }
}
