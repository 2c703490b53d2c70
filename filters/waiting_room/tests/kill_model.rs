//! Kills at the worst moments, again and again: what visitors were told, held against the limits.
//!
//! Unlike in the wider model nothing is tidied up before a kill: what was decided may be on its way to the disk, people who
//! were sent away or have left try again with what they hold, and nobody waits for a tick.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::support::Bench;
use crate::waiting_room::rules::{Missed, Rules};
use crate::waiting_room::{Admission, Claim, Entry, Visitor};

#[derive(Clone, Debug)]
enum Step {
    Enter {
        steady: bool,
    },
    Claim(usize),
    /// Somebody comes in, and the process is killed before that is written down.
    ClaimAndKill(usize),
    Visit(usize),
    Leave(usize),
    End(usize),
    Pass(u64),
    Disk {
        broken: bool,
    },
    Kill {
        down: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<bool>().prop_map(|steady| Step::Enter { steady }),
        8 => (0usize..8).prop_map(Step::Claim),
        4 => (0usize..8).prop_map(Step::ClaimAndKill),
        6 => (0usize..32).prop_map(Step::Visit),
        2 => (0usize..32).prop_map(Step::Leave),
        3 => (0usize..32).prop_map(Step::End),
        6 => (1u64..300).prop_map(Step::Pass),
        3 => (1_000u64..20_000).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(|broken| Step::Disk { broken }),
        5 => prop_oneof![Just(0u64), 1u64..30_000].prop_map(|down| Step::Kill { down }),
    ]
}

/// A pass as its holder has it.
#[derive(Clone, Copy)]
struct Held {
    pass: Admission,
    issued: u64,
    /// Its holder was sent away, or went.
    over: bool,
}

struct World {
    bench: Bench,
    rules: Rules,
    tickets: Vec<u64>,
    passes: HashMap<u64, Held>,
    /// When each was let in for the first time.
    admitted: HashMap<u64, u64>,
}

impl World {
    fn told(&mut self, pass: Admission) {
        let now = self.bench.now;
        self.passes.insert(pass.number, Held { pass, issued: now, over: false });
        self.admitted.entry(pass.number).or_insert(now);
        let limits = self.rules.limits;
        let inside = self.passes.values().filter(|held| !held.over && held.pass.until > now).count();
        assert!(inside <= limits.total_active_users as usize, "{inside} are inside");
        let minute = self.admitted.values().filter(|at| **at + 60_000 > now).count();
        assert!(minute <= limits.new_users_per_minute as usize, "{minute} in a minute");
    }

    fn some(&self, at: usize) -> Option<Held> {
        let mut numbers: Vec<u64> = self.passes.keys().copied().collect();
        numbers.sort_unstable();
        numbers.get(at % numbers.len().max(1)).map(|number| self.passes[number])
    }

    fn run(&mut self, step: Step) {
        let now = self.bench.now;
        match step {
            Step::Enter { steady } => match self.bench.room.enter(now, Visitor { subject: 0, steady }) {
                Entry::Pass(pass) => self.told(pass),
                Entry::Place(number) | Entry::Registered(number) => self.tickets.push(number),
                Entry::Pre | Entry::Busy | Entry::Rejected(_) => (),
            },
            Step::Claim(at) => {
                let Some(number) = self.tickets.get(at % self.tickets.len().max(1)) else { return };
                match self.bench.room.claim(now, *number, 0) {
                    Claim::Pass(pass) => self.told(pass),
                    Claim::Moved(other) => self.tickets.push(other),
                    Claim::Wait(_) | Claim::Gone => (),
                }
            }
            Step::ClaimAndKill(at) => {
                self.run(Step::Claim(at));
                self.run(Step::Kill { down: 0 });
            }
            Step::Visit(at) => {
                let Some(held) = self.some(at) else { return };
                match self.bench.room.visit(now, held.pass.number, 0, held.issued, held.pass.until) {
                    Some(pass) => self.told(pass),
                    None => drop(self.passes.remove(&held.pass.number)),
                }
            }
            Step::Leave(at) => {
                let Some(number) = self.tickets.get(at % self.tickets.len().max(1)).copied() else { return };
                self.bench.room.leave(now, number);
                self.passes.entry(number).and_modify(|held| held.over = true);
            }
            Step::End(at) => {
                let Some(held) = self.some(at) else { return };
                self.bench.room.end(held.pass.number);
                self.passes.entry(held.pass.number).and_modify(|held| held.over = true);
            }
            Step::Pass(span) => self.bench.pass(span),
            Step::Disk { broken } => self.bench.disk.broken.store(broken, Relaxed),
            Step::Kill { down } => {
                let wall = self.bench.now + down;
                let fresh = Bench::new(self.rules.clone());
                self.bench = std::mem::replace(&mut self.bench, fresh).kill(wall);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_kills_lets_in_more_than_may_be_inside_or_come_in_a_minute(
        total in 1u32..=3, rate in prop_oneof![1u32..=8, Just(600)], renewal: bool, missed in 0usize..3,
        session in prop_oneof![Just(3_000u64), Just(20_000), Just(300_000)],
        claim_window in prop_oneof![Just(2_000u64), Just(60_000)],
        steps in prop::collection::vec(step(), 1..100),
    ) {
        let mut rules = Rules { claim_window, ..Rules::new(total, rate, session) };
        rules.limits.renewal = renewal;
        rules.missed = [Missed::Front, Missed::Back, Missed::Expire][missed];
        let bench = Bench::new(rules.clone());
        let mut world =
            World { bench, rules, tickets: Vec::new(), passes: HashMap::new(), admitted: HashMap::new() };
        for step in steps {
            world.run(step);
        }
    }
}
