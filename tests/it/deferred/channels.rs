//! An upstream of several channels: each is sent to at its own pace, and one that cannot be used holds up no other.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::support::{channel, channels_file, eventually, free_port};

/// A channel that answers 201, or 429 while it is told to.
fn desk() -> (Origin, Arc<AtomicBool>) {
    let busy = Arc::new(AtomicBool::new(false));
    let says = busy.clone();
    let origin = Origin::with(move |_, stream| {
        let status = if says.load(SeqCst) { "429 Busy" } else { "201 Created" };
        stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).is_ok()
    });
    (origin, busy)
}

fn file(a: SocketAddr, b: SocketAddr, settings: &str) -> String {
    let later = format!("later: {{respond_async: {{store: disk, when: always, status_rate: 100000/s, {settings}}}}}");
    let filters = [
        later.as_str(),
        "guard: {circuit_breaker: {consecutive_failures: 3, open_for: 60s}}",
        "pick: {failover: {policy: weighted}}",
    ];
    let channels = [channel("a", a, "weight: 70"), channel("b", b, "weight: 30")];
    channels_file(&channels, &[], &filters, "later, guard, pick") + "stores: {disk: {type: sqlite}}\n"
}

fn of(gateway: &Gateway, metric: &str, channel: &str) -> f64 {
    gateway.metric(&format!("tidegate_deferred_{metric}{{filter=\"later\",upstream=\"pay\",channel=\"{channel}\"}}"))
}

fn crowd(gateway: &Gateway, count: usize) -> Vec<String> {
    let mut raw = Raw::connect(gateway.public());
    let one = |number: usize| {
        raw.send(request(&keyed(&number.to_string()), "{}"));
        place(&raw.answer().expect("an answer"))
    };
    (0..count).map(one).collect()
}

#[test]
fn a_crowd_goes_out_at_the_pace_of_each_channel() {
    let ((a, _), (b, _)) = (desk(), desk());
    let gateway = Gateway::start(&file(a.address, b.address, "rate: 10/s"));
    let places = crowd(&gateway, 80);
    for place in &places {
        assert_eq!(result(&gateway, place).status, 201);
    }
    let (a, b) = (a.seen().len(), b.seen().len());
    assert_eq!(a + b, 80);
    // Both were needed all the while, as a crowd comes in far faster than at 20 a second: neither pace was the other's.
    assert!((32..=48).contains(&a), "{a} and {b}");
    assert_eq!(
        (of(&gateway, "sent_total", "a").round(), of(&gateway, "sent_total", "b").round()),
        (a as f64, b as f64)
    );
}

#[test]
fn a_busy_channel_becomes_slower_alone() {
    let ((a, busy), (b, _)) = (desk(), desk());
    let again = "rate: 50/s, retry: {attempts: 99, initial: 50ms, factor: 1.0}";
    let gateway = Gateway::start(&file(a.address, b.address, again));
    busy.store(true, SeqCst);
    let places = crowd(&gateway, 60);
    eventually("one is slower", PATIENCE, || of(&gateway, "rate", "a") < 40.0);
    assert!(of(&gateway, "rate", "b") > 49.0, "the other one is not");
    busy.store(false, SeqCst);
    for place in &places {
        assert_eq!(result(&gateway, place).status, 201);
    }
}

#[test]
fn a_channel_behind_an_open_breaker_rests_and_the_other_one_takes_all() {
    let (nobody, (b, _)) = (SocketAddr::from(([127, 0, 0, 1], free_port())), desk());
    let soon = "rate: 100/s, retry: {attempts: 99, initial: 50ms, factor: 1.0}";
    let gateway = Gateway::start(&file(nobody, b.address, soon));
    let places = crowd(&gateway, 100);
    let open = "tidegate_circuit_state{filter=\"guard\",upstream=\"pay\",channel=\"a\"}";
    eventually("its breaker is open", PATIENCE, || gateway.metric(open) > 0.5);
    for place in &places {
        assert_eq!(result(&gateway, place).status, 201);
    }
    assert_eq!(b.seen().len(), 100);
    let rested = of(&gateway, "sent_total", "b") > 99.0 && of(&gateway, "sent_total", "a") < 1.0;
    assert!(rested, "what was not sent to it is not counted as sent");
}
