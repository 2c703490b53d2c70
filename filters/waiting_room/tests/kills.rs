//! Kills, disks that fail, clocks that are set back.

use std::sync::atomic::Ordering::Relaxed;

use super::rooms::{STEADY, fill, place, places};
use super::support::{Bench, START};
use crate::waiting_room::{Claim, Entry, Visitor};

#[test]
fn a_kill_loses_no_place_and_gives_no_number_twice() {
    let mut bench = Bench::new(places(2));
    let inside = fill(&mut bench, 2);
    let early = [place(&bench), place(&bench)];
    bench.pass(100);
    let unwritten = place(&bench);
    let mut bench = bench.kill(START + 5_000);
    let fresh = place(&bench);
    assert!(fresh > unwritten);
    for number in early.iter().chain(&[unwritten]) {
        assert_eq!(bench.room.claim(bench.now, *number, 0), Claim::Wait(*number));
    }
    bench.room.leave(bench.now, inside[0]);
    bench.pass(200);
    let claims = [early[0], early[1], unwritten, fresh].map(|number| bench.room.poll(bench.now, number, 0));
    assert!(matches!(claims[0], Some(Claim::Pass(_))));
    assert_eq!(claims[1..], [None; 3]);
}

#[test]
fn numbers_that_a_kill_left_in_doubt_hold_up_nobody_after_the_next() {
    let mut bench = Bench::new(places(1));
    let inside = fill(&mut bench, 1);
    let early = place(&bench);
    bench.pass(100);
    for _ in 0..4 {
        let wall = bench.now;
        bench = bench.kill(wall);
        bench.pass(100);
        place(&bench);
        bench.pass(100);
    }
    let late = place(&bench);
    bench.pass(100);
    assert_eq!(bench.room.outlook().waiting, 6, "people, not numbers");
    for number in [early, late] {
        assert_eq!(bench.room.claim(bench.now, number, 0), Claim::Wait(number));
    }
    bench.room.leave(bench.now, inside[0]);
    bench.pass(200);
    assert!(matches!(bench.room.poll(bench.now, early, 0), Some(Claim::Pass(_))));
}

/// Twenty seconds in which somebody looks every two; whether they got in.
fn twenty_seconds(bench: &mut Bench, number: u64) -> bool {
    (0..10).any(|_| {
        bench.pass(2_000);
        matches!(bench.room.poll(bench.now, number, 0), Some(Claim::Pass(_)))
    })
}

#[test]
fn a_gateway_that_is_killed_every_twenty_seconds_goes_on_letting_people_in() {
    let mut bench = Bench::new(places(40));
    fill(&mut bench, 4);
    for round in 0..30 {
        bench.pass(1_000);
        let number = match bench.room.enter(bench.now, STEADY) {
            Entry::Pass(pass) => pass.number,
            Entry::Place(number) => {
                assert!(twenty_seconds(&mut bench, number), "round {round}: places that nobody has stay taken");
                number
            }
            other => panic!("round {round}: {other:?}"),
        };
        bench.room.leave(bench.now, number);
        bench.pass(20_000);
        let wall = bench.now + 500;
        bench = bench.kill(wall);
    }
}

#[test]
fn turns_that_a_kill_left_in_doubt_are_over_in_time_whatever_is_killed_later() {
    let mut bench = Bench::new(places(3));
    let inside = fill(&mut bench, 3);
    let gone: Vec<u64> = (0..3).map(|_| place(&bench)).collect();
    let waiting = place(&bench);
    bench.pass(200);
    inside.into_iter().for_each(|number| bench.room.leave(bench.now, number));
    bench.pass(200);
    let begun = bench.now;
    for _ in 0..30 {
        let wall = bench.now;
        bench = bench.kill(wall);
        if twenty_seconds(&mut bench, waiting) {
            // The first kill may have come right behind their claims, so nobody else has these places for a claim window.
            assert!(bench.now - begun >= 60_000, "{} of {gone:?}", bench.now - begun);
            return;
        }
    }
    panic!("the turns of {gone:?} never ended");
}

#[test]
fn a_turn_that_was_taken_right_before_a_kill_is_nobody_elses_while_its_pass_is_good_whatever_is_killed_next() {
    let mut bench = Bench::new(places(1));
    let inside = fill(&mut bench, 1)[0];
    let (first, next) = (place(&bench), place(&bench));
    bench.pass(200);
    bench.room.leave(bench.now, inside);
    bench.pass(200);
    let Some(Claim::Pass(mut pass)) = bench.room.poll(bench.now, first, 0) else { panic!("a turn") };
    let mut issued = bench.now;
    for _ in 0..3 {
        // Renewed, of which nothing is written down any more either.
        let wall = bench.now;
        bench = bench.kill(wall);
        bench.pass(15_000);
        pass = bench.room.visit(bench.now, first, 0, issued, pass.until).expect("still inside");
        issued = bench.now;
    }
    let wall = bench.now;
    bench = bench.kill(wall);
    while bench.now < START + 400_000 {
        bench.pass(1_000);
        if matches!(bench.room.poll(bench.now, next, 0), Some(Claim::Pass(_))) {
            assert!(pass.until <= bench.now, "two are inside: one until {}, at {}", pass.until, bench.now);
            return;
        }
    }
    panic!("the turn never ended");
}

#[test]
fn who_is_known_by_name_has_the_place_after_a_kill_without_a_ticket() {
    let mut bench = Bench::new(places(1));
    fill(&mut bench, 1);
    let person = |subject| Visitor { subject, steady: true };
    let Entry::Place(number) = bench.room.enter(bench.now, person(5)) else { panic!("a place") };
    for _ in 0..2 {
        // The second time from one line that says it all.
        bench.pass(200);
        let wall = bench.now;
        bench = bench.kill(wall);
        place(&bench);
        assert_eq!(bench.room.enter(bench.now, person(5)), Entry::Place(number));
    }
}

#[test]
fn a_place_that_became_free_is_nobodys_before_the_journal_knows() {
    let mut bench = Bench::new(places(1));
    let inside = fill(&mut bench, 1)[0];
    bench.room.end(inside);
    assert!(!matches!(bench.room.enter(bench.now, STEADY), Entry::Pass(_)), "a kill would bring the visit back");
    let wall = bench.now;
    let bench = bench.kill(wall);
    assert!(bench.room.visit(bench.now, inside, 0, START, START + 300_000).is_some());
}

#[test]
fn who_comes_back_from_paying_to_a_place_that_a_kill_gave_away_waits_for_a_free_one() {
    let mut bench = Bench::new(places(1));
    let buyer = fill(&mut bench, 1)[0];
    let (issued, expires) = (bench.now, bench.now + 900_000);
    bench.room.hold(bench.now, buyer, std::time::Duration::from_secs(900));
    let wall = bench.now;
    let mut bench = bench.kill(wall);
    bench.pass(301_000);
    let next = fill(&mut bench, 1)[0];
    assert_eq!(bench.room.come_back(bench.now, buyer, issued, expires), None);
    bench.room.leave(bench.now, next);
    bench.pass(200);
    assert!(bench.room.come_back(bench.now, buyer, issued, expires).is_some());
}

#[test]
fn a_clock_that_was_set_back_stops_nothing() {
    let mut bench = Bench::new(places(1));
    fill(&mut bench, 1);
    let waiting = place(&bench);
    bench.pass(1_000);
    let mut bench = bench.kill(START - 86_400_000);
    assert!(bench.now >= START);
    for _ in 0..200 {
        bench.pass(2_000);
        if matches!(bench.room.poll(bench.now, waiting, 0), Some(Claim::Pass(_))) {
            return;
        }
    }
    panic!("the visit before never ended");
}

#[test]
fn a_disk_that_fails_admits_nobody_and_loses_nobody() {
    let mut bench = Bench::new(places(1));
    let first = fill(&mut bench, 1)[0];
    let waiting = place(&bench);
    bench.disk.broken.store(true, Relaxed);
    bench.room.leave(bench.now, first);
    bench.pass(2_000);
    assert!(bench.room.is_degraded());
    assert_eq!(bench.room.poll(bench.now, waiting, 0), None);
    bench.disk.broken.store(false, Relaxed);
    bench.pass(300);
    assert!(!bench.room.is_degraded());
    assert!(matches!(bench.room.poll(bench.now, waiting, 0), Some(Claim::Pass(_))));
}

#[test]
fn a_journal_that_was_cut_off_is_read_up_to_there() {
    let mut bench = Bench::new(places(1));
    fill(&mut bench, 1);
    let waiting = place(&bench);
    bench.pass(100);
    bench.disk.bytes.lock().extend_from_slice(b"{\"at\":1800000000");
    let bench = bench.kill(START + 1_000);
    assert_eq!(bench.room.claim(bench.now, waiting, 0), Claim::Wait(waiting));
    assert!(bench.disk.bytes.lock().ends_with(b"}\n"), "nothing is written behind the torn line");
}
