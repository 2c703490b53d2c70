//! What visitors read.

use super::support::{Bench, settings};
use crate::waiting_room::document::{Standing, frontier, status};
use crate::waiting_room::rules::Rules;
use crate::waiting_room::{Claim, Entry, Visitor};

const STEADY: Visitor = Visitor { subject: 0, steady: true };

/// A room that lets sixty a minute in, half a minute after four hundred came.
fn crowded() -> (Bench, Vec<u64>) {
    let mut bench = Bench::new(Rules::new(10_000, 60, 300_000));
    let mut waiting: Vec<u64> = (0..400)
        .filter_map(|_| match bench.room.enter(bench.now, STEADY) {
            Entry::Place(number) => Some(number),
            _ => None,
        })
        .collect();
    for _ in 0..60 {
        bench.pass(500);
        waiting.retain(|number| !matches!(bench.room.poll(bench.now, *number, 0), Some(Claim::Pass(_))));
    }
    (bench, waiting)
}

#[test]
fn a_visitor_reads_an_honest_place_and_wait() {
    let (bench, waiting) = crowded();
    let told = status(&bench.room, Standing::Waiting(waiting[99]), 0.0);
    let document: serde_json::Value = serde_json::from_str(&told.to_json()).unwrap();
    assert_eq!(document["positionAhead"], 99);
    assert_eq!(document["queueLength"].as_u64(), Some(waiting.len() as u64));
    let wait = document["waitTimeSeconds"].as_u64().unwrap();
    assert!((80..=120).contains(&wait), "{wait} s for 100 at one a second");
    assert!((16_000..=24_000).contains(&told.poll_after_ms), "a fifth of the wait: {}", told.poll_after_ms);
    assert!(document["waitTime90Percentile"].as_u64().unwrap() > wait);
    assert_eq!(document["statusUrl"], "/.tidegate/wr/demo/status");
    assert!(told.compatible.is_none(), "nobody asked for other names");
}

#[test]
fn who_is_told_by_nobody_looks_at_the_public_document_within_the_second_and_a_million_more_rarely() {
    let (bench, _) = crowded();
    let told = status(&bench.room, Standing::Waiting(200), 0.0);
    assert_eq!(told.common.frontier_after_ms, 800);
    let least: u64 = (1..=1_000_000).step_by(9_999).map(|many| bench.room.peek_after(many)).min().unwrap();
    assert_eq!(least, 800);
    let most = (1..=1_000_000u64).step_by(9_999).map(|many| many * 1_000 / bench.room.peek_after(many)).max().unwrap();
    assert!(most <= 12_500, "{most} looks a second");
}

#[test]
fn programs_written_for_cloudflare_read_the_names_they_know_and_no_others() {
    let mut cloudflare = settings(Rules::new(10_000, 60, 300_000));
    cloudflare.cloudflare = true;
    let bench = Bench::with(cloudflare);
    let told = status(&bench.room, Standing::Waiting(1), 0.0);
    let document = serde_json::to_value(told.compatible).unwrap();
    assert_eq!(document.as_object().unwrap().len(), 25);
    for name in [
        "inWaitingRoom",
        "waitTimeKnown",
        "waitTime",
        "waitTime25Percentile",
        "waitTime50Percentile",
        "waitTime75Percentile",
        "waitTimeFormatted",
        "queueIsFull",
        "queueAll",
        "lastUpdated",
        "refreshIntervalSeconds",
        "queueingMethod",
        "isFIFOQueue",
        "isRandomQueue",
        "isPassthroughQueue",
        "isRejectQueue",
        "isEventActive",
        "isEventPrequeueing",
        "timeUntilEventStart",
        "timeUntilEventStartFormatted",
        "timeUntilEventEnd",
        "timeUntilEventEndFormatted",
        "shuffleAtEventStart",
        "turnstile",
        "infiniteQueue",
    ] {
        assert!(!document[name].is_null(), "{name}");
    }
    assert_eq!(document["lastUpdated"], "2027-01-15T08:00:00Z");
}

#[test]
fn everybody_reads_the_same_frontier_and_can_find_their_place_in_it() {
    let (bench, waiting) = crowded();
    let bytes = frontier(&bench.room);
    assert_eq!(bytes, frontier(&bench.room));
    let document: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let live = document["live"].as_array().unwrap();
    assert_eq!(live.len(), 64);
    assert_eq!(live[63], serde_json::json!([waiting.last().unwrap(), waiting.len()]));
    assert!(bytes.len() < 2_048, "{} bytes", bytes.len());
}

#[test]
fn nobody_is_asked_to_look_so_rarely_that_their_turn_could_come_and_go_meanwhile() {
    let mut bench = Bench::new(Rules::new(1, 60, 3_600_000));
    let numbers: Vec<u64> = (0..200)
        .filter_map(|_| match bench.room.enter(bench.now, STEADY) {
            Entry::Place(number) => Some(number),
            _ => None,
        })
        .collect();
    bench.pass(200);
    for (ahead, number) in numbers.iter().enumerate() {
        let told = status(&bench.room, Standing::Waiting(*number), 1.0);
        let soonest = ahead as u64 * 1_000;
        // A turn is kept for half as long again as a page without scripts takes to look.
        assert!(told.poll_after_ms < soonest + 30_000, "{} for {ahead}", told.poll_after_ms);
    }
}
