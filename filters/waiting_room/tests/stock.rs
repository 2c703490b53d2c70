//! What the shop has left, and what that means to those who wait.

use super::rooms::{fill, place, places};
use super::support::Bench;
use crate::waiting_room::document::{Standing, status};
use crate::waiting_room::rules::Rules;
use crate::waiting_room::{Claim, Entry, State, Visitor};

const NOBODY: [u64; 0] = [];
const STEADY: Visitor = Visitor { subject: 0, steady: true };

/// Twenty places, two people for each piece that is left.
fn two_each() -> Rules {
    Rules { per_piece: Some(2), ..places(20) }
}

/// Those of these who may come in now.
fn come_in(bench: &Bench, waiting: &[u64]) -> Vec<u64> {
    let came = |number: &&u64| matches!(bench.room.poll(bench.now, **number, 0), Some(Claim::Pass(_)));
    waiting.iter().filter(came).copied().collect()
}

#[test]
fn no_more_are_let_in_than_have_a_chance_at_what_is_left_and_more_when_there_is_more() {
    let mut bench = Bench::new(two_each());
    bench.room.set_stock(Some(3));
    bench.pass(200);
    let inside = fill(&mut bench, 6);
    let waiting: Vec<u64> = (0..10).map(|_| place(&bench)).collect();
    bench.pass(500);
    assert_eq!(come_in(&bench, &waiting), NOBODY, "six have a chance at three");
    // One orders: what they take is not in the stock any more, and they are not in anybody's way while they pay.
    bench.room.hold(bench.now, inside[0], std::time::Duration::from_secs(900));
    bench.room.set_stock(Some(2));
    bench.pass(500);
    assert_eq!(come_in(&bench, &waiting), NOBODY, "five are there for two");
    bench.room.end(inside[1]);
    bench.room.end(inside[2]);
    bench.pass(500);
    assert_eq!(come_in(&bench, &waiting), waiting[..1], "one more makes four");
    bench.room.set_stock(Some(0));
    bench.pass(200);
    assert_eq!(bench.room.outlook().state, State::SoldOut);
    bench.room.end(inside[3]);
    bench.pass(500);
    assert_eq!(come_in(&bench, &waiting[1..]), NOBODY);
    bench.room.set_stock(Some(4));
    bench.pass(500);
    assert_eq!(come_in(&bench, &waiting[1..]), waiting[1..6], "three are there, and five more have a chance at four");
    bench.room.set_stock(None);
    bench.pass(500);
    assert_eq!(come_in(&bench, &waiting[6..]), waiting[6..], "as many as there is room for");
}

#[test]
fn who_goes_to_pay_is_in_nobodys_way_after_a_kill_either() {
    let mut bench = Bench::new(two_each());
    bench.room.set_stock(Some(2));
    bench.pass(200);
    for number in fill(&mut bench, 4) {
        bench.room.hold(bench.now, number, std::time::Duration::from_secs(900));
    }
    let waiting: Vec<u64> = (0..3).map(|_| place(&bench)).collect();
    bench.room.set_stock(Some(0));
    bench.pass(200);
    for _ in 0..2 {
        // The second time from one line that says it all.
        let wall = bench.now;
        bench = bench.kill(wall);
        bench.pass(200);
    }
    bench.room.set_stock(Some(1));
    bench.pass(1_000);
    assert_eq!(come_in(&bench, &waiting), waiting[..2], "two have a chance at the one that came back");
}

#[test]
fn a_cap_that_is_used_up_is_lifted_by_the_operator_and_not_by_the_shop() {
    let mut bench = Bench::new(Rules { admission_cap: Some(1), ..two_each() });
    fill(&mut bench, 1);
    bench.room.set_stock(Some(50));
    bench.pass(200);
    assert_eq!(bench.room.outlook().state, State::SoldOut);
    bench.set_rules(two_each());
    bench.pass(200);
    assert!(matches!(bench.room.enter(bench.now, STEADY), Entry::Pass(_)));
}

/// How long the last of so many is asked to wait before the next look, where so many may still come in.
fn pause(crowd: u32, left: Option<u64>) -> u64 {
    let mut bench = Bench::new(Rules { admission_cap: left, ..Rules::new(100_000, 600, 300_000) });
    let mut last = 0;
    for came in 0..crowd {
        if came % 20_000 == 0 {
            // Numbers are laid in.
            bench.pass(100);
        }
        if let Entry::Place(number) = bench.room.enter(bench.now, STEADY) {
            last = number;
        }
    }
    bench.pass(100);
    status(&bench.room, Standing::Waiting(last), 0.0).poll_after_ms
}

#[test]
fn who_stands_behind_the_last_piece_looks_more_often_as_it_comes_near_and_a_million_do_not_stampede() {
    let (plain, near) = (pause(5_000, None), pause(5_000, Some(150)));
    assert_eq!(plain, 60_000);
    assert!(near <= 3_000, "it is decided within ten seconds: {near}");
    assert!((20_000..=30_000).contains(&pause(5_000, Some(1_300))), "a fifth of two minutes");
    let crowded = pause(120_000, Some(150));
    // So many look no more than six thousand times a second, all together.
    assert!(crowded >= 20_000, "{crowded}");
}

#[test]
fn what_the_shop_has_left_is_known_after_a_kill() {
    let mut bench = Bench::new(two_each());
    bench.room.set_stock(Some(1));
    bench.pass(200);
    fill(&mut bench, 2);
    let waiting: Vec<u64> = (0..5).map(|_| place(&bench)).collect();
    bench.pass(500);
    let wall = bench.now;
    let mut bench = bench.kill(wall);
    bench.pass(500);
    assert_eq!(come_in(&bench, &waiting), NOBODY, "two have a chance at one");
    bench.room.set_stock(Some(2));
    bench.pass(500);
    assert_eq!(come_in(&bench, &waiting).len(), 2);
}

#[test]
fn what_a_kill_left_in_doubt_keeps_no_piece_from_those_who_wait() {
    let mut bench = Bench::new(two_each());
    bench.room.set_stock(Some(1));
    bench.pass(200);
    let inside = fill(&mut bench, 2);
    let waiting: Vec<u64> = (0..4).map(|_| place(&bench)).collect();
    bench.pass(200);
    inside.iter().for_each(|number| assert!(bench.room.end(*number)));
    bench.pass(200);
    // Two have their turns; one takes it and orders, of which nothing is written down any more.
    assert!(matches!(bench.room.poll(bench.now, waiting[0], 0), Some(Claim::Pass(_))));
    bench.room.hold(bench.now, waiting[0], std::time::Duration::from_secs(900));
    let wall = bench.now;
    let mut bench = bench.kill(wall);
    bench.pass(1_000);
    assert_eq!(come_in(&bench, &waiting[2..]), waiting[2..], "the next two have a chance at once");
    assert!(bench.room.outlook().active + bench.room.outlook().ready <= 20);
    // What the shop says of the order again is heard.
    assert!(bench.room.hold(bench.now, waiting[0], std::time::Duration::from_secs(900)).is_some());
    assert!(bench.room.visit_began(waiting[0]).is_some_and(|began| began <= wall), "the order is not older than that");
}

#[test]
fn who_is_not_heard_since_a_kill_keeps_no_piece_for_longer_than_a_look_takes() {
    let mut bench = Bench::new(two_each());
    bench.room.set_stock(Some(1));
    bench.pass(200);
    let inside = fill(&mut bench, 2);
    let waiting: Vec<u64> = (0..2).map(|_| place(&bench)).collect();
    let (issued, expires, wall) = (bench.now, bench.now + 300_000, bench.now);
    let mut bench = bench.kill(wall);
    // One is there; what became of the other may have been lost.
    assert!(bench.room.visit(bench.now, inside[0], 0, issued, expires).is_some());
    bench.pass(20_000);
    assert_eq!(come_in(&bench, &waiting), NOBODY);
    bench.pass(11_000);
    assert_eq!(come_in(&bench, &waiting), waiting[..1]);
    assert!(bench.room.visit(bench.now, inside[1], 0, issued, expires).is_some(), "who is inside stays inside");
}

#[test]
fn a_room_that_an_operator_reopens_moves_until_the_shop_speaks_again() {
    let mut bench = Bench::new(two_each());
    bench.room.set_stock(Some(0));
    bench.pass(200);
    assert_eq!(bench.room.outlook().state, State::SoldOut);
    bench.room.set_sold_out(false);
    bench.pass(500);
    assert_eq!(fill(&mut bench, 3).len(), 3);
}
