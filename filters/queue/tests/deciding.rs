//! Order, fairness, pace and shedding, at made-up times.

use super::super::codel::{CoDel, Target};
use super::super::inner::{Entry, Inner, Reason};
use super::super::line::Line;
use super::super::pace::{Pace, WarmUp};
use super::*;
use crate::engine::{Rate, TimeSpan};

const AGEING: Duration = Duration::from_secs(1);

fn called(line: &mut Line<u32>, now: Nanos) -> Vec<u32> {
    std::iter::from_fn(|| line.call(AGEING, now).map(|(_, waiter)| waiter.wake)).collect()
}

fn rate(text: &str) -> Rate {
    text.parse().expect("a rate")
}

#[test]
fn one_class_is_served_in_the_order_of_arrival() {
    let mut line = Line::default();
    for number in 0..5 {
        line.join(Priority::Normal, NOBODY, at(number.into()), number);
    }
    assert_eq!(called(&mut line, at(5)), [0, 1, 2, 3, 4]);
}

#[test]
fn the_more_important_class_goes_first() {
    let mut line = Line::default();
    let classes = [Priority::Bulk, Priority::Normal, Priority::High, Priority::Critical];
    for (number, class) in (0..).zip(classes) {
        line.join(class, NOBODY, at(0), number);
    }
    assert_eq!(called(&mut line, at(1)), [3, 2, 1, 0]);
}

#[test]
fn nobody_starves_behind_a_stream_of_the_most_important() {
    let mut line = Line::default();
    line.join(Priority::Bulk, NOBODY, at(0), 0);
    let mut served = None;
    for tick in 0..100_u32 {
        let now = at(u64::from(tick) * 100);
        line.join(Priority::Critical, NOBODY, now, 1 + tick);
        let (_, waiter) = line.call(AGEING, now).expect("somebody");
        if waiter.wake == 0 {
            served = Some(now);
            break;
        }
    }
    // Three classes, a second each.
    assert_eq!(served, Some(at(3_000)));
}

#[test]
fn one_with_many_requests_does_not_hold_up_the_others() {
    let mut line = Line::default();
    for number in 0..100 {
        line.join(Priority::Normal, Key(1), at(0), number);
    }
    line.join(Priority::Normal, Key(2), at(1), 1_000);
    line.join(Priority::Normal, Key(3), at(1), 1_001);
    let order = called(&mut line, at(2));
    assert_eq!(order[..4], [0, 1_000, 1_001, 1]);
    assert_eq!(order.len(), 102);
}

#[test]
fn who_leaves_the_middle_leaves_nothing_behind() {
    let mut line = Line::default();
    let all: Vec<_> = (0..4).map(|number| line.join(Priority::Normal, Key(number.into()), at(0), number)).collect();
    assert!(line.leave(all[1]).is_some());
    assert!(line.leave(all[1]).is_none());
    assert_eq!(line.len(), 3);
    assert_eq!(called(&mut line, at(1)), [0, 2, 3]);
    assert_eq!((line.len(), line.oldest()), (0, None));
}

#[test]
fn nobody_is_told_of_fewer_in_front_than_there_are() {
    let mut line = Line::default();
    for number in 0..30_u32 {
        let flow = Key(u128::from(number * number % 7));
        let class = if number % 3 == 0 { Priority::High } else { Priority::Normal };
        line.join(class, flow, at(0), number);
    }
    let told = line.ahead(Priority::Normal, Key(2));
    line.join(Priority::Normal, Key(2), at(0), 99);
    let really = called(&mut line, at(0)).iter().position(|number| *number == 99).expect("called");
    assert!(told >= really && told <= 30, "told {told}, really {really}");
}

#[test]
fn a_pace_gives_one_place_an_interval() {
    let mut pace = Pace::new(rate("100/s"), None);
    pace.begin(at(1_000));
    let times: Vec<u64> = (1_000..1_100).filter(|now| pace.take(at(*now)).is_some()).collect();
    assert_eq!(times, (0..10).map(|place| 1_000 + place * 10).collect::<Vec<_>>());
}

#[test]
fn waits_in_a_pace_are_told_exactly() {
    let mut inner = Inner::new(paced("10/s"));
    assert!(matches!(inner.enter(Priority::Normal, NOBODY, at(0), || ()), Entry::Now));
    for _ in 0..50 {
        assert!(matches!(inner.enter(Priority::Normal, NOBODY, at(0), || ()), Entry::Waits(..)));
    }
    // 50 wait, so the last of them waits 5 s; one more would wait 5.1 s.
    let Entry::Refused(refusal) = inner.enter(Priority::Normal, NOBODY, at(0), || ()) else { panic!("no room") };
    assert_eq!((refusal.reason, refusal.wait), (Reason::Timeout, ms(5_100)));
}

#[test]
fn a_late_wake_up_keeps_the_rate_and_a_long_silence_is_no_credit() {
    let mut pace = Pace::new(rate("1000/s"), None);
    pace.begin(at(0));
    let given = |pace: &mut Pace, now| std::iter::from_fn(|| pace.take(at(now))).count();
    assert_eq!(given(&mut pace, 10), 11, "what fell due while it slept");
    assert_eq!(given(&mut pace, 5_010), 21, "at most 20 ms of arrears");
    pace.begin(at(9_000));
    assert_eq!(given(&mut pace, 9_000), 1);
}

#[test]
fn a_place_that_nobody_takes_goes_to_the_next() {
    let mut pace = Pace::new(rate("10/s"), None);
    pace.begin(at(0));
    let taken = pace.take(at(0)).expect("due");
    assert!(pace.take(at(0)).is_none());
    pace.give_back(taken);
    let again = pace.take(at(0)).expect("given back");
    pace.take(at(100)).expect("due");
    pace.give_back(again);
    assert!(pace.take(at(100)).is_none(), "an old place makes no burst");
}

#[test]
fn a_cold_pace_begins_slowly_and_gets_to_its_rate() {
    let warm_up = WarmUp { period: TimeSpan(Duration::from_secs(1)), cold_factor: 4 };
    let mut pace = Pace::new(rate("100/s"), Some(warm_up));
    pace.begin(at(0));
    let mut by_second = [0; 4];
    for now in 0..4_000_u64 {
        by_second[usize::try_from(now / 1_000).expect("small")] += usize::from(pace.take(at(now)).is_some());
    }
    assert!((25..75).contains(&by_second[0]), "{by_second:?}");
    assert!((99..=101).contains(&by_second[2]) && (99..=101).contains(&by_second[3]), "{by_second:?}");
    // As long an idleness makes it cold.
    pace.begin(at(9_000));
    pace.take(at(9_000)).expect("due");
    assert_eq!(pace.next_at(), at(9_040));
}

#[test]
fn a_burst_is_worked_off_and_a_standing_line_is_shed() {
    let target = Target { target: ms(5), interval: ms(100) };
    let mut codel = CoDel::default();
    // Long waits for less than an interval: a burst.
    assert!(!(0..90).any(|now| codel.sheds(target, ms(50), false, at(now))));
    assert!(!codel.sheds(target, ms(1), false, at(95)));
    assert!(!(100..200).any(|now| codel.sheds(target, ms(50), false, at(now))));
    // An interval later they are still long: one is shed, then one each shorter time.
    let shed: Vec<u64> = (200..700).filter(|now| codel.sheds(target, ms(50), false, at(*now))).collect();
    assert_eq!(shed[..2], [200, 300]);
    let gaps: Vec<u64> = shed.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.windows(2).all(|pair| pair[1] <= pair[0]), "{gaps:?}");
    // The last one in line is never shed.
    assert!(!codel.sheds(target, ms(500), true, at(701)));
}

#[test]
fn shedding_takes_the_least_important() {
    let mut limits = places(1);
    limits.codel = Some(Target { target: ms(5), interval: ms(100) });
    let mut inner = Inner::new(limits);
    assert!(matches!(inner.enter(Priority::Normal, NOBODY, at(0), || "first"), Entry::Now));
    for (class, name) in [(Priority::Bulk, "bulk"), (Priority::High, "high"), (Priority::High, "higher")] {
        for _ in 0..2 {
            assert!(matches!(inner.enter(class, NOBODY, at(0), || name), Entry::Waits(..)));
        }
    }
    let mut go = |now| {
        inner.release(ms(100));
        let (called, shed) = inner.next(at(now));
        (called.map(|called| called.wake), shed.map(|(name, refusal)| (name, refusal.reason)))
    };
    assert_eq!(go(100), (Some("high"), None));
    assert_eq!(go(210), (Some("high"), Some(("bulk", Reason::Shed))));
}

#[test]
fn a_full_line_refuses_all_but_the_more_important() {
    let mut limits = places(1);
    limits.max_length = 2;
    let mut inner = Inner::new(limits);
    assert!(matches!(inner.enter(Priority::Normal, NOBODY, at(0), || 0), Entry::Now));
    for number in 1..=2 {
        assert!(matches!(inner.enter(Priority::Normal, NOBODY, at(0), || number), Entry::Waits(_, None)));
    }
    let Entry::Refused(refusal) = inner.enter(Priority::Normal, NOBODY, at(0), || 3) else { panic!("no room") };
    assert_eq!(refusal.reason, Reason::Full);
    let Entry::Waits(_, Some((out, refusal))) = inner.enter(Priority::High, NOBODY, at(0), || 4) else {
        panic!("makes room")
    };
    assert_eq!((out, refusal.reason), (1, Reason::Full));
    assert_eq!(inner.line().len(), 2);
}
