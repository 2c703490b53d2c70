//! What a room promises, one promise a test.

use super::support::{Bench, START};
use crate::waiting_room::rules::{Event, Method, Missed, Overflow, Overrides, Rules};
use crate::waiting_room::{Claim, Entry, Reason, State, Visitor};

pub(super) const STEADY: Visitor = Visitor { subject: 0, steady: true };
const STRANGER: Visitor = Visitor { subject: 0, steady: false };

/// A room in which so many may be at once, without a bound on the rate.
pub(super) fn places(count: u32) -> Rules {
    Rules::new(count, 60_000, 300_000)
}

pub(super) fn place(bench: &Bench) -> u64 {
    match bench.room.enter(bench.now, STEADY) {
        Entry::Place(number) => number,
        other => panic!("expected a place, got {other:?}"),
    }
}

pub(super) fn fill(bench: &mut Bench, count: u32) -> Vec<u64> {
    let mut inside = Vec::new();
    while inside.len() < count as usize {
        match bench.room.enter(bench.now, STEADY) {
            Entry::Pass(pass) => inside.push(pass.number),
            other => panic!("expected a pass, got {other:?}"),
        }
        bench.pass(100);
    }
    inside
}

#[test]
fn who_finds_a_free_place_walks_in() {
    let mut bench = Bench::new(places(3));
    let inside = fill(&mut bench, 3);
    assert_eq!(inside, [1, 2, 3]);
    assert_eq!(place(&bench), 4);
}

#[test]
fn a_stranger_gets_a_pass_but_no_number() {
    let mut bench = Bench::new(places(1));
    assert!(matches!(bench.room.enter(bench.now, STRANGER), Entry::Pass(pass) if pass.short));
    bench.pass(100);
    assert_eq!(bench.room.enter(bench.now, STRANGER), Entry::Pre);
    assert_eq!(place(&bench), 2);
}

#[test]
fn a_pass_that_is_not_brought_back_frees_its_place_after_the_claim_window() {
    let mut bench = Bench::new(places(1));
    assert!(matches!(bench.room.enter(bench.now, STRANGER), Entry::Pass(_)));
    bench.pass(60_100);
    assert!(matches!(bench.room.enter(bench.now, STRANGER), Entry::Pass(_)));
}

#[test]
fn nobody_barges_past_somebody_whose_turn_it_is() {
    let mut bench = Bench::new(places(1));
    let first = fill(&mut bench, 1)[0];
    let waiting = place(&bench);
    bench.room.leave(bench.now, first);
    bench.pass(200);
    let newcomer = place(&bench);
    assert_eq!(bench.room.claim(bench.now, newcomer, 0), Claim::Wait(newcomer));
    assert!(matches!(bench.room.poll(bench.now, waiting, 0), Some(Claim::Pass(_))));
}

#[test]
fn several_may_claim_in_any_order_and_each_is_counted_once() {
    let mut bench = Bench::new(places(3));
    let inside = fill(&mut bench, 3);
    let waiting = [place(&bench), place(&bench), place(&bench)];
    for number in inside {
        bench.room.leave(bench.now, number);
    }
    bench.pass(200);
    for number in waiting.iter().rev() {
        let first = bench.room.claim(bench.now, *number, 0);
        assert!(matches!(first, Claim::Pass(_)));
        assert_eq!(bench.room.claim(bench.now, *number, 0), first);
    }
    bench.pass(100);
    assert_eq!(bench.room.outlook().active, 3);
}

#[test]
fn those_who_left_hold_up_nobody() {
    let mut bench = Bench::new(places(1));
    let first = fill(&mut bench, 1)[0];
    let gone: Vec<u64> = (0..50).map(|_| place(&bench)).collect();
    let faithful = place(&bench);
    for _ in 0..150 {
        bench.pass(2_000);
        bench.room.poll(bench.now, faithful, 0);
        bench.room.visit(bench.now, first, 0, START, bench.now + 60_000);
    }
    assert_eq!(bench.room.outlook().waiting, 1, "of {} nobody looked", gone.len());
    bench.room.leave(bench.now, first);
    bench.pass(200);
    assert!(matches!(bench.room.poll(bench.now, faithful, 0), Some(Claim::Pass(_))));
}

#[test]
fn a_missed_turn_is_made_good_once() {
    let mut bench = Bench::new(places(1));
    let first = fill(&mut bench, 1)[0];
    let sleeper = place(&bench);
    bench.room.leave(bench.now, first);
    bench.pass(61_000);
    assert_eq!(bench.room.claim(bench.now, sleeper, 0), Claim::Wait(sleeper), "back in front");
    let patient = place(&bench);
    bench.pass(100);
    let Some(Claim::Pass(pass)) = bench.room.poll(bench.now, sleeper, 0) else { panic!("the next place is theirs") };
    assert_eq!(bench.room.poll(bench.now, patient, 0), None);
    assert_eq!(pass.number, sleeper);
}

#[test]
fn the_second_missed_turn_was_the_last() {
    let mut bench = Bench::new(places(1));
    let first = fill(&mut bench, 1)[0];
    let sleeper = place(&bench);
    bench.room.leave(bench.now, first);
    bench.pass(61_000);
    bench.room.claim(bench.now, sleeper, 0);
    bench.pass(62_000);
    assert_eq!(bench.room.claim(bench.now, sleeper, 0), Claim::Gone);
}

#[test]
fn a_missed_turn_can_cost_the_place() {
    for (missed, expected) in [(Missed::Expire, Claim::Gone), (Missed::Back, Claim::Moved(3))] {
        let mut bench = Bench::new(Rules { missed, ..places(1) });
        let first = fill(&mut bench, 1)[0];
        let sleeper = place(&bench);
        bench.room.leave(bench.now, first);
        bench.pass(61_000);
        assert_eq!(bench.room.claim(bench.now, sleeper, 0), expected);
    }
}

#[test]
fn a_person_has_one_place_on_all_devices() {
    let mut bench = Bench::new(places(1));
    fill(&mut bench, 1);
    let me = Visitor { subject: 99, steady: true };
    let first = bench.room.enter(bench.now, me);
    assert_eq!(first, Entry::Place(2));
    assert_eq!(bench.room.enter(bench.now, me), first);
    bench.room.leave(bench.now, 1);
    bench.pass(200);
    let Claim::Pass(pass) = bench.room.claim(bench.now, 2, 99) else { panic!("it is their turn") };
    assert_eq!(bench.room.enter(bench.now, me), Entry::Pass(pass));
}

#[test]
fn no_minute_sees_more_than_the_rate_wherever_it_begins() {
    let mut bench = Bench::new(Rules::new(10_000, 60, 300_000));
    let mut admitted = Vec::new();
    let mut waiting = Vec::new();
    for _ in 0..400 {
        match bench.room.enter(bench.now, STEADY) {
            Entry::Pass(_) => admitted.push(bench.now),
            Entry::Place(number) => waiting.push(number),
            other => panic!("{other:?}"),
        }
        bench.pass(700);
        waiting.retain(|number| {
            let inside = matches!(bench.room.poll(bench.now, *number, 0), Some(Claim::Pass(_)));
            if inside {
                admitted.push(bench.now);
            }
            !inside
        });
    }
    let most =
        admitted.iter().map(|end| admitted.iter().filter(|at| **at <= *end && **at + 60_000 > *end).count()).max();
    assert!(most <= Some(60), "{most:?} in a minute");
    assert!(admitted.len() >= 250, "{} of 280 that the rate allows", admitted.len());
}

#[test]
fn those_inside_stay_when_everybody_is_held() {
    let mut bench = Bench::new(places(2));
    let inside = fill(&mut bench, 1)[0];
    let mut rules = places(2);
    rules.limits.queue_all = true;
    bench.set_rules(rules);
    bench.pass(200);
    assert_eq!(bench.room.outlook().state, State::QueueAll);
    let waiting = place(&bench);
    bench.pass(5_000);
    assert_eq!(bench.room.poll(bench.now, waiting, 0), None);
    assert!(bench.room.visit(bench.now, inside, 0, bench.now, bench.now + 1_000).is_some());
}

#[test]
fn new_limits_hold_within_a_second_and_take_no_turn_away() {
    let mut bench = Bench::new(places(1));
    fill(&mut bench, 1);
    let waiting: Vec<u64> = (0..5).map(|_| place(&bench)).collect();
    assert!(bench.room.predict(&places(6)).wait.is_some());
    bench.set_rules(places(4));
    bench.pass(200);
    bench.set_rules(places(1));
    bench.pass(200);
    let claims: Vec<_> = waiting.iter().map(|number| bench.room.poll(bench.now, *number, 0)).collect();
    assert!(claims[..3].iter().all(|claim| matches!(claim, Some(Claim::Pass(_)))), "{claims:?}");
    assert!(claims[3..].iter().all(Option::is_none), "{claims:?}");
}

#[test]
fn a_visit_lasts_while_requests_come_or_not_as_configured() {
    let mut bench = Bench::new(places(1));
    let number = fill(&mut bench, 1)[0];
    for _ in 0..10 {
        bench.pass(100_000);
        assert!(bench.room.visit(bench.now, number, 0, START, bench.now + 1_000).is_some());
    }
    let mut rules = places(1);
    rules.limits.renewal = false;
    let mut bench = Bench::new(rules);
    let number = fill(&mut bench, 1)[0];
    bench.pass(200_000);
    let before = bench.room.visit(bench.now, number, 0, START, bench.now + 1_000).unwrap();
    assert_eq!(before.until, START + 300_000);
    bench.pass(101_000);
    assert_eq!(bench.room.visit(bench.now, number, 0, bench.now, bench.now), None);
}

#[test]
fn an_ended_visit_is_over_and_its_place_free() {
    let mut bench = Bench::new(places(1));
    let number = fill(&mut bench, 1)[0];
    assert!(bench.room.end(number));
    assert!(bench.room.is_ended(number));
    assert_eq!(bench.room.visit(bench.now, number, 0, START, bench.now + 9_000), None);
    let next = place(&bench);
    bench.pass(200);
    assert!(matches!(bench.room.poll(bench.now, next, 0), Some(Claim::Pass(_))), "once the journal knows");
    let bench = bench.kill(START + 10_000);
    assert!(bench.room.is_ended(number), "also after a kill");
}

#[test]
fn no_more_are_admitted_than_the_cap_and_sold_out_ends_it() {
    let mut bench = Bench::new(Rules { admission_cap: Some(2), ..places(10) });
    fill(&mut bench, 2);
    assert_eq!(bench.room.enter(bench.now, STEADY), Entry::Rejected(Reason::SoldOut));
    bench.set_rules(Rules { admission_cap: Some(3), ..places(10) });
    bench.room.set_sold_out(true);
    bench.pass(100);
    assert_eq!(bench.room.outlook().state, State::SoldOut);
    assert_eq!(bench.room.enter(bench.now, STEADY), Entry::Rejected(Reason::SoldOut));
}

#[test]
fn a_room_without_a_line_refuses() {
    let mut rules = places(1);
    rules.limits.method = Method::Reject;
    let mut bench = Bench::new(rules);
    fill(&mut bench, 1);
    assert_eq!(bench.room.enter(bench.now, STEADY), Entry::Rejected(Reason::NoRoom));
}

#[test]
fn a_full_line_refuses_or_lets_chance_decide() {
    let mut bench = Bench::new(Rules { max_queue_length: 100, ..places(1) });
    fill(&mut bench, 1);
    (0..100).for_each(|_| assert_ne!(place(&bench), 0));
    assert_eq!(bench.room.enter(bench.now, STEADY), Entry::Rejected(Reason::QueueFull));
    let rules = Rules { max_queue_length: 100, overflow: Overflow::RandomDrop, ..places(1) };
    let mut bench = Bench::new(rules);
    fill(&mut bench, 1);
    let given: Vec<u64> = (0..100).map(|_| place(&bench)).collect();
    let late = (0..300).filter(|_| matches!(bench.room.enter(bench.now, STEADY), Entry::Place(_))).count();
    bench.pass(100);
    assert_eq!(bench.room.outlook().waiting, 100, "as many are dropped as come in");
    let early = given.iter().filter(|number| bench.room.claim(bench.now, **number, 0) == Claim::Wait(**number)).count();
    // Of 400, each has a chance of a quarter.
    assert!((8..=45).contains(&early), "{early} of the first hundred are left");
    assert!(late >= 75, "{late} of three hundred came in");
}

#[test]
fn chance_gives_everybody_the_same() {
    let mut rules = places(20);
    rules.limits.method = Method::Random;
    let mut bench = Bench::new(rules);
    let inside = fill(&mut bench, 20);
    let waiting: Vec<u64> = (0..400).map(|_| place(&bench)).collect();
    for number in inside {
        bench.room.leave(bench.now, number);
        bench.pass(200);
    }
    let picked = |half: &[u64]| {
        half.iter().filter(|number| matches!(bench.room.poll(bench.now, **number, 0), Some(Claim::Pass(_)))).count()
    };
    let halves = [picked(&waiting[..200]), picked(&waiting[200..])];
    assert_eq!(halves[0] + halves[1], 20);
    assert!(halves.iter().all(|half| (3..=17).contains(half)), "{halves:?}");
}

#[test]
fn an_event_collects_draws_and_begins_on_time() {
    let event = Event {
        name: "drop".to_owned(),
        prequeue: Some(START + 10_000),
        start: START + 20_000,
        end: START + 900_000,
        shuffle: true,
        overrides: Overrides { limits: Some((5, 600)), ..Overrides::default() },
    };
    let mut bench = Bench::new(Rules { events: vec![event], ..places(100) });
    bench.pass(11_000);
    assert_eq!(bench.room.outlook().state, State::EventPrequeueing);
    let registered: Vec<u64> = (0..50)
        .map(|_| match bench.room.enter(bench.now, STEADY) {
            Entry::Registered(number) => number,
            other => panic!("{other:?}"),
        })
        .collect();
    bench.pass(8_900);
    assert!(registered.iter().all(|number| bench.room.claim(bench.now, *number, 0) == Claim::Wait(*number)));
    bench.pass(400);
    let mut inside = Vec::new();
    let mut drawn = Vec::new();
    for number in &registered {
        match bench.room.claim(bench.now, *number, 0) {
            Claim::Pass(pass) => inside.push(pass.number),
            Claim::Wait(other) => drawn.push(other),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(inside.len(), 5, "the event's own limit");
    let mut all = [inside, drawn.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (51..=100).collect::<Vec<_>>(), "a permutation behind all registrations");
    assert!(!drawn.is_sorted());
}
