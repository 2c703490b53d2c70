//! A crowd in front of a channel that bears 500 a second.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::support::eventually;

/// One crowd: how many reached the channel in each whole second from its last request until the line was empty.
fn crowd(gateway: &Gateway, arrivals: &Mutex<Vec<Instant>>, round: usize) -> Vec<usize> {
    const CLIENTS: usize = 50;
    const EACH: usize = 60;
    let address = gateway.public();
    arrivals.lock().expect("no poison").clear();
    let client = |client| {
        std::thread::spawn(move || {
            let mut raw = Raw::connect(address);
            let accepted = (0..EACH).filter(|number| {
                raw.send(request(&keyed(&format!("{round}-{client}-{number}")), "{}"));
                raw.answer().is_some_and(|answer| answer.status == 202)
            });
            accepted.count()
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    let accepted: usize = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    assert_eq!(accepted, CLIENTS * EACH);
    let mut from = Instant::now();
    let come = || arrivals.lock().expect("no poison").len();
    eventually("all are sent, once", Duration::from_secs(60), || come() == accepted);
    let arrivals = arrivals.lock().expect("no poison");
    let (end, mut seconds) = (*arrivals.iter().max().expect("some"), Vec::new());
    while from + Duration::from_secs(1) <= end {
        let second = from..from + Duration::from_secs(1);
        seconds.push(arrivals.iter().filter(|time| second.contains(*time)).count());
        from = second.end;
    }
    seconds
}

#[test]
fn a_burst_goes_out_at_500_in_every_second_and_every_promise_is_kept() {
    let arrivals: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = arrivals.clone();
    let origin = Origin::with(move |_, stream| {
        noted.lock().expect("no poison").push(Instant::now());
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let gateway = Gateway::start(&with(origin.address, ", when: always, rate: 500/s"));
    // What is held up on its way to the disk comes with what follows it, and this disk has neighbours. That every second
    // has its count within 5 % is proved on a stopped clock; here most are near it, none is much above, and nothing is
    // sent faster than the channel bears.
    let mut seen: Vec<usize> = (0..2).flat_map(|round| crowd(&gateway, &arrivals, round)).collect();
    seen.sort_unstable();
    assert!(seen.len() >= 6, "{seen:?}");
    assert!((375..=525).contains(&seen[seen.len() / 2]), "{seen:?}");
    assert!(seen.iter().all(|count| *count <= 600), "never much faster: {seen:?}");
    let done = || gateway.metric("tidegate_deferred_total{filter=\"later\",event=\"done\"}");
    eventually("all are done", PATIENCE, || done() > 2.0 * 3_000.0 - 0.5);
}

#[test]
fn a_small_merchant_beside_a_large_one_gets_its_turn() {
    let origin = shop(Duration::ZERO);
    let identity = "identity:\n  merchant:\n    - {header: x-merchant}\n";
    let settings = ", when: always, scope: merchant, rate: 50/s";
    let gateway = Gateway::start(&format!("{}{identity}", with(origin.address, settings)));
    for number in 0..150 {
        assert_eq!(post(&gateway, &format!("X-Merchant: large\r\n{}", keyed(&number.to_string())), "{}").status, 202);
    }
    let waiting = gateway.metric("tidegate_deferred_depth");
    let small = post(&gateway, &format!("X-Merchant: small\r\n{}", keyed("s")), "{}");
    let place = small.json();
    assert!(place["place"].as_u64().is_none_or(|place| place <= 3), "{waiting} wait, and it stands at {place}");
    let at = super::place(&small);
    let answer = get(gateway.public(), &format!("{at}/result"), "X-Merchant: small\r\nPrefer: wait=10\r\n");
    assert_eq!(answer.status, 201);
    let still = gateway.metric("tidegate_deferred_depth");
    assert!(waiting < 5.0 || still > waiting / 2.0, "it waited for the large one: {waiting} before, {still} after");
}

#[test]
fn who_finds_no_room_is_told_and_one_identity_has_its_quota() {
    let origin = shop(Duration::from_secs(2));
    let gateway = Gateway::start(&with(origin.address, ", when: always, max_records: 2, max_in_flight: 1"));
    for key in ["a", "b"] {
        assert_eq!(post(&gateway, &keyed(key), "{}").status, 202);
    }
    let full = post(&gateway, &keyed("c"), "{}");
    assert_eq!((full.status, full.json()["code"].as_str()), (503, Some("deferred-full")));
    assert!(full.header("retry-after").is_some());
    assert_eq!(post(&gateway, &keyed("a"), "{}").status, 202, "who is in already is no newcomer");
    let mine = ", when: always, max_per_identity: 2, max_in_flight: 1";
    let gateway = Gateway::start(&with(origin.address, mine));
    for key in ["a", "b"] {
        assert_eq!(post(&gateway, &keyed(key), "{}").status, 202);
    }
    let quota = post(&gateway, &keyed("c"), "{}");
    assert_eq!((quota.status, quota.json()["code"].as_str()), (429, Some("quota-exceeded")));
}

#[test]
fn two_hundred_of_one_key_at_once_are_one_request() {
    let origin = shop(Duration::from_millis(200));
    let gateway = Gateway::start(&with(origin.address, ", when: always"));
    let address = gateway.public();
    let same: Vec<_> =
        (0..200).map(|_| std::thread::spawn(move || exchange(address, &request(&keyed("k"), "{\"qty\":1}")))).collect();
    let answers: Vec<Answer> = same.into_iter().map(|one| one.join().expect("a client")).collect();
    let places: std::collections::HashSet<_> =
        answers.iter().filter(|answer| answer.status == 202).map(place).collect();
    assert_eq!(places.len(), 1);
    assert!(answers.iter().all(|answer| matches!(answer.status, 201 | 202)), "a promise or its answer");
    assert_eq!(result(&gateway, places.iter().next().expect("one")).text(), "{\"order\":1}");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_reload_loses_nobody_and_changes_the_pace_of_those_who_wait() {
    let origin = shop(Duration::ZERO);
    let gateway = Gateway::start(&with(origin.address, ", when: always, rate: 1/10s"));
    let places: Vec<String> = (0..20).map(|key| place(&post(&gateway, &keyed(&key.to_string()), "{}"))).collect();
    gateway.reload(&with(origin.address, ", when: always, rate: 1000/s"));
    // All but the first would have waited for minutes.
    for place in &places {
        assert_eq!(result(&gateway, place).status, 201);
    }
    assert_eq!(origin.seen().len(), 20);
}
