//! Whatever visitors, operators, disks and clocks do: nobody is let in too many, and nobody gets another's number.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use proptest::prelude::*;

use super::support::{Bench, START};
use crate::waiting_room::rules::{Method, Missed, Rules};
use crate::waiting_room::{Admission, Claim, Entry, Visitor};

#[derive(Clone, Debug)]
enum Step {
    Enter { subject: u8, steady: bool },
    Poll(usize),
    Claim(usize),
    Visit(usize),
    Leave(usize),
    End(usize),
    Pass(u64),
    Limits { total: u32, rate: u32 },
    Kill { clock: i64 },
    Disk { broken: bool },
    SoldOut(bool),
    Gone(bool),
    Backend(Option<u32>),
    Extend(usize, u64),
    Restock(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..12, any::<bool>()).prop_map(|(subject, steady)| Step::Enter { subject, steady }),
        8 => (0usize..64).prop_map(Step::Poll),
        3 => (0usize..64).prop_map(Step::Claim),
        4 => (0usize..64).prop_map(Step::Visit),
        1 => (0usize..64).prop_map(Step::Leave),
        1 => (0usize..64).prop_map(Step::End),
        6 => (1u64..900).prop_map(Step::Pass),
        2 => (1_000u64..90_000).prop_map(Step::Pass),
        1 => (1u32..=MOST, 1u32..=RATE).prop_map(|(total, rate)| Step::Limits { total, rate }),
        1 => (-100_000i64..100_000).prop_map(|clock| Step::Kill { clock }),
        1 => any::<bool>().prop_map(|broken| Step::Disk { broken }),
        1 => any::<bool>().prop_map(Step::SoldOut),
        1 => any::<bool>().prop_map(Step::Gone),
        1 => prop::option::of(1u32..=RATE).prop_map(Step::Backend),
        1 => (0usize..64, 1u64..300).prop_map(|(at, seconds)| Step::Extend(at, seconds)),
        1 => (1u64..5).prop_map(Step::Restock),
    ]
}

const MOST: u32 = 6;
const RATE: u32 = 10;

/// What all visitors together know.
struct World {
    bench: Bench,
    rules: Rules,
    /// Numbers in line, with their owners.
    tickets: Vec<(u64, u64)>,
    /// Passes, as the clients hold them.
    passes: HashMap<u64, (Admission, u64, u64)>,
    given: HashSet<u64>,
    /// Subjects by number, to see that one person has one number.
    owners: HashMap<u64, u64>,
    admissions: Vec<u64>,
    /// An operator, and the backend, say that nothing is left.
    over: [bool; 2],
    counted: HashSet<u64>,
    frontier: u64,
    /// Whether the room's outlook is of this moment.
    ticked: bool,
    killed: bool,
}

impl World {
    fn new(rules: Rules) -> Self {
        Self {
            bench: Bench::new(rules.clone()),
            rules,
            tickets: Vec::new(),
            passes: HashMap::new(),
            given: HashSet::new(),
            owners: HashMap::new(),
            admissions: Vec::new(),
            over: [false; 2],
            counted: HashSet::new(),
            frontier: 0,
            ticked: false,
            killed: false,
        }
    }

    fn subject(&self, who: u8) -> u64 {
        // Half of all are nobody in particular.
        if who < 6 { 0 } else { u64::from(who) }
    }

    fn number(&mut self, number: u64, subject: u64) {
        // Who is known by name gets the same number again, also where a kill undid that they left.
        let again = subject != 0 && self.owners.insert(number, subject) == Some(subject);
        assert!(self.given.insert(number) || again, "{number} was given twice");
        if !self.tickets.contains(&(number, subject)) && !self.passes.contains_key(&number) {
            self.tickets.push((number, subject));
        }
    }

    fn pass(&mut self, pass: Admission, subject: u64) {
        self.given.insert(pass.number);
        self.tickets.retain(|(number, _)| *number != pass.number);
        self.passes.insert(pass.number, (pass, self.bench.now, subject));
        if self.counted.insert(pass.number) {
            self.admissions.push(self.bench.now);
            let now = self.bench.now;
            let minute = self.admissions.iter().filter(|at| **at + 60_000 > now).count();
            assert!(minute <= RATE as usize, "{minute} in a minute");
            let (all, cap) = (self.admissions.len() as u64, self.rules.admission_cap);
            assert!(cap.is_none_or(|cap| all <= cap), "{all} in all, of {cap:?}");
        }
    }

    fn run(&mut self, step: Step) {
        let now = self.bench.now;
        let ticks = matches!(step, Step::Pass(_) | Step::SoldOut(_) | Step::Gone(_));
        match step {
            Step::Enter { subject, steady } => {
                let subject = self.subject(subject);
                let visitor = Visitor { subject, steady: steady || subject != 0 };
                let before = self.given.len();
                match self.bench.room.enter(now, visitor) {
                    Entry::Pass(pass) => {
                        let (outlook, known) = (self.bench.room.outlook(), self.given.contains(&pass.number));
                        let barged = self.ticked && !known && outlook.waiting + outlook.ready > 0;
                        assert!(!barged, "{} walked in past {outlook:?}", pass.number);
                        self.pass(pass, subject);
                    }
                    Entry::Place(number) | Entry::Registered(number) => self.number(number, subject),
                    Entry::Pre | Entry::Busy | Entry::Rejected(_) => (),
                }
                assert!(self.over == [false; 2] || self.given.len() == before, "a number although nothing is left");
            }
            Step::Poll(at) => {
                if let Some((number, subject)) = pick(&self.tickets, at) {
                    let claim = self.bench.room.poll(now, number, subject);
                    self.claimed(number, subject, claim.unwrap_or(Claim::Wait(number)));
                }
            }
            Step::Claim(at) => {
                if let Some((number, subject)) = pick(&self.tickets, at) {
                    let claim = self.bench.room.claim(now, number, subject);
                    self.claimed(number, subject, claim);
                    if matches!(claim, Claim::Pass(_)) {
                        assert_eq!(self.bench.room.claim(now, number, subject), claim, "twice is once");
                    }
                }
            }
            Step::Visit(at) => {
                let Some((pass, issued, subject)) = self.some_pass(at) else { return };
                match self.bench.room.visit(now, pass.number, subject, issued, pass.until) {
                    Some(renewed) => drop(self.passes.insert(pass.number, (renewed, now, subject))),
                    None => {
                        // A clock that was set back over a kill makes it look as if this process had never given it.
                        let strange = issued > self.bench.room.began() && self.killed;
                        let over = pass.until <= now || strange;
                        assert!(over, "{} was let in until {} and sent away", pass.number, pass.until);
                        self.passes.remove(&pass.number);
                    }
                }
            }
            Step::Leave(at) => {
                if let Some((number, subject)) = pick(&self.tickets, at) {
                    self.bench.room.leave(now, number);
                    assert_eq!(self.bench.room.claim(now, number, subject), Claim::Gone);
                    self.tickets.retain(|(other, _)| *other != number);
                }
            }
            Step::End(at) => {
                let Some((pass, ..)) = self.some_pass(at) else { return };
                self.bench.room.end(pass.number);
                self.passes.remove(&pass.number);
                // Told to the disk at the next tick; a kill before it would be no lie to anybody.
                self.bench.pass(100);
            }
            Step::Pass(span) => self.bench.pass(span),
            Step::Limits { total, rate } => {
                (self.rules.limits.total_active_users, self.rules.limits.new_users_per_minute) = (total, rate);
                self.bench.set_rules(self.rules.clone());
            }
            Step::Kill { clock } => self.kill(clock),
            Step::Disk { broken } => self.bench.disk.broken.store(broken, Relaxed),
            Step::SoldOut(over) => {
                self.bench.room.set_sold_out(over);
                self.over = [over, self.over[1] && over];
                // Written down, so that a kill does not undo it; a broken disk would.
                self.bench.disk.broken.store(false, Relaxed);
                self.bench.pass(200);
            }
            Step::Gone(gone) => {
                self.bench.room.set_stock(gone.then_some(0));
                self.over[1] = gone;
                self.bench.disk.broken.store(false, Relaxed);
                self.bench.pass(200);
            }
            Step::Backend(rate) => self.bench.room.set_backend_rate(rate),
            Step::Extend(at, seconds) => {
                let Some((pass, issued, subject)) = self.some_pass(at) else { return };
                if let Some(longer) = self.bench.room.extend(now, pass.number, Duration::from_secs(seconds)) {
                    self.passes.insert(pass.number, (longer, issued, subject));
                }
            }
            Step::Restock(more) => {
                self.rules.admission_cap = self.rules.admission_cap.map(|cap| cap + more);
                self.bench.set_rules(self.rules.clone());
            }
        }
        self.ticked = ticks;
        self.check();
    }

    fn some_pass(&self, at: usize) -> Option<(Admission, u64, u64)> {
        let mut numbers: Vec<u64> = self.passes.keys().copied().collect();
        numbers.sort_unstable();
        numbers.get(at % numbers.len().max(1)).map(|number| self.passes[number])
    }

    /// Whether somebody who is known by name holds this number, too: from before a kill, or for a turn that they missed.
    fn owns(&self, number: u64, subject: u64) -> bool {
        let inside = self.passes.get(&number).is_some_and(|held| held.2 == subject);
        subject != 0 && (inside || self.tickets.contains(&(number, subject)))
    }

    fn claimed(&mut self, number: u64, subject: u64, claim: Claim) {
        match claim {
            Claim::Pass(pass) => {
                assert!(pass.number == number || self.owns(pass.number, subject), "{number} is {}", pass.number);
                let (outlook, fifo) = (self.bench.room.outlook(), self.rules.limits.method == Method::Fifo);
                assert!(!fifo || number <= outlook.frontier, "{number} came in before its turn");
                self.pass(pass, subject);
            }
            Claim::Wait(other) => assert!(other == number || self.owns(other, subject), "{number} waits as {other}"),
            Claim::Moved(other) => {
                // The answer may be lost.
                let again = self.bench.room.claim(self.bench.now, number, subject);
                assert_eq!(again, Claim::Wait(other), "the old number is known as the new one");
                self.tickets.retain(|(ticket, _)| *ticket != number);
                self.number(other, subject);
            }
            Claim::Gone => self.tickets.retain(|(ticket, _)| *ticket != number),
        }
    }

    fn kill(&mut self, clock: i64) {
        self.killed = true;
        let wall = self.bench.now.saturating_add_signed(clock);
        let fresh = Bench::new(self.rules.clone());
        let bench = std::mem::replace(&mut self.bench, fresh);
        let before = bench.now;
        self.bench = bench.kill(wall);
        // The last tick's time at the latest: room time may go back by less than what was not yet told to the disk.
        assert!(self.bench.now + 200_000 > before);
        let now = self.bench.now;
        self.admissions.iter_mut().for_each(|at| *at = (*at).min(now));
    }

    /// When all trouble is over, everybody who keeps looking gets an answer.
    fn settle(&mut self) {
        self.bench.disk.broken.store(false, Relaxed);
        self.bench.room.set_sold_out(false);
        self.bench.room.set_backend_rate(None);
        (self.over, self.rules.limits.total_active_users) = ([false; 2], MOST);
        (self.rules.limits.new_users_per_minute, self.rules.admission_cap) = (RATE, None);
        self.bench.set_rules(self.rules.clone());
        for _ in 0..600 {
            if self.tickets.is_empty() {
                return;
            }
            self.bench.pass(1_500);
            let now = self.bench.now;
            for (number, subject) in self.tickets.clone() {
                let claim = self.bench.room.poll(now, number, subject);
                self.claimed(number, subject, claim.unwrap_or(Claim::Wait(number)));
            }
            for number in std::mem::take(&mut self.passes).into_keys() {
                self.bench.room.end(number);
            }
        }
        panic!("{:?} wait for ever, at {:?}", self.tickets, self.bench.room.outlook());
    }

    fn check(&mut self) {
        let outlook = self.bench.room.outlook();
        assert!(outlook.frontier >= self.frontier, "a turn that was told is taken back");
        assert!(outlook.active + outlook.ready <= u64::from(MOST), "{outlook:?}");
        self.frontier = outlook.frontier;
        let inside = self.passes.values().filter(|(pass, ..)| pass.until > self.bench.now).count();
        assert!(inside <= MOST as usize, "{inside} are inside");
        let proof = self.bench.room.outlook().proof;
        assert_eq!((proof.inversions, proof.overshoot), (0, 0), "the room itself says so");
    }
}

fn pick<T: Copy>(of: &[T], at: usize) -> Option<T> {
    of.get(at % of.len().max(1)).copied()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_let_in_too_many_and_no_number_is_given_twice(
        total in 1u32..=MOST, rate in 1u32..=RATE, random: bool, missed in 0usize..3,
        session in prop_oneof![Just(3_000u64), Just(120_000)], cap in prop::option::of(1u64..40),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut rules = Rules::new(total, rate, session);
        rules.admission_cap = cap;
        rules.limits.method = if random { Method::Random } else { Method::Fifo };
        rules.missed = [Missed::Front, Missed::Back, Missed::Expire][missed];
        let mut world = World::new(rules);
        for step in steps {
            world.run(step);
        }
        world.settle();
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn turns_come_in_the_order_of_numbers_for_all_who_look(
        total in 1u32..20, faithful in prop::collection::vec(any::<bool>(), 1..80), stay in 1_000u64..8_000,
        kill_at in 0u64..200_000,
    ) {
        let mut bench = Bench::new(Rules::new(total, 6_000, 300_000));
        let mut waiting = Vec::new();
        for faithful in faithful {
            match bench.room.enter(bench.now, Visitor { subject: 0, steady: true }) {
                Entry::Place(number) if faithful => waiting.push(number),
                Entry::Pass(_) | Entry::Place(_) => (),
                other => prop_assert!(false, "{:?}", other),
            }
            bench.pass(50);
        }
        bench.pass(100);
        let (mut inside, mut order) = (Vec::new(), Vec::new());
        let mut killed = false;
        for _ in 0..1_000 {
            if waiting.is_empty() {
                break;
            }
            bench.pass(1_500);
            if !killed && bench.now > START + kill_at {
                killed = true;
                let wall = bench.now;
                bench = bench.kill(wall);
            }
            let mut came = Vec::new();
            for number in &waiting {
                match bench.room.poll(bench.now, *number, 0) {
                    Some(Claim::Pass(pass)) => came.push(pass.number),
                    None => (),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            waiting.retain(|number| !came.contains(number));
            inside.extend(came.iter().map(|number| (*number, bench.now + stay)));
            order.extend(came);
            for (number, _) in inside.iter().filter(|(_, until)| *until <= bench.now) {
                bench.room.end(*number);
            }
            inside.retain(|(_, until)| *until > bench.now);
        }
        prop_assert!(waiting.is_empty(), "{:?} still wait", waiting);
        prop_assert!(order.is_sorted(), "{:?}", order);
    }
}
