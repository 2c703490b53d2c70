//! Measures how the backends behind a room do, and lets [`Control`] decide how many may be admitted.
//!
//! **Method.** Channels count their tries ([`crate::channels::Vitals`]); here two readings are compared, so a request pays
//! nothing for being watched. The span reaches back until it has enough tries to judge by, one second at least and ten at
//! most, and never beyond the last time the rate was lowered: what was lowered for is not lowered for again. Of several
//! backends the one that does worst counts. While requests are on their way and not one is answered, that silence is the
//! time an answer takes.
//!
//! **Fails.** Too few tries say nothing; the rate then grows.
//!
//! **Wrong for.** Backends whose good answers take long, as long polling does: give them a `p95_target` of their own.

use std::collections::VecDeque;
use std::sync::Arc;

use super::aimd::{Aimd, Control, Health};
use crate::channels::{Reading, UpstreamFacts};

/// A reading is kept this often (milliseconds).
const STEP: u64 = 250;
const SHORTEST: u64 = 1_000;
const LONGEST: u64 = 10_000;
/// So many tries are enough not to look further back.
const ENOUGH: u64 = 40;
/// Fewer say nothing: one failure in four is no error ratio.
const FEWEST: u64 = 5;

/// One room's controller and what it knows.
#[derive(Default)]
pub(super) struct Backends {
    backends: Vec<Arc<UpstreamFacts>>,
    control: Option<Control>,
    /// Readings of each backend, the oldest first.
    readings: VecDeque<(u64, Vec<Reading>)>,
    /// By backend: ended tries when it last answered or had nothing to do, and when that was.
    heard: Vec<(u64, u64)>,
    health: Health,
    rate: Option<u32>,
}

impl Backends {
    /// Forgets the backends: a new configuration says which there are.
    pub(super) fn forget_backends(&mut self) {
        self.backends.clear();
    }

    /// Watches these as well.
    pub(super) fn watch(&mut self, upstreams: &[Arc<UpstreamFacts>]) {
        for upstream in upstreams {
            if !self.backends.iter().any(|known| known.name == upstream.name) {
                self.backends.push(upstream.clone());
            }
        }
        self.readings.clear();
        self.heard.clear();
    }

    /// How the backends did when last looked at, and the rate that followed from it.
    pub(super) fn last(&self) -> Option<(u32, Health)> {
        self.rate.map(|rate| (rate, self.health))
    }

    /// Nobody wants to know any more.
    pub(super) fn stop(&mut self) {
        (self.control, self.rate) = (None, None);
        self.readings.clear();
        self.heard.clear();
    }

    /// Admissions a minute from `now` on (milliseconds). `most` is the configured rate; `rests` says of an upstream by its
    /// name whether a breaker keeps requests away from it.
    pub(super) fn decide(
        &mut self,
        settings: &Aimd,
        most: u32,
        now: u64,
        rests: &dyn Fn(&UpstreamFacts) -> bool,
    ) -> u32 {
        let readings: Vec<Reading> = self.backends.iter().map(|upstream| read(upstream)).collect();
        self.health = self.health(&readings, now, rests);
        let control = self.control.get_or_insert_with(|| Control::new(most, now));
        let rate = control.decide(settings, most, self.health, now);
        if control.was_lowered_at(now) {
            self.readings.clear();
        }
        if self.readings.back().is_none_or(|(at, _)| now >= at + STEP) {
            self.readings.push_back((now, readings));
        }
        while self.readings.front().is_some_and(|(at, _)| at + LONGEST < now) {
            self.readings.pop_front();
        }
        self.rate = Some(rate);
        rate
    }

    fn health(&mut self, readings: &[Reading], now: u64, rests: &dyn Fn(&UpstreamFacts) -> bool) -> Health {
        let mut health = Health::default();
        self.heard.resize(readings.len(), (0, now));
        for (at, (upstream, reading)) in self.backends.iter().zip(readings).enumerate() {
            health.breaker_open |= upstream.panics() || rests(upstream);
            let (tries, heard) = &mut self.heard[at];
            let waits = upstream.channels.iter().any(|channel| channel.state.in_flight() > 0);
            if !waits || *tries != reading.tries() {
                (*tries, *heard) = (reading.tries(), now);
            }
            let silence = now.saturating_sub(*heard);
            let mut worst = (silence > 0).then_some(silence);
            let spans = self.readings.iter().rev().filter(|(since, _)| since + SHORTEST <= now);
            let mut spans = spans.map(|(_, before)| reading.since(&before[at])).peekable();
            let span = loop {
                let Some(span) = spans.next() else { break None };
                if span.tries() >= ENOUGH || spans.peek().is_none() {
                    break Some(span);
                }
            };
            if let Some(span) = span.filter(|span| span.tries() >= FEWEST) {
                let p95 = span.p95().map(|p95| u64::try_from(p95.as_millis()).unwrap_or(u64::MAX));
                worst = worst.max(p95);
                health.error_ratio = health.error_ratio.max(span.error_ratio());
            }
            health.p95 = health.p95.max(worst);
        }
        health
    }
}

fn read(upstream: &UpstreamFacts) -> Reading {
    let mut channels = upstream.channels.iter().map(|channel| channel.state.vitals.read());
    let mut sum = channels.next().unwrap_or_else(|| crate::channels::Vitals::default().read());
    channels.for_each(|more| sum.add(&more));
    sum
}
