//! Those of whom a kill has left it open whether they are inside.

use std::time::Duration;

use super::rooms::{fill, place, places};
use super::support::Bench;
use crate::waiting_room::Claim;
use crate::waiting_room::rules::{Limits, Method, Rules};

/// A room of so many places in which two turns were open when it was killed, for the first two of these three.
fn killed_with_two_turns(rules: Rules) -> (Bench, [u64; 3]) {
    let mut bench = Bench::new(rules);
    bench.room.set_stock(Some(10));
    let inside = fill(&mut bench, 2);
    let mut waiting = [0; 3];
    for place_of in &mut waiting[..2] {
        *place_of = place(&bench);
    }
    bench.pass(200);
    inside.into_iter().for_each(|number| bench.room.leave(bench.now, number));
    bench.pass(300);
    waiting[2] = place(&bench);
    bench.pass(300);
    let wall = bench.now;
    (bench.kill(wall), waiting)
}

fn comes_in(bench: &mut Bench, number: u64) -> bool {
    (0..100).any(|_| {
        bench.pass(1_000);
        matches!(bench.room.poll(bench.now, number, 0), Some(Claim::Pass(_)))
    })
}

#[test]
fn chance_does_not_fall_again_on_who_has_a_turn_since_before_a_kill() {
    let rules = places(2);
    let limits = Limits { method: Method::Random, ..rules.limits };
    let (mut bench, [first, second, third]) = killed_with_two_turns(Rules { limits, per_piece: Some(1), ..rules });
    for number in [first, second, third] {
        assert!(comes_in(&mut bench, number), "{number} of {first}, {second}, {third}");
        bench.room.leave(bench.now, number);
        bench.pass(200);
    }
    // Whatever was in doubt is settled, and the next one is not kept out by it.
    let wall = bench.now;
    let mut bench = bench.kill(wall);
    bench.pass(120_000);
    let inside = fill(&mut bench, 2);
    let next = place(&bench);
    bench.room.leave(bench.now, inside[0]);
    assert!(comes_in(&mut bench, next));
}

#[test]
fn a_word_that_ends_a_visit_ends_it_also_where_a_kill_left_the_turn_in_doubt() {
    let (mut bench, [first, second, third]) = killed_with_two_turns(places(2));
    // Both had come in, of which nothing was written down, and are done now.
    assert!(bench.room.end(first) && bench.room.end(second));
    let begun = bench.now;
    assert!(comes_in(&mut bench, third));
    assert!(bench.now - begun <= 5_000, "{} ms for a place that was free", bench.now - begun);
}

#[test]
fn who_comes_back_from_paying_after_a_kill_is_ended_by_the_order_that_they_paid() {
    let mut bench = Bench::new(Rules { per_piece: Some(1), ..places(1) });
    bench.room.set_stock(Some(1));
    let buyer = fill(&mut bench, 1)[0];
    bench.pass(5_000);
    // The shop takes its time over the order: it is older than the token that its answer brings.
    let ordered = bench.now;
    bench.pass(2_500);
    let (issued, expires) = (bench.now, bench.now + 900_000);
    bench.room.hold(bench.now, buyer, Duration::from_secs(900));
    let wall = bench.now;
    let mut bench = bench.kill(wall);
    // Longer than the visit as the journal knows it.
    bench.pass(301_000);
    assert!(bench.room.come_back(bench.now, buyer, issued, expires).is_some());
    assert!(bench.room.visit_began(buyer).is_some_and(|began| began <= ordered), "the order is of this visit");
    let waiting = place(&bench);
    assert!(bench.room.end(buyer));
    assert!(comes_in(&mut bench, waiting));
}
