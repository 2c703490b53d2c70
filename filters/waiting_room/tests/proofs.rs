//! What a room counts about its own promises: nothing while it keeps them, and something when its journal was lost.

use super::rooms::{fill, place, places};
use super::support::{Bench, START};
use crate::waiting_room::rules::{Method, Rules};
use crate::waiting_room::{Claim, Entry, Level, Notice, Proof, Reason, State, Visitor};

fn proof(bench: &Bench) -> Proof {
    bench.room.outlook().proof
}

#[test]
fn a_number_below_one_that_had_its_turn_is_an_inversion_unless_chance_decides() {
    let mut proof = Proof::default();
    for number in [3, 4, 9] {
        proof.turn(number, false);
    }
    assert_eq!(proof.inversions, 0);
    proof.turn(8, false);
    assert_eq!(proof.inversions, 1);
    proof.turn(20, true);
    proof.turn(2, true);
    proof.turn(5, false);
    assert_eq!(proof.inversions, 1);
}

#[test]
fn a_crowd_in_order_and_by_chance_shows_neither_inversions_nor_overshoot() {
    for method in [Method::Fifo, Method::Random] {
        let mut rules = Rules::new(5, 600, 300_000);
        rules.limits.method = method;
        let mut bench = Bench::new(rules);
        fill(&mut bench, 5);
        let mut waiting: Vec<u64> = (0..60).map(|_| place(&bench)).collect();
        for _ in 0..2_000 {
            bench.pass(1_000);
            let now = bench.now;
            waiting.retain(|number| match bench.room.poll(now, *number, 0) {
                Some(Claim::Pass(pass)) => !bench.room.end(pass.number),
                _ => true,
            });
        }
        assert!(waiting.is_empty(), "{method:?}: {waiting:?}");
        let told = proof(&bench);
        assert_eq!((told.inversions, told.overshoot, told.no_show_ratio()), (0, 0, Some(0.0)), "{method:?}");
    }
}

#[test]
fn passes_that_a_lost_journal_knows_nothing_of_are_kept_and_counted_as_too_many() {
    let mut bench = Bench::new(places(3));
    let passes = (0..3).map(|_| match bench.room.enter(bench.now, Visitor { subject: 0, steady: true }) {
        Entry::Pass(pass) => pass,
        other => panic!("{other:?}"),
    });
    let passes: Vec<_> = passes.collect();
    let issued = bench.now;
    bench.pass(200);
    bench.disk.bytes.lock().clear();
    let mut bench = bench.kill(START + 2_000);
    bench.set_rules(places(1));
    for pass in passes {
        assert!(bench.room.visit(bench.now, pass.number, 0, issued, pass.until).is_some());
    }
    bench.pass(200);
    assert_eq!(proof(&bench).overshoot, 2, "one of three has a place");
}

#[test]
fn who_does_not_come_and_who_has_gone_are_told_apart() {
    let mut bench = Bench::new(Rules::new(1, 60_000, 86_400_000));
    let inside = fill(&mut bench, 1)[0];
    let gone: Vec<u64> = (0..10).map(|_| place(&bench)).collect();
    // Nobody of them looks for as long as anybody is waited for.
    bench.pass(700_000);
    let absent = place(&bench);
    bench.room.end(inside);
    bench.pass(200);
    assert_eq!(proof(&bench).silent, gone.len() as u64);
    assert_eq!(proof(&bench).no_show_ratio(), None);
    bench.pass(70_000);
    assert_eq!(proof(&bench).no_show_ratio(), Some(1.0), "{absent} had a turn and did not come");
    let inside = fill(&mut bench, 1)[0];
    let came = place(&bench);
    bench.room.end(inside);
    bench.pass(200);
    assert!(matches!(bench.room.poll(bench.now, came, 0), Some(Claim::Pass(_))));
    bench.pass(100);
    assert_eq!(proof(&bench).no_show_ratio(), Some(0.5));
}

#[test]
fn a_word_to_all_survives_a_kill_and_so_does_that_it_was_taken_back() {
    let mut bench = Bench::new(places(1));
    let word = Notice { text: "The second half opens at noon".to_owned(), level: Level::Warning };
    bench.room.set_notice(Some(word.clone()));
    assert_eq!(bench.room.notice(), None, "not before it is written");
    assert!(bench.room.settle(|| bench.now));
    assert_eq!(bench.room.notice().as_deref(), Some(&word));
    let wall = bench.now;
    bench = bench.kill(wall);
    assert_eq!(bench.room.notice().as_deref(), Some(&word));
    // The journal has been replaced by one line since: that says it too.
    let wall = bench.now + 1_000;
    bench = bench.kill(wall);
    assert_eq!(bench.room.notice().as_deref(), Some(&word));
    bench.room.set_notice(None);
    bench.room.settle(|| bench.now);
    let wall = bench.now;
    bench = bench.kill(wall);
    assert_eq!(bench.room.notice(), None);
}

#[test]
fn a_word_that_cannot_be_written_is_not_told() {
    let bench = Bench::new(places(1));
    bench.disk.broken.store(true, std::sync::atomic::Ordering::Relaxed);
    bench.room.set_notice(Some(Notice { text: "soon".to_owned(), level: Level::Info }));
    assert!(!bench.room.settle(|| bench.now + 100));
    assert_eq!(bench.room.notice(), None);
    bench.disk.broken.store(false, std::sync::atomic::Ordering::Relaxed);
    assert!(bench.room.settle(|| bench.now + 200));
    assert!(bench.room.notice().is_some());
}

#[test]
fn a_room_that_is_emptied_lets_nobody_in_prolongs_no_visit_and_keeps_places_over_a_kill() {
    let mut bench = Bench::new(places(2));
    let inside = fill(&mut bench, 2);
    let waiting = place(&bench);
    bench.room.set_draining(true);
    bench.pass(200);
    let wall = bench.now;
    bench = bench.kill(wall);
    assert_eq!(bench.room.outlook().state, State::Draining);
    for _ in 0..40 {
        bench.pass(10_000);
        bench.room.visit(bench.now, inside[0], 0, START, bench.now + 1);
        assert_eq!(bench.room.claim(bench.now, waiting, 0), Claim::Wait(waiting));
    }
    assert_eq!(bench.room.outlook().active, 0);
    bench.room.set_draining(false);
    bench.pass(200);
    assert!(matches!(bench.room.poll(bench.now, waiting, 0), Some(Claim::Pass(_))));
}

#[test]
fn after_a_kill_only_who_was_inside_comes_into_a_room_where_nothing_is_left() {
    let named = |subject| Visitor { subject, steady: true };
    // What was said may have been written before the kill, or is said again after it.
    for written in [true, false] {
        let mut bench = Bench::new(places(8));
        let Entry::Pass(known) = bench.room.enter(bench.now, named(6)) else { panic!("not let in") };
        bench.pass(200);
        // Let in right before the kill: the journal knows the place, not whose it is.
        let Entry::Pass(unknown) = bench.room.enter(bench.now, named(7)) else { panic!("not let in") };
        let issued = bench.now;
        bench.room.set_sold_out(true);
        bench.disk.broken.store(!written, std::sync::atomic::Ordering::Relaxed);
        bench.pass(200);
        let wall = bench.now + 500;
        bench = bench.kill(wall);
        bench.room.set_sold_out(true);
        bench.pass(200);
        for subject in 100..120 {
            assert_eq!(bench.room.enter(bench.now, named(subject)), Entry::Rejected(Reason::SoldOut));
        }
        assert!(matches!(bench.room.enter(bench.now, named(6)), Entry::Pass(pass) if pass.number == known.number));
        assert!(bench.room.visit(bench.now, unknown.number, 7, issued, unknown.until).is_some(), "the pass is good");
        assert!(matches!(bench.room.enter(bench.now, named(7)), Entry::Pass(pass) if pass.number == unknown.number));
        bench.pass(200);
        assert_eq!((bench.room.outlook().active, proof(&bench).overshoot), (2, 0));
    }
}

#[test]
fn places_that_a_kill_left_in_doubt_count_towards_the_cap_for_good() {
    let mut bench = Bench::new(Rules { admission_cap: Some(40), ..Rules::new(20, 60_000, 2_000) });
    let mut admitted = 0;
    for _ in 0..60 {
        // Let in, and the process killed before the journal knows.
        while let Entry::Pass(_) = bench.room.enter(bench.now, Visitor { subject: 0, steady: true }) {
            admitted += 1;
        }
        let wall = bench.now + 4_000;
        bench = bench.kill(wall);
        bench.pass(4_000);
    }
    assert!((30..=40).contains(&admitted), "{admitted} of 40");
}

#[test]
fn a_turn_that_was_taken_right_before_a_kill_counts_towards_the_cap() {
    let mut bench = Bench::new(Rules { admission_cap: Some(2), ..Rules::new(1, 60_000, 2_000) });
    let first = fill(&mut bench, 1)[0];
    let (next, last) = (place(&bench), place(&bench));
    bench.room.end(first);
    bench.pass(200);
    assert!(matches!(bench.room.claim(bench.now, next, 0), Claim::Pass(_)), "the second and last");
    let wall = bench.now;
    bench = bench.kill(wall);
    for _ in 0..40 {
        bench.pass(500);
        assert_eq!(bench.room.claim(bench.now, last, 0), Claim::Wait(last));
    }
    assert_eq!(bench.room.outlook().state, State::SoldOut);
}

#[test]
fn one_person_is_inside_once_whatever_numbers_they_collected_before_they_said_who_they_are() {
    let mut bench = Bench::new(places(2));
    let inside = fill(&mut bench, 2);
    let (anonymous, other) = (place(&bench), place(&bench));
    let Entry::Place(named) = bench.room.enter(bench.now, Visitor { subject: 9, steady: true }) else { panic!() };
    let next = place(&bench);
    inside.into_iter().for_each(|number| assert!(bench.room.end(number)));
    bench.pass(200);
    let Claim::Pass(pass) = bench.room.claim(bench.now, anonymous, 9) else { panic!("it is their turn") };
    assert_eq!(bench.room.claim(bench.now, named, 9), Claim::Gone, "the better of two places is theirs");
    assert_eq!(bench.room.claim(bench.now, other, 9), Claim::Pass(pass), "they are inside already");
    bench.pass(200);
    assert!(matches!(bench.room.claim(bench.now, next, 0), Claim::Pass(_)), "and what they do not need is somebody's");
    assert_eq!(proof(&bench).overshoot, 0);
}

#[test]
fn who_waits_hears_that_nothing_is_left_when_as_many_came_as_ever_may() {
    let mut bench = Bench::new(Rules { admission_cap: Some(3), ..places(2) });
    let inside = fill(&mut bench, 2);
    let (next, last) = (place(&bench), place(&bench));
    bench.room.end(inside[0]);
    bench.pass(300);
    assert_eq!(bench.room.outlook().state, State::Queueing, "a turn may be missed");
    assert!(matches!(bench.room.poll(bench.now, next, 0), Some(Claim::Pass(_))));
    bench.pass(100);
    assert_eq!(bench.room.outlook().state, State::SoldOut);
    assert_eq!(bench.room.poll(bench.now, last, 0), None);
    bench.set_rules(Rules { admission_cap: Some(10), ..places(2) });
    bench.room.end(inside[1]);
    bench.pass(300);
    assert!(matches!(bench.room.poll(bench.now, last, 0), Some(Claim::Pass(_))), "there is more to sell");
}
