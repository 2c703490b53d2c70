//! Random interleavings: lost answers, repetitions, messages that overtake each other, deaths of the coordinator. Money
//! is conserved after every single operation, and in the end nothing is frozen.

use proptest::prelude::*;
use rusqlite::Connection;

use super::super::coordinator::{Step, resume};
use super::super::model::{Branch, Reason, Refusal, State, Transfer};
use super::super::tcc::{self, Wanted};
use super::super::{branch, rows};
use super::{account, assert_sound, file, run};

/// Users with their files: the first two live in one, the others in the other.
const USERS: [(&str, usize); 4] = [("a", 0), ("b", 0), ("c", 1), ("d", 1)];

/// What everybody has in the beginning.
const START: i64 = 100;

/// One thing that happens to one of the transfers.
#[derive(Debug, Clone)]
enum Event {
    /// Its coordinator takes the next step and hears the answer.
    Step(usize),
    /// The step is taken, the answer is lost.
    Lose(usize),
    /// The network brings an old message again, whatever has happened since.
    Again(usize, u8, Branch),
    /// The coordinator dies; recovery takes over.
    Die(usize),
}

struct World {
    files: [Connection; 2],
    transfers: Vec<(Transfer, Step)>,
}

impl World {
    fn new(wishes: &[(usize, usize, i64)]) -> Self {
        let files = [file(), file()];
        let ids: Vec<String> = USERS.iter().map(|(user, at)| account(&files[*at], user, START)).collect();
        let mut transfers = Vec::new();
        for (n, &(from, to, amount)) in wishes.iter().enumerate() {
            let (payer, payee) = (ids[from].clone(), ids[to].clone());
            let wanted = Wanted { payer, payee, amount, idem_key: format!("k{n}") };
            let gid = format!("g{n}");
            let (_, transfer) = tcc::begin(&files[USERS[from].1], &gid, &wanted, 1, 2).expect("begun");
            transfers.push((transfer, Step::Try(Branch::Payer)));
        }
        Self { files, transfers }
    }

    fn file_of(&self, account: &str) -> &Connection {
        let here = rows::find(&self.files[0], account).expect("readable").is_some();
        &self.files[usize::from(!here)]
    }

    fn call(&self, n: usize, what: u8, half: Branch) -> Result<(), Refusal> {
        let leg = self.transfers[n].0.leg(half);
        let operation = [branch::attempt, branch::confirm, branch::cancel][usize::from(what)];
        run(self.file_of(&leg.account), |connection| operation(connection, &leg, 3))
    }

    fn decide(&self, n: usize, against: Option<Reason>) -> Step {
        let transfer = &self.transfers[n].0;
        let home = self.file_of(&transfer.payer);
        run(home, |connection| tcc::decide(connection, &transfer.gid, against, 3, 3)).expect("decided");
        resume(self.state(n))
    }

    fn state(&self, n: usize) -> State {
        let transfer = &self.transfers[n].0;
        tcc::get(self.file_of(&transfer.payer), &transfer.gid).expect("known").state
    }

    /// The next step of a coordinator, as the real one takes it.
    fn advance(&self, n: usize, step: Step) -> Step {
        match step {
            Step::Try(half) => match (self.call(n, 0, half), half) {
                (Ok(()), Branch::Payer) => Step::Try(Branch::Payee),
                (Ok(()), Branch::Payee) => Step::Agree,
                (Err(refusal), _) => Step::GiveUp(refusal.reason().expect("a reason")),
            },
            Step::Agree => self.decide(n, None),
            Step::GiveUp(reason) => self.decide(n, Some(reason)),
            Step::Confirm(half) => {
                self.call(n, 1, half).expect("a confirm never fails");
                if half == Branch::Payer { Step::Confirm(Branch::Payee) } else { Step::Finish }
            }
            Step::Cancel(half) => {
                self.call(n, 2, half).expect("a cancel never fails");
                if half == Branch::Payer { Step::Cancel(Branch::Payee) } else { Step::Finish }
            }
            Step::Finish => {
                let transfer = &self.transfers[n].0;
                run(self.file_of(&transfer.payer), |connection| tcc::finish(connection, &transfer.gid, 4))
                    .expect("ended");
                Step::Done
            }
            Step::Done => Step::Done,
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Step(n) => self.transfers[n].1 = self.advance(n, self.transfers[n].1),
            Event::Lose(n) => {
                let step = self.transfers[n].1;
                self.advance(n, step);
                // Unknown is not failed: what may have been tried is cancelled, what is decided is repeated.
                if matches!(step, Step::Try(_)) {
                    self.transfers[n].1 = Step::GiveUp(Reason::BranchUnknown);
                }
            }
            Event::Again(n, what, half) => {
                // Only messages that were sent can come again.
                let state = self.state(n);
                let confirming = matches!(state, State::Confirming | State::Confirmed);
                let cancelling = matches!(state, State::Cancelling | State::Cancelled);
                if what == 0 || (what == 1 && confirming) || (what == 2 && cancelling) {
                    // A refusal is an answer to nobody.
                    let _ = self.call(n, what, half);
                }
            }
            Event::Die(n) => self.transfers[n].1 = resume(self.state(n)),
        }
    }

    /// All money: what can be spent, what is frozen, and what has left its payer and not yet arrived.
    fn money(&self) -> i64 {
        let sum = |sql: &str| -> i64 {
            self.files.iter().map(|file| file.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a sum")).sum()
        };
        let booked = |kind: &str| sum(&format!("SELECT coalesce(sum(amount), 0) FROM ledger WHERE kind = '{kind}'"));
        sum("SELECT sum(available + frozen) FROM accounts") + booked("DEBIT") - booked("CREDIT")
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.money(), START * 4);
        self.files.iter().for_each(assert_sound);
        Ok(())
    }
}

fn branches() -> impl Strategy<Value = Branch> {
    prop_oneof![Just(Branch::Payer), Just(Branch::Payee)]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3_usize).prop_map(Event::Step),
        2 => (0..3_usize).prop_map(Event::Lose),
        3 => (0..3_usize, 0..3_u8, branches()).prop_map(|(n, what, half)| Event::Again(n, what, half)),
        1 => (0..3_usize).prop_map(Event::Die),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_makes_or_loses_money(
        wishes in prop::collection::vec((0..4_usize, 1..4_usize, 1..130_i64), 3),
        events in prop::collection::vec(events(), 0..60),
    ) {
        let wishes: Vec<_> = wishes.into_iter().map(|(from, by, amount)| (from, (from + by) % 4, amount)).collect();
        let mut world = World::new(&wishes);
        for event in &events {
            world.happen(event);
            world.check()?;
        }
        for n in 0..3 {
            world.happen(&Event::Die(n));
            while world.transfers[n].1 != Step::Done {
                world.happen(&Event::Step(n));
                world.check()?;
            }
            prop_assert!(matches!(world.state(n), State::Confirmed | State::Cancelled));
        }
        let open: i64 = world.files.iter().map(|file| {
            file.query_row("SELECT sum(frozen + incoming) FROM accounts", [], |row| row.get::<_, i64>(0)).expect("a sum")
        }).sum();
        prop_assert_eq!(open, 0);
    }
}
