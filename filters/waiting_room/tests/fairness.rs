//! What is published of a draw lets everybody who takes part check it.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::support::{Bench, START};
use crate::waiting_room::document::{Standing, status};
use crate::waiting_room::rules::{Event, Overrides, Rules};
use crate::waiting_room::{Claim, Entry, Visitor, draw};

fn told(bench: &Bench) -> Value {
    let document = status(&bench.room, Standing::Pre, 0.0).to_json();
    serde_json::from_str::<Value>(&document).unwrap()["fairness"].clone()
}

fn bytes(hex: &Value) -> [u8; 32] {
    let hex = hex.as_str().expect("hexadecimal digits");
    let digits = (0..64).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
    digits.collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn the_draw_is_bound_before_it_and_can_be_recomputed_after_it_also_over_a_kill() {
    let (prequeue, start, end) = (Some(START + 1_000), START + 10_000, START + 900_000);
    let event = Event { name: "drop".to_owned(), prequeue, start, end, shuffle: true, overrides: Overrides::default() };
    let mut bench = Bench::new(Rules { events: vec![event], ..Rules::new(1, 60, 300_000) });
    assert_eq!(told(&bench), serde_json::json!({ "method": "fifo" }));
    bench.pass(2_000);
    let registered: Vec<u64> = (0..40)
        .map(|_| match bench.room.enter(bench.now, Visitor { subject: 0, steady: true }) {
            Entry::Registered(number) => number,
            other => panic!("{other:?}"),
        })
        .collect();
    bench.pass(200);
    let before = told(&bench);
    assert_eq!((&before["method"], &before["draw"]), (&"shuffle".into(), &Value::Null), "{before}");
    bench.pass(9_000);
    let wall = bench.now;
    bench = bench.kill(wall);
    let after = told(&bench);
    assert_eq!(after["commit"], before["commit"]);
    let (secret, count) = (bytes(&after["draw"]["secret"]), after["draw"]["registered"].as_u64().unwrap());
    assert_eq!(draw::commitment(&secret), bytes(&before["commit"]), "the secret is the one that was committed to");
    assert_eq!((count, &after["draw"]["firstRegistered"]), (40, &registered[0].into()));
    let roster = Sha256::digest(count.to_be_bytes()).into();
    let order = draw::order(&draw::seed(&secret, &[0; 32], &roster), "demo", 40);
    let first = after["draw"]["firstDrawn"].as_u64().unwrap();
    for (number, index) in (first..).zip(order) {
        let mine = match bench.room.claim(bench.now, registered[index as usize], 0) {
            Claim::Wait(mine) => mine,
            Claim::Pass(pass) => pass.number,
            other => panic!("{other:?}"),
        };
        assert_eq!(mine, number);
    }
}

#[test]
fn who_is_known_by_name_keeps_the_one_number_that_was_drawn() {
    let (prequeue, start, end) = (Some(START + 1_000), START + 10_000, START + 900_000);
    let event = Event { name: "drop".to_owned(), prequeue, start, end, shuffle: true, overrides: Overrides::default() };
    let mut bench = Bench::new(Rules { events: vec![event], ..Rules::new(30, 6_000, 300_000) });
    bench.pass(2_000);
    let who = |subject| Visitor { subject, steady: true };
    let registered: Vec<(u64, u64)> = (1..=20)
        .map(|subject| match bench.room.enter(bench.now, who(subject)) {
            Entry::Registered(number) => (number, subject),
            other => panic!("{other:?}"),
        })
        .collect();
    bench.pass(10_000);
    for (number, subject) in registered {
        let Claim::Pass(pass) = bench.room.claim(bench.now, number, subject) else { panic!("there is room for all") };
        assert!(pass.number > 20, "a drawn one");
        assert_eq!(bench.room.enter(bench.now, who(subject)), Entry::Pass(pass), "known by name, too");
    }
    bench.pass(200);
    assert_eq!((bench.room.outlook().active, bench.room.outlook().ready), (20, 0));
}
