//! Kills, disks that fail, clocks that are set back.

use std::sync::atomic::Ordering::Relaxed;

use super::rooms::{fill, place, places};
use super::support::{Bench, START};
use crate::waiting_room::Claim;

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
