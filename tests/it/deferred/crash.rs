//! The gateway dies, and what it promised holds.

use std::collections::HashSet;

use super::*;
use crate::support::{eventually, kill_rounds};

/// The value that an origin's requests carry in their key.
fn keys(origin: &Origin) -> Vec<String> {
    origin.seen().iter().filter_map(|seen| seen.header("idempotency-key").map(str::to_owned)).collect()
}

/// Requests are promised, and the gateway is killed, again and again; every promise with its key.
fn storm(gateway: &mut Gateway) -> Vec<(String, String)> {
    let mut promised = Vec::new();
    for round in 0..kill_rounds(6) {
        for number in 0..12 {
            let key = format!("k-{round}-{number}");
            promised.push((key.clone(), place(&post(gateway, &keyed(&key), "{}"))));
        }
        // Some are done, some under way, some wait.
        std::thread::sleep(Duration::from_millis(20 * (round as u64 % 4)));
        gateway.kill_and_start();
    }
    promised
}

/// Longer than the line of so many rounds takes.
fn patience() -> Duration {
    PATIENCE + Duration::from_millis(300) * u32::try_from(kill_rounds(6)).expect("few")
}

#[test]
fn every_promise_that_was_seen_is_kept_after_a_crash_and_none_of_them_twice() {
    let origin = shop(Duration::from_millis(5));
    let mut gateway = Gateway::start(&with(origin.address, ", when: always, rate: 60/s"));
    let promised = storm(&mut gateway);
    let stands = |gateway: &Gateway| -> Vec<String> { promised.iter().map(|(_, at)| status(gateway, at)).collect() };
    let over = |stand: &String| stand == "DONE" || stand == "UNKNOWN";
    eventually("every promise is kept or in doubt", patience(), || stands(&gateway).iter().all(over));
    let sent = keys(&origin);
    let once: HashSet<&String> = sent.iter().collect();
    assert_eq!(once.len(), sent.len(), "something was sent twice: {sent:?}");
    for ((key, at), stand) in promised.iter().zip(stands(&gateway)) {
        if stand == "DONE" {
            assert_eq!(get(gateway.public(), &format!("{at}/result"), "").status, 201, "{key}");
            assert!(once.contains(key), "{key} is done and was never sent");
        }
    }
    // A crash finds at most what was under way at its moment.
    let done = stands(&gateway).iter().filter(|stand| *stand == "DONE").count();
    assert!(done * 3 >= promised.len() * 2, "{done} of {}", promised.len());
}

#[test]
fn where_the_upstream_knows_keys_every_promise_is_answered_in_the_end_with_one_order_a_key() {
    // Knows keys as an upstream has to: the number of an order is its key.
    let origin = Origin::with(|seen, stream| {
        let body = format!("{{\"order\":\"{}\"}}", seen.header("idempotency-key").unwrap_or_default());
        std::thread::sleep(Duration::from_millis(5));
        let head = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\n";
        stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).is_ok()
    });
    let settings = ", when: always, rate: 60/s, backend_idempotent: true";
    let mut gateway = Gateway::start(&with(origin.address, settings));
    let promised = storm(&mut gateway);
    let answer = |at: &str| get(gateway.public(), &format!("{at}/result"), "");
    eventually("every promise is kept", patience(), || promised.iter().all(|(_, at)| answer(at).status == 201));
    for (key, at) in &promised {
        assert_eq!(answer(at).json()["order"], **key);
    }
}

#[test]
fn what_was_being_sent_is_unknown_and_a_person_has_the_last_word() {
    let origin = shop(Duration::from_secs(3));
    let mut gateway = Gateway::start(&with(origin.address, ", when: always"));
    let place = place(&post(&gateway, &keyed("k"), "{}"));
    eventually("it is under way", PATIENCE, || origin.seen().len() == 1);
    gateway.kill_and_start();
    assert_eq!(status(&gateway, &place), "UNKNOWN");
    let again = post(&gateway, &keyed("k"), "{}");
    assert_eq!((again.status, again.json()["status"].as_str()), (202, Some("UNKNOWN")));
    let id = place.rsplit('/').next().expect("an id");
    let admin = |what: &str, body: &str| {
        let head = format!("POST /-/async/requests/{id}/{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        exchange(gateway.address("admin"), &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))
    };
    assert_eq!(admin("requeue", "").json()["code"], "in-doubt");
    assert_eq!(admin("cancel", "").status, 409, "what may have been carried out is not withdrawn");
    assert_eq!(admin("resolve", r#"{"reason":"seen at the shop"}"#).status, 400);
    let resolved = admin("resolve", r#"{"reason":"seen at the shop","status":201,"body":{"order":1}}"#);
    assert_eq!((resolved.status, resolved.json()["state"].as_str()), (200, Some("DONE")), "{resolved:?}");
    let told = result(&gateway, &place);
    assert_eq!((told.status, told.text().as_str()), (201, "{\"order\":1}\n"));
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn an_upstream_that_knows_keys_gets_what_was_being_sent_again() {
    let origin = shop(Duration::from_millis(1_000));
    let mut gateway = Gateway::start(&with(origin.address, ", when: always, backend_idempotent: true"));
    let place = place(&post(&gateway, &keyed("k"), "{}"));
    eventually("it is under way", PATIENCE, || origin.seen().len() == 1);
    gateway.kill_and_start();
    assert_eq!(result(&gateway, &place).status, 201);
    assert_eq!(keys(&origin), ["k", "k"]);
}

#[test]
fn a_stopping_gateway_ends_what_is_under_way_and_begins_nothing() {
    let origin = shop(Duration::from_millis(600));
    let mut gateway = Gateway::start(&with(origin.address, ", when: always, max_in_flight: 1"));
    let first = place(&post(&gateway, "", "{}"));
    eventually("the first is under way", PATIENCE, || origin.seen().len() == 1);
    let second = place(&post(&gateway, "", "{}"));
    gateway.signal("TERM");
    assert!(gateway.ended_within(PATIENCE).is_some());
    assert_eq!(origin.seen().len(), 1);
    gateway.kill_and_start();
    assert_eq!(status(&gateway, &first), "DONE");
    assert_eq!(result(&gateway, &second).status, 201);
}
