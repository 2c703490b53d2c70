//! One breaker: its phase and generation in one atomic word, everything else behind a lock that a closed breaker's
//! requests do not touch unless they fail.
//!
//! Every change of phase begins a new generation. A try carries the generation it began in, and its result counts only
//! while that one lasts: what was asked before the breaker opened says nothing about the channel after it closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release as Publish};
use std::time::Duration;

use parking_lot::Mutex;

use super::history::{Event, History, Manual};
use super::settings::Rules;
use super::window::{Counts, Outcomes};
use crate::channels::Judged;
use crate::engine::{Nanos, Permit, Release};

/// The textbook's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Requests pass.
    Closed,
    /// None pass.
    Open,
    /// A few pass, to see how the channel is.
    HalfOpen,
}

impl Phase {
    /// The word used in logs, labels and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Closed => "closed",
            Phase::Open => "open",
            Phase::HalfOpen => "half_open",
        }
    }
}

const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;
const HELD_OPEN: u64 = 3;
const HELD_CLOSED: u64 = 4;
const PHASE_BITS: u32 = 3;
const PHASE_MASK: u64 = (1 << PHASE_BITS) - 1;
/// A token is a generation and, in its lower half, the number of a probe (0: none). Generations are compared by 32 bits;
/// one that returns after four billion changes finds no try that old.
const PROBE_BITS: u32 = 32;

/// Whether a request may use the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// It may.
    Yes,
    /// Not before this time; the request made then passes or finds another probe under way.
    NotFor(Duration),
    /// Not until an operator says so.
    Held,
}

/// What a request that may use the channel carries.
pub enum Entry {
    /// It counts under this token.
    Counted(u64),
    /// It is a probe; the place comes back with the permit.
    Probe(u64, Permit),
    /// It may not, after all.
    Refused,
}

struct Probe {
    number: u64,
    since: Nanos,
}

#[derive(Default)]
struct Inner {
    opened_at: Nanos,
    /// Times it has opened since it last closed.
    openings: u32,
    luck: f64,
    probes: Vec<Probe>,
    next_probe: u32,
    successes: u32,
    history: History,
}

/// The breaker of one channel.
pub struct Breaker {
    pub(super) filter: Arc<str>,
    pub(super) upstream: Arc<str>,
    pub(super) channel: Arc<str>,
    word: AtomicU64,
    consecutive: AtomicU32,
    outcomes: Outcomes,
    inner: Mutex<Inner>,
}

/// How a breaker stands, for people.
pub struct View {
    /// Its phase.
    pub phase: Phase,
    /// Who holds it there, if anybody does.
    pub manual: Option<Manual>,
    /// While open: how long until it is probed; `None` when it is held open.
    pub probed_in: Option<Duration>,
    /// Failures in a row.
    pub consecutive: u32,
    /// The window's counts.
    pub counts: Counts,
    /// Probes under way.
    pub probes: usize,
    /// The latest changes, oldest first.
    pub events: Vec<Event>,
}

fn phase_of(word: u64) -> Phase {
    match word & PHASE_MASK {
        OPEN | HELD_OPEN => Phase::Open,
        HALF_OPEN => Phase::HalfOpen,
        _ => Phase::Closed,
    }
}

fn token_of(word: u64, probe: u64) -> u64 {
    (word >> PHASE_BITS) << PROBE_BITS | probe
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(filter: Arc<str>, upstream: Arc<str>, channel: Arc<str>) -> Self {
        Self {
            filter,
            upstream,
            channel,
            word: AtomicU64::new(CLOSED),
            consecutive: AtomicU32::new(0),
            outcomes: Outcomes::new(),
            inner: Mutex::default(),
        }
    }

    /// Its phase now. One that is open stays so until somebody comes to probe.
    #[must_use]
    pub fn phase(&self) -> Phase {
        phase_of(self.word.load(Acquire))
    }

    /// Whether a request may use the channel. Takes nothing; `token`: what this request has from an earlier choice of
    /// this channel, so that a probe that is made once more does not wait for itself.
    pub fn admits(&self, token: Option<u64>, rules: &Rules, now: Nanos) -> Admits {
        match self.word.load(Acquire) & PHASE_MASK {
            CLOSED | HELD_CLOSED => return Admits::Yes,
            HELD_OPEN => return Admits::Held,
            _ => (),
        }
        let mut inner = self.inner.lock();
        // It may have changed since.
        let word = self.word.load(Acquire);
        match word & PHASE_MASK {
            OPEN => match inner.opened_at.after(inner.open_time(rules)).since(now) {
                Duration::ZERO => Admits::Yes,
                left => Admits::NotFor(left),
            },
            HALF_OPEN => {
                inner.release_overdue(rules, now);
                if inner.probes.len() < rules.max_concurrent || inner.has(word, token) {
                    return Admits::Yes;
                }
                let first = inner.probes.iter().map(|probe| probe.since).min().unwrap_or(now);
                Admits::NotFor(first.after(rules.max_duration).since(now))
            }
            HELD_OPEN => Admits::Held,
            _ => Admits::Yes,
        }
    }

    /// A request is about to use the channel.
    pub fn enter(self: &Arc<Self>, token: Option<u64>, rules: &Rules, now: Nanos, wall: Duration) -> Entry {
        let word = self.word.load(Acquire);
        if matches!(word & PHASE_MASK, CLOSED | HELD_CLOSED) {
            return Entry::Counted(token_of(word, 0));
        }
        let mut inner = self.inner.lock();
        let mut word = self.word.load(Acquire);
        if word & PHASE_MASK == OPEN && inner.opened_at.after(inner.open_time(rules)) <= now {
            inner.probes.clear();
            inner.successes = 0;
            word = self.change(&mut inner, HALF_OPEN, "its time is over", wall);
        }
        match word & PHASE_MASK {
            CLOSED | HELD_CLOSED => Entry::Counted(token_of(word, 0)),
            HALF_OPEN => {
                inner.release_overdue(rules, now);
                if inner.has(word, token) {
                    return Entry::Counted(token.unwrap_or_default());
                }
                if inner.probes.len() >= rules.max_concurrent {
                    return Entry::Refused;
                }
                inner.next_probe = inner.next_probe.wrapping_add(1).max(1);
                let token = token_of(word, u64::from(inner.next_probe));
                inner.probes.push(Probe { number: token, since: now });
                Entry::Probe(token, Permit::new(self.clone(), token))
            }
            _ => Entry::Refused,
        }
    }

    /// A try that entered with `token` has ended.
    pub fn report(&self, token: u64, judged: Judged, took: Duration, rules: &Rules, now: Nanos, wall: Duration) {
        let word = self.word.load(Acquire);
        if word << (64 - PROBE_BITS - PHASE_BITS) >> (64 - PROBE_BITS) != token >> PROBE_BITS {
            return;
        }
        let slow = judged == Judged::Good && took >= rules.slow_call;
        match word & PHASE_MASK {
            CLOSED if judged != Judged::Busy => self.count(word, judged == Judged::Failed, slow, rules, now, wall),
            HALF_OPEN => self.probed(word, token, judged, slow, rules, now, wall),
            _ => (),
        }
    }

    fn count(&self, word: u64, failed: bool, slow: bool, rules: &Rules, now: Nanos, wall: Duration) {
        self.outcomes.count(failed, slow, rules, now);
        if !failed && !slow {
            // Loading first keeps a healthy channel's line unwritten.
            if self.consecutive.load(Relaxed) != 0 {
                self.consecutive.store(0, Relaxed);
            }
            return;
        }
        let row = self.consecutive.fetch_add(1, Relaxed).saturating_add(1);
        let why = if row >= rules.consecutive_failures { Some("failures in a row") } else { self.too_many(rules, now) };
        let Some(why) = why else { return };
        let mut inner = self.inner.lock();
        if self.word.load(Acquire) == word {
            self.open(&mut inner, why, now, wall);
        }
    }

    fn too_many(&self, rules: &Rules, now: Nanos) -> Option<&'static str> {
        let counts = self.outcomes.counts(rules, now);
        let reached = |count: u32, ratio: f64| f64::from(count) >= ratio * f64::from(counts.all);
        if counts.all < rules.min_requests {
            None
        } else if counts.failed > 0 && reached(counts.failed, rules.failure_ratio) {
            Some("share of failures")
        } else {
            (counts.slow > 0 && reached(counts.slow, rules.slow_ratio)).then_some("share of slow calls")
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the facts of one result and the rules they are held against")]
    fn probed(&self, word: u64, token: u64, judged: Judged, slow: bool, rules: &Rules, now: Nanos, wall: Duration) {
        let mut inner = self.inner.lock();
        if self.word.load(Acquire) != word {
            return;
        }
        inner.probes.retain(|probe| probe.number != token);
        match judged {
            Judged::Failed => self.open(&mut inner, "a probe failed", now, wall),
            Judged::Good if slow => self.open(&mut inner, "a probe was slow", now, wall),
            Judged::Busy => (),
            Judged::Good => {
                inner.successes += 1;
                if inner.successes >= rules.successes {
                    self.close(&mut inner, CLOSED, "probes succeeded", wall);
                }
            }
        }
    }

    fn open(&self, inner: &mut Inner, why: &'static str, now: Nanos, wall: Duration) {
        inner.opened_at = now;
        inner.openings = inner.openings.saturating_add(1);
        inner.luck = luck(now);
        inner.probes.clear();
        self.change(inner, OPEN, why, wall);
    }

    fn close(&self, inner: &mut Inner, phase: u64, why: &'static str, wall: Duration) {
        inner.openings = 0;
        inner.probes.clear();
        self.consecutive.store(0, Relaxed);
        self.outcomes.clear();
        self.change(inner, phase, why, wall);
    }

    /// The only writer of the word; called under the lock.
    fn change(&self, inner: &mut Inner, phase: u64, why: &'static str, wall: Duration) -> u64 {
        let before = self.word.load(Relaxed);
        let after = ((before >> PHASE_BITS) + 1) << PHASE_BITS | phase;
        self.word.store(after, Publish);
        let event = Event { wall, from: phase_of(before), to: phase_of(after), why, by: inner.history.holder() };
        tracing::warn!(
            target: "tidegate::breaker",
            filter = &*self.filter,
            upstream = &*self.upstream,
            channel = &*self.channel,
            from = event.from.as_str(),
            to = event.to.as_str(),
            by = event.by.as_deref().unwrap_or_default(),
            why,
            "a breaker changed"
        );
        inner.history.push(event);
        after
    }

    /// Holds it open or closed, whatever results say, until [`Self::reset`]. `by`: who asked for it.
    pub fn hold(&self, phase: Held, by: &str, wall: Duration) {
        let mut inner = self.inner.lock();
        inner.history.manual = Some(Manual { by: by.into(), wall });
        match phase {
            Held::Open => {
                inner.probes.clear();
                self.change(&mut inner, HELD_OPEN, "held by an operator", wall);
            }
            Held::Closed => self.close(&mut inner, HELD_CLOSED, "held by an operator", wall),
        }
    }

    /// Closes it, forgets its results, and lets it decide for itself again.
    pub fn reset(&self, by: &str, wall: Duration) {
        let mut inner = self.inner.lock();
        inner.history.manual = Some(Manual { by: by.into(), wall });
        self.close(&mut inner, CLOSED, "reset by an operator", wall);
        inner.history.manual = None;
    }

    /// How it stands.
    #[must_use]
    pub fn view(&self, rules: &Rules, now: Nanos) -> View {
        let inner = self.inner.lock();
        let word = self.word.load(Acquire);
        let until = inner.opened_at.after(inner.open_time(rules));
        View {
            phase: phase_of(word),
            manual: inner.history.manual.clone(),
            probed_in: (word & PHASE_MASK == OPEN).then(|| until.since(now)),
            consecutive: self.consecutive.load(Relaxed),
            counts: self.outcomes.counts(rules, now),
            probes: inner.probes.len(),
            events: inner.history.events(),
        }
    }

    pub(super) fn changes(&self) -> [u64; 3] {
        self.inner.lock().history.changes
    }
}

/// What an operator can hold a breaker at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing passes.
    Open,
    /// Everything passes.
    Closed,
}

impl Inner {
    fn open_time(&self, rules: &Rules) -> Duration {
        rules.open_time(self.openings, self.luck)
    }

    fn release_overdue(&mut self, rules: &Rules, now: Nanos) {
        self.probes.retain(|probe| probe.since.after(rules.max_duration) > now);
    }

    /// Whether the probe of that token is under way in the generation of `word`.
    fn has(&self, word: u64, token: Option<u64>) -> bool {
        token.is_some_and(|token| {
            token_of(word, 0) >> PROBE_BITS == token >> PROBE_BITS
                && self.probes.iter().any(|probe| probe.number == token)
        })
    }
}

impl Release for Breaker {
    /// A probe's request is over; if it reported, there is nothing left to do.
    fn release(&self, token: u64) {
        self.inner.lock().probes.retain(|probe| probe.number != token);
    }
}

/// A number from 0 to 1 that nobody can foresee, from the nanosecond of the event (SplitMix64's finaliser).
fn luck(now: Nanos) -> f64 {
    let mut x = now.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    f64::from(u32::try_from((x ^ (x >> 31)) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}
