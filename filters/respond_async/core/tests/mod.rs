//! The core on a stopped clock.

mod channels;
mod ends;
mod fairness;
mod holding;
mod leaving;
mod pacing;
mod room;

use std::collections::HashMap;
use std::time::Duration;

use super::{Book, Class, Entry, Id, Retries, Rules, Shed, State, millis};
use crate::engine::Rate;

/// The moment tests begin, since 1970.
const START: Duration = Duration::from_secs(1_000_000);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn rules(rate: &str) -> Rules {
    let rate: Rate = rate.parse().unwrap();
    Rules {
        max_records: 1_000_000,
        max_bytes: 1 << 40,
        max_per_identity: 1_000_000,
        shed: Shed::RejectNew,
        rate,
        max_in_flight: 1_000_000,
        slow_call: Duration::from_secs(3),
        ageing: Duration::from_secs(5),
        retries: Retries {
            quick: 4,
            initial: Duration::from_secs(1),
            factor_percent: 200,
            late: 3,
            every: Duration::from_secs(60),
        },
        idempotent: false,
        weights: HashMap::new(),
    }
}

fn entry(seq: i64, class: Class, party: u64, at: Duration) -> Entry {
    Entry {
        seq,
        id: Id(seq.unsigned_abs().into()),
        owner: party.into(),
        party,
        class,
        lane: 0,
        state: State::Queued,
        tries: 0,
        doubt: false,
        looks: 0,
        version: 1,
        size: 100,
        created: millis(at),
        due: 0,
        expires: millis(at) + 900_000,
    }
}

/// A book with one lane.
fn book(rules: Rules) -> Book {
    let mut book = Book::new(rules);
    assert_eq!(book.lane("pay"), 0);
    book
}

fn join(book: &mut Book, seq: i64, class: Class, party: u64, at: Duration) {
    let seat = book.reserve(class, party, 100, 0, at).unwrap();
    book.insert(seat, entry(seq, class, party, at));
}
