//! Who goes first, and that nobody is left standing.

use proptest::prelude::*;

use super::super::line::Line;
use super::*;

/// Calls `count` times at that moment and counts by class.
fn calls(line: &mut Line, count: usize, now: u64) -> [usize; 3] {
    let mut by_class = [0; 3];
    for _ in 0..count {
        let seq = line.call(5_000, now, |_| 1).unwrap();
        by_class[usize::try_from(seq % 3).unwrap()] += 1;
    }
    by_class
}

fn three_classes(each: i64) -> Line {
    let mut line = Line::default();
    for seq in 0..each * 3 {
        let class = Class::ALL[usize::try_from(seq % 3).unwrap()];
        line.join(class, 1, seq, 0);
    }
    line
}

#[test]
fn classes_share_eight_to_three_to_one_while_all_of_them_wait() {
    assert_eq!(calls(&mut three_classes(100), 120, 0), [10, 30, 80]);
}

#[test]
fn what_has_waited_long_counts_as_the_class_above() {
    assert_eq!(calls(&mut three_classes(100), 190, 5_000), [30, 80, 80]);
    assert_eq!(calls(&mut three_classes(100), 150, 10_000), [50, 50, 50]);
}

#[test]
fn a_class_that_is_empty_leaves_its_share_to_the_others() {
    let mut line = Line::default();
    for seq in 0..100 {
        line.join(Class::Low, 1, seq * 3, 0);
    }
    assert_eq!(calls(&mut line, 100, 0), [100, 0, 0]);
    // Idleness saves up nothing.
    line.join(Class::Low, 1, 300, 0);
    line.join(Class::High, 1, 302, 0);
    assert_eq!(line.call(5_000, 0, |_| 1), Some(302));
}

#[test]
fn identities_take_turns_by_weight_and_the_oldest_of_each_goes_first() {
    let mut line = Line::default();
    for seq in 0..30 {
        line.join(Class::Normal, u64::try_from(seq % 3).unwrap(), seq, 0);
    }
    let weight = |party| if party == 2 { 3 } else { 1 };
    let called: Vec<i64> = std::iter::from_fn(|| line.call(5_000, 0, weight)).collect();
    assert_eq!(called[..10], [0, 1, 2, 5, 8, 3, 4, 11, 14, 17]);
    assert_eq!((called.len(), line.len()), (30, 0));
}

#[test]
fn who_leaves_from_the_middle_holds_nobody_up() {
    let mut line = Line::default();
    for seq in 0..6 {
        line.join(Class::Normal, u64::try_from(seq / 3).unwrap(), seq, 0);
    }
    for seq in [0, 1, 2, 4] {
        assert!(line.leave(Class::Normal, u64::try_from(seq / 3).unwrap(), seq));
        assert!(!line.leave(Class::Normal, u64::try_from(seq / 3).unwrap(), seq));
    }
    assert_eq!((line.call(5_000, 0, |_| 1), line.call(5_000, 0, |_| 1)), (Some(3), Some(5)));
    assert_eq!((line.call(5_000, 0, |_| 1), line.len()), (None, 0));
}

/// Waits of party 0's records, in milliseconds, sorted.
fn waits(rate: &str, arrivals: &[(u64, u64)]) -> Vec<u64> {
    let mut book = book(rules(rate));
    let mut waits = Vec::new();
    let mut next = arrivals.iter().peekable();
    let (mut tick, mut seq, mut left) = (0, 0, arrivals.len());
    while left > 0 {
        let now = START + ms(tick);
        while let Some((_, party)) = next.next_if(|(at, _)| *at <= tick) {
            seq += 1;
            join(&mut book, seq, Class::Normal, *party, now);
        }
        let due = book.due(now).send;
        drop(book.leave_at(due.iter().map(|entry| entry.seq), now));
        for sent in due {
            left -= 1;
            if sent.party == 0 {
                waits.push(millis(now) - sent.created);
            }
        }
        tick += 1;
    }
    waits.sort_unstable();
    waits
}

fn p99(waits: &[u64]) -> u64 {
    waits[(waits.len() - 1) * 99 / 100]
}

#[test]
fn beside_a_hundred_times_as_much_a_small_merchant_waits_at_most_twice_as_long_as_alone() {
    // Both send all they have at once: 200 beside 20,000.
    let small: Vec<(u64, u64)> = (0..200).map(|_| (0, 0)).collect();
    let mut both: Vec<(u64, u64)> = (0..20_000).map(|_| (0, 1)).collect();
    both.extend(&small);
    let (alone, beside) = (p99(&waits("500/s", &small)), p99(&waits("500/s", &both)));
    assert!(alone > 300, "alone it waits, too: {alone} ms");
    // One slot of 2 ms: somebody has to be first.
    assert!(beside <= 2 * alone + 2, "{beside} ms beside, {alone} ms alone");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_three_others_send_a_merchant_waits_no_longer_than_alone_with_a_quarter_of_the_rate(
        small in prop::collection::vec(0_u64..400, 20..80),
        others in prop::collection::vec((0_u64..400, 1_u64..4), 0..2_000),
    ) {
        let mut alone: Vec<(u64, u64)> = small.iter().map(|at| (*at, 0)).collect();
        alone.sort_unstable();
        let mut all = alone.clone();
        all.extend(&others);
        all.sort_unstable();
        let (alone, beside) = (waits("125/s", &alone), waits("500/s", &all));
        // A turn that has begun is over first: 8 ms at most, and a wake-up's millisecond at either end.
        for (beside, alone) in beside.iter().zip(&alone) {
            prop_assert!(*beside <= alone + 10, "{} ms beside, {} ms alone", beside, alone);
        }
    }
}
