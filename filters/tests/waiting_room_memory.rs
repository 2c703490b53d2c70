//! What a million people in line weigh, and that their polls add nothing. A binary of its own: the whole process is on
//! the scales.

#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::time::Duration;

use tidegate_filters::engine::Nanos;
use tidegate_filters::waiting_room::keys::Keyring;
use tidegate_filters::waiting_room::rules::Rules;
use tidegate_filters::waiting_room::settings::Settings;
use tidegate_filters::waiting_room::{Entry, Forgetful, History, Opening, Room, Visitor};

const MILLION: u64 = 1_000_000;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

#[test]
fn a_million_in_line_who_poll_take_under_eight_mebibytes() {
    let settings = Settings::new("crowd", Rules::new(1, 1, 300_000), Arc::new(Keyring::new(&[])));
    let room = Room::open(Opening {
        name: "crowd".into(),
        seed: [1; 32],
        settings: Arc::new(settings),
        journal: Box::new(Forgetful),
        history: History::default(),
        epoch: Duration::from_secs(1_800_000_000),
        now: Nanos(0),
    });
    let start = room.time(Nanos(0));
    let before = resident_bytes();
    let mut numbers = 0;
    for at in 0..MILLION {
        if at % 10_000 == 0 {
            room.maintain(|| start + at / 100);
        }
        let entry = room.enter(start + at / 100, Visitor { subject: 0, steady: true });
        numbers += u64::from(matches!(entry, Entry::Place(_)));
    }
    assert_eq!(numbers, MILLION - 1, "the first walked in");
    for round in 1..3 {
        for number in 2..=MILLION {
            assert_eq!(room.poll(start + 10_000, number, 0), None);
        }
        room.maintain(|| start + 10_000 + round * 1_000);
    }
    let outlook = room.outlook();
    assert_eq!(outlook.waiting, MILLION - 1);
    assert_eq!(room.ahead(&outlook, MILLION), MILLION - 2);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
}
