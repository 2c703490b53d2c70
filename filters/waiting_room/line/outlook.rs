//! What can be told about a line: to everybody, to one of those who wait, and to whoever thinks of other limits.

use super::{Line, Proof};
use crate::waiting_room::pace::{self, Estimate};
use crate::waiting_room::rules::{Limits, Method, Phase, Polling, Rules};

/// Numbers of a block whose waiters are counted beforehand.
const BLOCK: u64 = 4_096;

/// So many who do not know how long they wait look as often as one would.
const CROWD: u64 = 10_000;

/// What a room does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is out of the way.
    Suspended,
    /// Everybody passes and is counted.
    Passthrough,
    /// Newcomers walk in.
    NotQueueing,
    /// Newcomers wait.
    Queueing,
    /// All newcomers wait, whatever is free.
    QueueAll,
    /// People are collected for an event.
    EventPrequeueing,
    /// Nothing is left.
    SoldOut,
    /// An operator empties the room.
    Draining,
}

impl State {
    /// The word used in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Suspended => "suspended",
            State::Passthrough => "passthrough",
            State::NotQueueing => "not_queueing",
            State::Queueing => "queueing",
            State::QueueAll => "queue_all",
            State::EventPrequeueing => "event_prequeueing",
            State::SoldOut => "sold_out",
            State::Draining => "draining",
        }
    }
}

/// A line at one moment; made at each tick, read without a lock.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// When it was made (milliseconds since 1970).
    pub at: u64,
    /// Counts up when the room is reset.
    pub epoch: u32,
    /// What the room does.
    pub state: State,
    /// The limits in force.
    pub limits: Limits,
    /// Turns have come up to this number.
    pub frontier: u64,
    /// The highest number given.
    pub tail: u64,
    /// Waiters that are present.
    pub waiting: u64,
    /// Visits.
    pub active: u64,
    /// Open turns.
    pub ready: u64,
    /// Admissions in all.
    pub admitted: u64,
    /// Admissions of the last 60 seconds.
    pub last_minute: u64,
    /// Turns that nobody took, since the process began.
    pub missed: u64,
    /// What was counted about the room's promises.
    pub proof: Proof,
    /// Releases a second, measured; `None` while too little is known.
    pub rate: Option<f64>,
    /// Releases a second that the limits allow.
    pub allowed_rate: f64,
    /// Whether people are put into an order drawn by chance when the event begins.
    pub shuffles: bool,
    /// How many more may be let in at all, as far as that is known.
    pub left: Option<u64>,
    /// Pieces that the backend says are left.
    pub stock: Option<u64>,
    /// What binds the draw of an event, or opens it.
    pub lottery: Option<Lottery>,
    /// Start and end of the event that is on or being prepared.
    pub event: Option<(u64, u64)>,
    /// How often clients look.
    pub polling: Polling,
    /// How often a page without scripts looks.
    pub refresh: u64,
    sums: Vec<u32>,
}

/// A draw as it can be checked by those who take part. The commitment is published before the first of them can know how
/// many there will be; what it commits to, once the draw is made: `order` of [`crate::waiting_room::draw`] gives everybody
/// the same ranks then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lottery {
    /// [`crate::waiting_room::draw::commitment`] of the secret.
    pub commit: [u8; 32],
    /// The secret, the first number that took part, how many did, and the first number that was drawn.
    pub opened: Option<([u8; 32], u64, u32, u64)>,
}

/// What other limits would do to those who wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Releases a second.
    pub rate: f64,
    /// Wait of the last in line; `None` when nobody would be released.
    pub wait: Option<Estimate>,
}

impl Line {
    /// How the line stands.
    #[must_use]
    pub fn outlook(&mut self) -> Outlook {
        let phase = self.rules.phase(self.now);
        let event = match phase {
            Phase::Ordinary => None,
            Phase::Prequeue(event) | Phase::Event(event) => Some((event.start, event.end)),
        };
        let state = if self.limits.suspended {
            State::Suspended
        } else if self.is_sold_out() {
            State::SoldOut
        } else if self.draining {
            State::Draining
        } else if self.limits.queue_all {
            State::QueueAll
        } else if matches!(phase, Phase::Prequeue(_)) {
            State::EventPrequeueing
        } else if self.limits.method == Method::Passthrough {
            State::Passthrough
        } else if self.is_open() && self.free() > 0 {
            State::NotQueueing
        } else {
            State::Queueing
        };
        let moving = !matches!(state, State::QueueAll | State::EventPrequeueing | State::SoldOut | State::Draining);
        Outlook {
            at: self.now,
            epoch: self.told_epoch,
            state,
            limits: self.limits,
            frontier: self.published,
            tail: self.tail - 1,
            waiting: self.waiting,
            active: self.leases.len(),
            ready: self.turns.len() as u64,
            admitted: self.admitted,
            last_minute: self.window.sum(self.now),
            missed: self.missed,
            proof: self.proof,
            rate: self.pace.per_second().filter(|_| moving),
            allowed_rate: if moving { self.rate_under(self.limits) } else { 0.0 },
            shuffles: self.shuffles(),
            left: self.left(),
            stock: if self.gone { Some(0) } else { self.stock },
            lottery: self.lottery(),
            event,
            polling: self.rules.polling,
            refresh: self.rules.refresh,
            sums: self.marks.sums(self.published + 1, self.tail, BLOCK),
        }
    }

    /// What `rules` would do to those who wait now. Changes nothing.
    #[must_use]
    pub fn predict(&self, rules: &Rules) -> Prediction {
        let limits = rules.limits_at(self.now);
        let rate = if limits.queue_all || self.draining || self.is_sold_out() { 0.0 } else { self.rate_under(limits) };
        let wait = (rate > 0.0).then(|| match limits.method {
            Method::Random => Estimate::by_chance(self.waiting, rate),
            _ => Estimate::in_order(self.waiting, rate),
        });
        Prediction { rate, wait }
    }

    /// Releases a second under these limits: what the rate allows, and by Little's law what the places allow when visits
    /// last as long as they did.
    fn rate_under(&self, limits: Limits) -> f64 {
        let per_minute = self.health_rate.unwrap_or(u32::MAX).min(limits.new_users_per_minute);
        let visit = if self.mean_visit > 0.0 { self.mean_visit } else { limits.session as f64 };
        let by_places = f64::from(limits.total_active_users) * 1_000.0 / visit.max(1.0);
        (f64::from(per_minute) / 60.0).min(by_places)
    }
}

impl Outlook {
    /// How many of those present stand before `number`. `count` counts the waiters in a range of numbers.
    pub(in crate::waiting_room) fn ahead(&self, number: u64, count: impl FnOnce(u64, u64) -> u64) -> u64 {
        if self.limits.method == Method::Random {
            return self.waiting.saturating_sub(1);
        }
        let first = (self.frontier + 1) / BLOCK;
        let block = number / BLOCK;
        let Some(before) = block.checked_sub(first) else { return 0 };
        let at = usize::try_from(before).unwrap_or(usize::MAX).min(self.sums.len().saturating_sub(1));
        let start = (block * BLOCK).max(self.frontier + 1);
        u64::from(self.sums.get(at).copied().unwrap_or(0)) + count(start, number)
    }

    /// How long somebody with `ahead` others before them will wait; `None` while too little is known, or nothing moves.
    #[must_use]
    pub fn estimate(&self, ahead: u64) -> Option<Estimate> {
        let rate = self.rate?;
        Some(match self.limits.method {
            Method::Random => Estimate::by_chance(self.waiting, rate),
            _ => Estimate::in_order(ahead, rate),
        })
    }

    /// Milliseconds after which somebody with `ahead` others before them should look again; `spread` as for
    /// [`pace::poll_after`]. Never so many that their turn could come, at the fastest that the limits allow, and be given to
    /// the next before they look.
    #[must_use]
    pub fn poll_after(&self, ahead: u64, spread: f64) -> u64 {
        let wait = match self.state {
            State::SoldOut => Some(f64::INFINITY),
            _ => self.rough_wait(ahead),
        };
        // Who stands behind the last piece waits to hear that it is gone, which is sooner than a turn would be.
        let decided = self.left.filter(|left| *left < ahead && self.state != State::SoldOut);
        let decided = decided.and_then(|left| self.rough_wait(left));
        // While nothing is known, nothing moves or all hear of it at once, a long line looks more rarely than a short one.
        let crowd = if wait.is_none() || decided.is_some() { 1 + self.waiting / CROWD } else { 1 };
        let wanted = pace::poll_after(self.polling, decided.or(wait), spread).saturating_mul(crowd);
        let wanted = wanted.min(self.longest_pause());
        let soonest = ahead.saturating_mul(60_000) / u64::from(self.limits.new_users_per_minute.max(1));
        wanted.min(soonest.saturating_add(self.refresh))
    }

    fn longest_pause(&self) -> u64 {
        self.polling.max.max(self.polling.min) * 13 / 10
    }

    /// Seconds after which it is worth looking again, roughly; `None` when nothing moves.
    #[must_use]
    pub fn rough_wait(&self, ahead: u64) -> Option<f64> {
        let rate = self.rate.unwrap_or(self.allowed_rate);
        (rate > 0.0).then(|| match self.limits.method {
            // Anybody may be next, so nobody is far from it.
            Method::Random => 0.0,
            _ => ahead as f64 / rate,
        })
    }
}
