//! Tries that fail: what is sent again, when, and what never is.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::support::{channel, channels_file, eventually, free_port};

/// Retries in tenths of a second.
const QUICK: &str = ", when: always, retry: {initial: 100ms}, dead_letter: {every: 600ms}";

/// Answers with a status and notes when it was asked.
fn saying(status: u16) -> (Origin, Arc<std::sync::Mutex<Vec<Instant>>>) {
    let times = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = times.clone();
    let origin = Origin::with(move |_, stream| {
        noted.lock().expect("no poison").push(Instant::now());
        stream.write_all(format!("HTTP/1.1 {status} Said\r\nContent-Length: 2\r\n\r\nno").as_bytes()).is_ok()
    });
    (origin, times)
}

#[test]
fn what_is_never_acted_on_is_tried_at_1_2_and_4_then_thrice_as_a_dead_letter_then_parked() {
    let (origin, times) = saying(429);
    let gateway = Gateway::start(&with(origin.address, QUICK));
    let place = place(&post(&gateway, &keyed("k"), "{}"));
    eventually("it is parked", PATIENCE, || status(&gateway, &place) == "PARKED");
    let times = times.lock().expect("no poison").clone();
    let pauses: Vec<u128> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(pauses.len(), 6, "{pauses:?}");
    for (pause, wanted) in pauses.iter().zip([100, 200, 400, 600, 600, 600]) {
        assert!((wanted..wanted + 150).contains(pause), "{pauses:?}");
    }
    let stuck = gateway.admin("GET", "/-/async/requests?state=parked").json();
    assert_eq!(
        (stuck["requests"][0]["tries"].as_u64(), stuck["requests"][0]["why"].as_str()),
        (Some(7), Some("answered 429"))
    );
    assert!(gateway.metric("tidegate_deferred_records{filter=\"later\",state=\"parked\"}") > 0.5);
    assert!(gateway.stderr().contains("PARKED: every try is used up"), "an alarm");
    let counts = gateway.admin("GET", "/-/async").json();
    assert_eq!(counts["filters"][0]["states"]["PARKED"], 1, "{counts}");
}

#[test]
fn a_person_lets_what_is_parked_be_sent_again() {
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let gateway = Gateway::start(&with(address, ", when: always, retry: {attempts: 1}, dead_letter: {attempts: 0}"));
    let place = place(&post(&gateway, &keyed("k"), "{}"));
    eventually("it is parked", PATIENCE, || status(&gateway, &place) == "PARKED");
    let id = place.rsplit('/').next().expect("an id");
    let listener = std::net::TcpListener::bind(address).expect("the port is still free");
    std::thread::spawn(move || {
        use std::io::Read;
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
        }
    });
    let requeued = gateway.admin("POST", &format!("/-/async/requests/{id}/requeue"));
    assert_eq!(requeued.status, 200, "surely not carried out, so no reason is needed: {requeued:?}");
    assert_eq!(result(&gateway, &place).text(), "good");
}

#[test]
fn a_failure_behind_the_sending_is_unknown_and_not_sent_again() {
    for status_line in ["500", "503", ""] {
        let origin = Origin::with(move |_, stream| {
            let answer = format!("HTTP/1.1 {status_line} Oops\r\nContent-Length: 4\r\n\r\noops");
            !status_line.is_empty() && stream.write_all(answer.as_bytes()).is_ok()
        });
        let gateway = Gateway::start(&with(origin.address, QUICK));
        let place = place(&post(&gateway, &keyed("k"), "{}"));
        eventually("nobody knows", PATIENCE, || status(&gateway, &place) == "UNKNOWN");
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(origin.seen().len(), 1, "{status_line}");
        assert_eq!(result_now(&gateway, &place), 409);
    }
}

fn result_now(gateway: &Gateway, place: &str) -> u16 {
    get(gateway.public(), &format!("{place}/result"), "").status
}

#[test]
fn every_other_answer_is_the_answer() {
    for status in [200, 302, 404, 409, 422] {
        let (origin, _) = saying(status);
        let gateway = Gateway::start(&with(origin.address, QUICK));
        let place = place(&post(&gateway, "", "{}"));
        assert_eq!(result(&gateway, &place).status, status);
        assert_eq!(origin.seen().len(), 1);
    }
}

#[test]
fn an_open_breaker_pauses_the_line_and_costs_no_try() {
    let (origin, times) = saying(429);
    let filters = [
        "later: {respond_async: {store: disk, when: always, status_rate: 100000/s, retry: {attempts: 9, initial: 50ms, factor: 1.0}}}",
        "guard: {circuit_breaker: {consecutive_failures: 2, open_for: 1500ms}}",
    ];
    let port = free_port();
    let nobody = channel("nobody", SocketAddr::from(([127, 0, 0, 1], port)), "");
    let yaml = channels_file(&[nobody], &[], &filters, "later, guard") + "stores: {disk: {type: sqlite}}\n";
    let gateway = Gateway::start(&yaml);
    let place = place(&post(&gateway, "", "{}"));
    eventually("the breaker is open", PATIENCE, || gateway.metric("tidegate_deferred_paused") > 0.5);
    let id = place.rsplit('/').next().expect("an id").to_owned();
    let tries = || gateway.admin("GET", &format!("/-/async/requests/{id}")).json()["tries"].as_u64();
    assert_eq!(tries(), Some(2));
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(tries(), Some(2), "nobody was asked meanwhile");
    assert_eq!(status(&gateway, &place), "QUEUED");
    drop((origin, times));
}
