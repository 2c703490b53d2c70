//! Virtual visitors against a real room: the same machine as in the gateway, under a clock that runs as fast as it can.
//!
//! Visitors poll when they are told to, enter when it is their turn, and stay for their think time. Who leaves does so
//! without a word, after a wait drawn from an exponential distribution with a mean of a minute.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use super::draw;
use super::keys::Keyring;
use super::line::{Claim, Entry, Visitor};
use super::record::{Forgetful, History};
use super::room::{Opening, Room};
use super::rules::Rules;
use super::settings::Settings;
use crate::engine::Nanos;

const TICK: u64 = 100;
const MEAN_PATIENCE: f64 = 60_000.0;
/// Being admitted this much later than somebody behind is being overtaken; less is the time between two polls.
const OVERTAKEN: u64 = 5_000;
/// A simulation ends this long after the last arrival at the latest.
const LONGEST: u64 = 7 * 86_400_000;

/// A visitor to come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When, in milliseconds from the beginning.
    pub at: u64,
    /// How likely it leaves while it waits (0 to 1).
    pub leave: f64,
    /// How long it stays inside, in milliseconds.
    pub think: u64,
    /// Whether it brings back what it is given; a bot that does not asks once a second, sixty times.
    pub keeps_cookies: bool,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Visitors admitted; those who never brought their pass back not counted.
    pub admitted: u64,
    /// The same, a minute, from the first to the last.
    pub per_minute: f64,
    /// The most passes given in any 60 seconds.
    pub most_in_a_minute: u64,
    /// The most inside at once.
    pub most_inside: u64,
    /// Visitors who left while they waited.
    pub left: u64,
    /// Visitors who got no place.
    pub refused: u64,
    /// Passes taken by visitors without cookies.
    pub passes_of_bots: u64,
    /// Numbers taken by visitors without cookies.
    pub numbers_of_bots: u64,
    /// Median wait in milliseconds.
    pub wait_p50: u64,
    /// Wait of the unluckiest in a hundred.
    pub wait_p99: u64,
    /// The most that waited at once.
    pub longest_line: u64,
    /// Turns that came before a lower number's. Only a line by chance has any.
    pub inversions: u64,
    /// Visitors who entered well after somebody with a higher number.
    pub overtaken: u64,
    /// Median of the relative errors of the first wait that each visitor was told.
    pub eta_error: f64,
    /// Looks of those who waited.
    pub polls: u64,
}

#[derive(Clone, Copy, Default)]
struct Guest {
    number: Option<u64>,
    came: u64,
    leaves: Option<u64>,
    told: Option<(u64, f64)>,
    tries: u32,
    inside: bool,
}

struct World<'a> {
    room: Room,
    arrivals: &'a [Arrival],
    guests: Vec<Guest>,
    /// What happens next: moment, visitor.
    agenda: BinaryHeap<Reverse<(u64, usize)>>,
    start: u64,
    chance: u64,
    passes: Vec<u64>,
    /// Number and moment of each admission from the line.
    entered: Vec<(u64, u64)>,
    waits: Vec<u64>,
    errors: Vec<f64>,
    report: Report,
}

/// Lets these visitors come to a room with these rules. The same seed gives the same report.
#[must_use]
pub fn simulate(rules: &Rules, arrivals: &[Arrival], seed: u64) -> Report {
    let start = 1_700_000_000_000;
    let settings = Settings::new("simulation", rules.clone(), Arc::new(Keyring::new(&[])));
    let room = Room::open(Opening {
        name: "simulation".into(),
        seed: [seed.to_le_bytes()[0]; 32],
        settings: Arc::new(settings),
        journal: Box::new(Forgetful),
        history: History::default(),
        epoch: Duration::from_millis(start),
        now: Nanos(0),
    });
    let agenda = arrivals.iter().enumerate().map(|(who, arrival)| Reverse((start + arrival.at, who))).collect();
    let mut world = World {
        room,
        arrivals,
        guests: vec![Guest::default(); arrivals.len()],
        agenda,
        start,
        chance: seed,
        passes: Vec::new(),
        entered: Vec::new(),
        waits: Vec::new(),
        errors: Vec::new(),
        report: Report::default(),
    };
    world.run();
    world.finish()
}

impl World<'_> {
    fn run(&mut self) {
        let last = self.arrivals.iter().map(|arrival| arrival.at).max().unwrap_or(0);
        let end = self.start + last + LONGEST;
        let mut tick = self.start;
        while let Some(Reverse((at, who))) = self.agenda.pop() {
            if at > end {
                break;
            }
            // Nothing can happen in a long silence that a few ticks do not bring about.
            tick = tick.max(at.saturating_sub(60_000) / TICK * TICK);
            while tick + TICK <= at {
                tick += TICK;
                self.room.maintain(|| tick);
                let outlook = self.room.outlook_now();
                self.report.longest_line = self.report.longest_line.max(outlook.waiting);
                self.report.most_inside = self.report.most_inside.max(outlook.active + outlook.ready);
            }
            self.meet(at, who);
        }
    }

    fn meet(&mut self, now: u64, who: usize) {
        let guest = self.guests[who];
        if guest.inside {
            if let Some(number) = guest.number {
                self.room.leave(now, number);
            }
            return;
        }
        match guest.number {
            Some(number) if guest.leaves.is_some_and(|leaves| leaves <= now) => {
                // Without a word: the room has to find out.
                let _ = number;
                self.report.left += 1;
            }
            Some(number) => self.look(now, who, number),
            None => self.come(now, who),
        }
    }

    fn come(&mut self, now: u64, who: usize) {
        let arrival = self.arrivals[who];
        let guest = &mut self.guests[who];
        if guest.tries == 0 {
            guest.came = now;
        }
        guest.tries += 1;
        let tries = guest.tries;
        let steady = arrival.keeps_cookies && tries > 1;
        match self.room.enter(now, Visitor { subject: 0, steady }) {
            Entry::Pass(pass) if arrival.keeps_cookies => {
                // The pass is brought back with the next request of the same page.
                self.room.visit(now, pass.number, 0, now, pass.until);
                self.admit(now, who, pass.number);
            }
            Entry::Pass(_) => {
                self.report.passes_of_bots += 1;
                self.passes.push(now);
                self.come_again(now, who, tries);
            }
            Entry::Place(number) | Entry::Registered(number) => {
                self.report.numbers_of_bots += u64::from(!arrival.keeps_cookies);
                let leaves = self.random() < arrival.leave;
                let patience = -MEAN_PATIENCE * (1.0 - self.random()).ln();
                let guest = &mut self.guests[who];
                guest.number = Some(number);
                guest.leaves = leaves.then_some(guest.came + patience as u64);
                self.look_again(now, who, number);
            }
            Entry::Pre | Entry::Busy => self.come_again(now, who, tries),
            Entry::Rejected(_) => self.report.refused += 1,
        }
    }

    fn come_again(&mut self, now: u64, who: usize, tries: u32) {
        if self.arrivals[who].keeps_cookies || tries < 60 {
            self.agenda.push(Reverse((now + 1_000, who)));
        }
    }

    fn look(&mut self, now: u64, who: usize, number: u64) {
        self.report.polls += 1;
        match self.room.poll(now, number, 0) {
            Some(Claim::Pass(pass)) => {
                self.report.inversions += u64::from(pass.number > self.room.outlook_now().frontier);
                self.entered.push((number, now));
                if let Some((told, wait)) = self.guests[who].told {
                    let real = (now - told) as f64 / 1_000.0;
                    self.errors.push((real - wait).abs() / real.max(10.0));
                }
                self.admit(now, who, pass.number);
            }
            Some(Claim::Wait(other) | Claim::Moved(other)) => {
                self.guests[who].number = Some(other);
                self.look_again(now, who, other);
            }
            Some(Claim::Gone) => self.report.refused += 1,
            None => self.look_again(now, who, number),
        }
    }

    fn look_again(&mut self, now: u64, who: usize, number: u64) {
        let spread = self.random();
        let outlook = self.room.outlook_now();
        let ahead = self.room.ahead(&outlook, number);
        if self.guests[who].told.is_none() {
            self.guests[who].told = outlook.estimate(ahead).map(|estimate| (now, estimate.expected));
        }
        let after = outlook.poll_after(ahead, spread);
        self.agenda.push(Reverse((now + after, who)));
    }

    fn admit(&mut self, now: u64, who: usize, number: u64) {
        let guest = &mut self.guests[who];
        guest.inside = true;
        guest.number = Some(number);
        self.waits.push(now - guest.came);
        self.passes.push(now);
        self.agenda.push(Reverse((now + self.arrivals[who].think, who)));
    }

    /// From 0 to 1, the same in every run with the same seed.
    fn random(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(1);
        draw::stamp(&[7; 32], b"simulation", &self.chance.to_be_bytes()) as f64 / u64::MAX as f64
    }

    fn finish(mut self) -> Report {
        self.passes.sort_unstable();
        let mut oldest = 0;
        for (at, pass) in self.passes.iter().enumerate() {
            while self.passes[oldest] + 60_000 <= *pass {
                oldest += 1;
            }
            self.report.most_in_a_minute = self.report.most_in_a_minute.max((at - oldest + 1) as u64);
        }
        let span = self.passes.last().zip(self.passes.first()).map_or(0, |(last, first)| last - first);
        self.report.admitted = self.waits.len() as u64;
        self.report.per_minute = self.passes.len() as f64 * 60_000.0 / span.max(60_000) as f64;
        self.waits.sort_unstable();
        let at = |share: f64| self.waits.get((self.waits.len() as f64 * share) as usize).copied().unwrap_or(0);
        (self.report.wait_p50, self.report.wait_p99) = (at(0.5), at(0.99));
        self.errors.sort_by(f64::total_cmp);
        self.report.eta_error = self.errors.get(self.errors.len() / 2).copied().unwrap_or(0.0);
        self.entered.sort_unstable();
        let mut first_behind = u64::MAX;
        for (_, entered) in self.entered.iter().rev() {
            self.report.overtaken += u64::from(first_behind.saturating_add(OVERTAKEN) < *entered);
            first_behind = first_behind.min(*entered);
        }
        self.report
    }
}
