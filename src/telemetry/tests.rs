//! What the log and the figures promise.

use std::time::Duration;

use super::escape::{json_text, masked_target};
use super::histogram::Histogram;
use super::*;

fn record<'a>(target: &'a str) -> AccessRecord<'a> {
    AccessRecord {
        time_unix: Duration::from_millis(1_700_000_000_042),
        request_id: b"id",
        route: Place::Known("\",\"listener\":\"public\",\"route\":\"buy\",\"method\":\""),
        method: "POST",
        target,
        status: 429,
        decision: "refused",
        decider: Some(("limits", Some("user"))),
        code: Some("quota-exceeded"),
        client: "192.0.2.7".parse().unwrap(),
        user: Some("u\"1"),
        channel: None,
        payment: None,
        attempts: 0,
        outcome: None,
        duration: Duration::from_micros(42),
        wait: Duration::ZERO,
        bytes_sent: 300,
        generation: 3,
        protocol: "h1",
        notes: &[("shadow_reject", 1)],
    }
}

#[test]
fn a_line_is_one_json_object_that_says_who_decided() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLog::open(AccessLogTarget::File(path.clone())).unwrap();
    log.line(&record("/buy?note=\u{1}\"\\\u{7f}"));
    log.flush();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 1);
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["decided_by"], "limits");
    assert_eq!(line["policy"], "user");
    assert_eq!(line["user"], "u\"1");
    assert_eq!(line["ts"], 1_700_000_000.042);
    assert_eq!(line["target"], "/buy?note=\u{1}\"\\\u{7f}");
    assert_eq!(line["shadow_reject"], 1);
}

#[test]
fn card_numbers_do_not_reach_the_log() {
    let mut out = Vec::new();
    masked_target(&mut out, "/pay?pan=4111111111111111&order=1234567890123", 512);
    assert_eq!(out, br#""/pay?pan=411111******1111&order=1234567890123""#);
}

#[test]
fn a_long_target_is_cut_at_a_character() {
    let mut out = Vec::new();
    masked_target(&mut out, "/张三", 3);
    assert_eq!(String::from_utf8(out).unwrap(), "\"/…\"");
    let mut out = Vec::new();
    json_text(&mut out, "a\nb");
    assert_eq!(out, b"\"a\\u000ab\"");
}

#[test]
fn a_log_that_is_dropped_writes_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = AccessLog::open(AccessLogTarget::File(path.clone())).unwrap();
    for _ in 0..1_000 {
        log.line(&record("/"));
    }
    drop(log);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1_000);
}

#[test]
fn a_histogram_counts_each_duration_once_and_cumulatively() {
    let histogram = Histogram::default();
    for micros in [50, 100, 101, 40_000_000] {
        histogram.observe(Duration::from_micros(micros));
    }
    let (cumulative, _) = histogram.read();
    assert_eq!((cumulative[0], cumulative[1], cumulative[cumulative.len() - 1]), (2, 3, 4));
}
