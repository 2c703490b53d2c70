//! The pace against plain arithmetic, over arbitrary wake-ups and arbitrary people who leave when they are called.

use proptest::prelude::*;

use super::super::pace::{Pace, WarmUp};
use super::*;
use crate::engine::{Rate, TimeSpan};

/// What a late wake-up may make up for.
const DEBT: u64 = 20_000_000;

/// Lets everybody through whose place is due; in front of each, so many are called who have left.
fn call(pace: &mut Pace, now: Nanos, leavers: &mut impl Iterator<Item = u8>) -> usize {
    let mut admitted = 0;
    loop {
        for _ in 0..leavers.next().unwrap_or_default() {
            let Some(taken) = pace.take(now) else { return admitted };
            pace.give_back(taken);
        }
        match pace.take(now) {
            Some(_) => admitted += 1,
            None => return admitted,
        }
    }
}

proptest! {
    #[test]
    fn no_interval_gets_more_than_its_share_and_no_place_is_lost(
        rate in 50_u32..2_000,
        steps in proptest::collection::vec((0..60_000_000_u64, 0..3_u8), 1..200),
    ) {
        let rate: Rate = format!("{rate}/s").parse().expect("a rate");
        let interval = u64::try_from(rate.interval().as_nanos()).expect("short");
        let mut pace = Pace::new(rate, None);
        pace.begin(Nanos(0));
        let (mut now, mut all) = (0, Vec::new());
        for (wait, leavers) in steps {
            now += wait;
            let admitted = call(&mut pace, Nanos(now), &mut std::iter::repeat(leavers));
            all.extend(std::iter::repeat_n(now, admitted));
        }
        // Everybody waits all the time, so what was not put off for good was given.
        let slipped = u64::try_from(pace.slipped().as_nanos()).expect("short");
        prop_assert_eq!(all.len() as u64, (now - slipped) / interval + 1);
        for (at, from) in all.iter().enumerate() {
            for (more, to) in (1..).zip(&all[at + 1..]) {
                prop_assert!(more <= (to - from + DEBT) / interval + 1, "{} within {}", more + 1, to - from);
            }
        }
    }

    #[test]
    fn who_leaves_when_called_leaves_no_trace(
        warms in any::<bool>(),
        steps in proptest::collection::vec((0..60_000_000_u64, 1..4_u8), 1..100),
    ) {
        let rate: Rate = "300/s".parse().expect("a rate");
        let warm_up = warms.then_some(WarmUp { period: TimeSpan(ms(500)), cold_factor: 3 });
        let (mut with, mut without) = (Pace::new(rate, warm_up), Pace::new(rate, warm_up));
        let mut now = Nanos(0);
        for (wait, leavers) in steps {
            now = Nanos(now.0 + wait);
            let some = call(&mut with, now, &mut std::iter::repeat(leavers));
            let none = call(&mut without, now, &mut std::iter::repeat(0));
            prop_assert_eq!(some, none);
            prop_assert_eq!(with.next_at(), without.next_at());
            prop_assert_eq!(with.slipped(), without.slipped());
            prop_assert_eq!(with.interval(), without.interval());
        }
    }
}
