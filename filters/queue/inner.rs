//! What a queue decides, under its lock: who may enter, who must go, who is called. Takes the time, wakes nobody.

use std::time::Duration;

use super::codel::{CoDel, Target};
use super::line::{Line, Place};
use super::pace::{Pace, WarmUp};
use crate::engine::{Key, Nanos, Priority, Rate};

/// Weight of the newest hold in the mean.
const NEWEST: f64 = 0.1;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// One of so many places.
    Concurrency(usize),
    /// One's time.
    Rate(Rate, Option<WarmUp>),
}

/// What can be tuned while people wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) source: Source,
    pub(super) max_wait: Duration,
    pub(super) max_length: usize,
    pub(super) ageing: Duration,
    pub(super) codel: Option<Target>,
}

/// Why somebody may not wait (any longer), and when the line will be through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) wait: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Full,
    Timeout,
    Shed,
}

/// What becomes of one who comes.
pub(super) enum Entry<T> {
    Now,
    Refused(Refusal),
    Waits(Place, Option<(T, Refusal)>),
}

/// One who is called, and what undoes it should they be gone.
pub(super) struct Called<T> {
    pub(super) wake: T,
    pub(super) slot: Slot,
}

/// What a call took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Held,
    Due(Nanos),
}

pub(super) struct Inner<T> {
    limits: Limits,
    line: Line<T>,
    in_service: usize,
    /// Mean time a place is held, in nanoseconds; `None` until one was given back.
    mean_hold: Option<f64>,
    pace: Option<Pace>,
    codel: CoDel,
    /// A task keeps the pace.
    pub(super) pacing: bool,
}

impl<T> Inner<T> {
    pub(super) fn new(limits: Limits) -> Self {
        let pace = pace_of(&limits);
        let (line, codel) = (Line::default(), CoDel::default());
        Self { limits, line, in_service: 0, mean_hold: None, pace, codel, pacing: false }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn line(&self) -> &Line<T> {
        &self.line
    }

    pub(super) fn in_service(&self) -> usize {
        self.in_service
    }

    pub(super) fn mean_hold(&self) -> Option<Duration> {
        self.mean_hold.map(|hold| Duration::from_secs_f64(hold / 1e9))
    }

    /// Whether somebody waits whose time will come by itself.
    pub(super) fn needs_pacing(&self) -> bool {
        self.pace.is_some() && self.line.len() > 0
    }

    /// New limits; the line stays as it is, also where it is longer now than it may get.
    pub(super) fn retune(&mut self, limits: Limits, now: Nanos) {
        if self.limits == limits {
            return;
        }
        match (&mut self.pace, limits.source) {
            (Some(pace), Source::Rate(rate, warm_up)) => pace.retune(rate, warm_up, now),
            _ => self.pace = pace_of(&limits),
        }
        self.limits = limits;
    }

    /// By how much everybody's turn has been put off so far; `None` for a queue with places, where nothing is promised.
    pub(super) fn slipped(&self) -> Option<Duration> {
        self.pace.as_ref().map(Pace::slipped)
    }

    /// Takes what is free, if anything is.
    fn take(&mut self, now: Nanos) -> Option<Slot> {
        match (self.limits.source, &mut self.pace) {
            (Source::Concurrency(most), _) if self.in_service < most => {
                self.in_service += 1;
                Some(Slot::Held)
            }
            (Source::Rate(..), Some(pace)) => pace.take(now).map(Slot::Due),
            _ => None,
        }
    }

    /// Nobody uses what a call took.
    pub(super) fn undo(&mut self, slot: Slot) {
        match slot {
            Slot::Held => self.in_service = self.in_service.saturating_sub(1),
            Slot::Due(at) => self.pace.iter_mut().for_each(|pace| pace.give_back(at)),
        }
    }

    /// A place is free again after `held`.
    pub(super) fn release(&mut self, held: Duration) {
        self.undo(Slot::Held);
        let held = held.as_secs_f64() * 1e9;
        self.mean_hold = Some(self.mean_hold.map_or(held, |mean| mean + NEWEST * (held - mean)));
    }

    /// How long one would wait who had `ahead` others in front.
    fn wait(&self, ahead: usize, now: Nanos) -> Duration {
        match (self.limits.source, &self.pace) {
            (Source::Rate(..), Some(pace)) => pace.wait(ahead as u64, now),
            (Source::Concurrency(most), _) => {
                let hold = self.mean_hold().unwrap_or_default();
                let rounds = u32::try_from(ahead + 1).unwrap_or(u32::MAX);
                hold.saturating_mul(rounds) / u32::try_from(most.max(1)).unwrap_or(u32::MAX)
            }
            (Source::Rate(..), None) => Duration::ZERO,
        }
    }

    fn refusal(&self, reason: Reason, wait: Duration) -> Refusal {
        // Nothing is known of a queue that gave no place back yet: the longest wait is a guess on the safe side.
        Refusal { reason, wait: if wait.is_zero() { self.limits.max_wait } else { wait } }
    }

    /// One comes. `wake` is made only for one who waits.
    pub(super) fn enter(&mut self, class: Priority, flow: Key, now: Nanos, wake: impl FnOnce() -> T) -> Entry<T> {
        if self.line.len() == 0 {
            if let Some(pace) = &mut self.pace {
                pace.begin(now);
            }
            if self.take(now).is_some() {
                return Entry::Now;
            }
        }
        let wait = self.wait(self.line.ahead(class, flow), now);
        if wait > self.limits.max_wait {
            return Entry::Refused(self.refusal(Reason::Timeout, wait));
        }
        let mut displaced = None;
        if self.line.len() >= self.limits.max_length {
            let refusal = self.refusal(Reason::Full, wait);
            // The least important makes room for the more important.
            match self.line.call_least(class) {
                Some((_, waiter)) => displaced = Some((waiter.wake, refusal)),
                None => return Entry::Refused(refusal),
            }
        }
        Entry::Waits(self.line.join(class, flow, now, wake()), displaced)
    }

    pub(super) fn leave(&mut self, place: Place) -> bool {
        self.line.leave(place).is_some()
    }

    /// The next who is called, and one who is shed for it.
    pub(super) fn next(&mut self, now: Nanos) -> (Option<Called<T>>, Option<(T, Refusal)>) {
        if self.line.len() == 0 {
            return (None, None);
        }
        let Some(slot) = self.take(now) else { return (None, None) };
        let Some((_, waiter)) = self.line.call(self.limits.ageing, now) else { return (None, None) };
        let shed = self.limits.codel.and_then(|target| {
            let sheds = self.codel.sheds(target, now.since(waiter.since), self.line.len() == 0, now);
            let (_, least) = sheds.then(|| self.line.call_least(Priority::Critical)).flatten()?;
            Some((least.wake, self.refusal(Reason::Shed, self.wait(self.line.len(), now))))
        });
        (Some(Called { wake: waiter.wake, slot }), shed)
    }

    /// When the next one's time comes; `None` when nobody waits for their time.
    pub(super) fn next_at(&self) -> Option<Nanos> {
        let pace = self.pace.as_ref().filter(|_| self.line.len() > 0)?;
        Some(pace.next_at())
    }

    /// What would become of one who comes, where nobody is held back. `Err` of `None`: they would wait.
    pub(super) fn rehearse(&mut self, now: Nanos) -> Result<(), Option<Refusal>> {
        let (ahead, wait) = match (self.limits.source, &self.pace) {
            (Source::Concurrency(most), _) => match self.in_service.checked_sub(most) {
                Some(ahead) => (ahead, self.wait(ahead, now)),
                None => (0, Duration::ZERO),
            },
            (Source::Rate(..), Some(pace)) => {
                let wait = pace.wait(0, now);
                let ahead = wait.as_nanos() / u128::from(pace.interval().max(1));
                (usize::try_from(ahead).unwrap_or(usize::MAX), wait)
            }
            (Source::Rate(..), None) => (0, Duration::ZERO),
        };
        let busy = match self.limits.source {
            Source::Concurrency(most) => self.in_service >= most,
            Source::Rate(..) => !wait.is_zero(),
        };
        if busy && wait > self.limits.max_wait {
            return Err(Some(self.refusal(Reason::Timeout, wait)));
        }
        if busy && ahead >= self.limits.max_length {
            return Err(Some(self.refusal(Reason::Full, wait)));
        }
        match &mut self.pace {
            Some(pace) => pace.take_ahead(now),
            None => self.in_service += 1,
        }
        if busy { Err(None) } else { Ok(()) }
    }
}

fn pace_of(limits: &Limits) -> Option<Pace> {
    match limits.source {
        Source::Concurrency(_) => None,
        Source::Rate(rate, warm_up) => Some(Pace::new(rate, warm_up)),
    }
}
