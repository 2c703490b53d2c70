//! A channel that fails or crawls rests, requests go elsewhere, and an operator sees why.

use std::time::{Duration, Instant};

use crate::support::{Answer, Gateway, Moody, channel, channels_file, eventually, exchange, free_port, get};

const PICK: &str = "pick: {failover: {policy: priority}}";

fn file(a: &Moody, b: &Moody, guard: &str) -> String {
    let channels = [channel("a", a.address(), ""), channel("b", b.address(), "")];
    channels_file(&channels, &[], &[&format!("guard: {{circuit_breaker: {{{guard}}}}}"), PICK], "guard, pick")
}

fn post(gateway: &Gateway, headers: &str) -> Answer {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{headers}\r\nhello");
    exchange(gateway.public(), &head)
}

/// The channel that answered.
fn by(answer: &Answer) -> &str {
    answer.header("tidegate-channel").unwrap_or("none")
}

fn breaker(gateway: &Gateway, channel: &str) -> serde_json::Value {
    let all = gateway.admin("GET", "/-/breakers").json();
    let all = all["breakers"].as_array().expect("a list").clone();
    all.into_iter().find(|breaker| breaker["channel"] == channel).expect("a breaker")
}

fn fail(gateway: &Gateway, a: &Moody, times: usize) {
    a.says(500);
    for _ in 0..times {
        assert_eq!((post(gateway, "").status, a.asked("/") > 0), (500, true));
    }
}

#[test]
fn a_refused_connection_moves_a_payment_at_once_and_soon_nobody_tries_it() {
    let b = Moody::well();
    let dead = ([127, 0, 0, 1], free_port()).into();
    let channels = [channel("a", dead, ""), channel("b", b.address(), "")];
    let filters = ["guard: {circuit_breaker: {}}", PICK];
    let gateway = Gateway::start(&channels_file(&channels, &[], &filters, "guard, pick"));
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let answer = post(&gateway, "");
        fastest = fastest.min(start.elapsed());
        assert_eq!((answer.status, by(&answer), answer.header("tidegate-attempts")), (200, "b", Some("2")));
    }
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    let answer = post(&gateway, "");
    assert_eq!((answer.status, by(&answer), answer.header("tidegate-attempts")), (200, "b", Some("1")));
    assert!(b.origin.seen().iter().all(|seen| seen.body == b"hello"));
    assert_eq!(b.asked("/"), 6, "each payment once");
}

#[test]
fn five_slow_answers_open_it_and_one_probe_tries_again() {
    let (a, b) = (Moody::well(), Moody::well());
    a.takes(Duration::from_millis(300));
    let guard = "slow_call: 200ms, open_for: 2s, open_factor: 1";
    let gateway = Gateway::start(&file(&a, &b, guard));
    for _ in 0..5 {
        let answer = post(&gateway, "");
        assert_eq!((answer.status, by(&answer)), (200, "a"), "slow is counted, not cut off");
    }
    assert_eq!(by(&post(&gateway, "")), "b", "the very next one");
    let view = breaker(&gateway, "a");
    assert_eq!((&view["state"], &view["events"][0]["why"]), (&"open".into(), &"failures in a row".into()));
    assert!(gateway.stderr().contains("a breaker changed"), "{}", gateway.stderr());
    eventually("its time is over", Duration::from_secs(5), || breaker(&gateway, "a")["probed_in_ms"] == 0.0);
    std::thread::scope(|scope| {
        let four: Vec<_> = (0..4).map(|_| scope.spawn(|| by(&post(&gateway, "")).to_owned())).collect();
        let channels: Vec<_> = four.into_iter().map(|one| one.join().expect("an answer")).collect();
        assert_eq!(channels.iter().filter(|channel| *channel == "a").count(), 1, "{channels:?}");
    });
    assert_eq!(by(&post(&gateway, "")), "b", "the probe was slow");
    a.takes(Duration::ZERO);
    eventually("a probe closes it", Duration::from_secs(5), || {
        post(&gateway, "");
        breaker(&gateway, "a")["state"] == "closed"
    });
    assert_eq!(by(&post(&gateway, "")), "a");
    assert!(
        gateway.metric("tidegate_circuit_transitions_total{filter=\"guard\",upstream=\"pay\",channel=\"a\"") >= 5.0
    );
    assert!(gateway.metric("tidegate_circuit_state") < 0.5);
}

#[test]
fn with_every_channel_resting_nobody_is_asked_and_the_wait_is_told() {
    let (a, b) = (Moody::well(), Moody::well());
    b.says(503);
    let gateway = Gateway::start(&file(&a, &b, "open_for: 1h, open_max: 1h"));
    fail(&gateway, &a, 5);
    (0..5).for_each(|_| assert_eq!(post(&gateway, "").status, 503));
    let asked = (a.asked("/"), b.asked("/"));
    assert_eq!(asked, (5, 5));
    let answer = post(&gateway, "");
    let wait: u64 = answer.header("retry-after").and_then(|wait| wait.parse().ok()).expect("seconds");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("upstream-unavailable")));
    assert!((3_500..=3_600).contains(&wait), "{wait}");
    assert_eq!(answer.header("tidegate-outcome"), Some("not-sent"));
    assert_eq!((a.asked("/"), b.asked("/")), asked);
}

#[test]
fn a_reload_keeps_it_open_and_a_query_that_is_pinned_gets_through() {
    let (a, b) = (Moody::well(), Moody::well());
    let gateway = Gateway::start(&file(&a, &b, "open_for: 1h"));
    fail(&gateway, &a, 5);
    a.says(200);
    gateway.reload(&file(&a, &b, "open_for: 2h, consecutive_failures: 50"));
    assert_eq!(by(&post(&gateway, "")), "b", "a reload is no amnesty");
    let pin = "Tidegate-Channel: a\r\n";
    let answer = get(gateway.public(), "/state", pin);
    assert_eq!((answer.status, by(&answer), a.asked("/state")), (200, "a", 1));
    let answer = post(&gateway, pin);
    assert_eq!((answer.status, answer.header("tidegate-outcome")), (503, Some("not-sent")));
    assert_eq!(breaker(&gateway, "a")["state"], "open", "it was not time for a probe");
}

#[test]
fn an_operator_opens_closes_and_resets_it_and_is_named() {
    let (a, b) = (Moody::well(), Moody::well());
    let gateway = Gateway::start(&file(&a, &b, ""));
    assert_eq!(gateway.admin("POST", "/-/breakers/pay/a/open").status, 200);
    assert_eq!(by(&post(&gateway, "")), "b");
    gateway.reload(&file(&a, &b, "open_for: 1s"));
    assert_eq!(by(&post(&gateway, "")), "b", "a reload keeps an operator's word");
    let view = breaker(&gateway, "a");
    assert!(view["manual"]["by"].as_str().is_some_and(|by| by.starts_with("127.0.0.1:")), "{view}");
    assert_eq!(get(gateway.public(), "/", "Tidegate-Channel: a\r\n").status, 503, "nothing at all goes there");
    assert_eq!(gateway.admin("POST", "/-/breakers/pay/a/close").status, 200);
    fail(&gateway, &a, 20);
    a.says(200);
    assert_eq!(gateway.admin("POST", "/-/breakers/pay/a/reset").status, 200);
    let view = breaker(&gateway, "a");
    assert_eq!((&view["manual"], &view["state"]), (&serde_json::Value::Null, &"closed".into()));
    assert_eq!(by(&post(&gateway, "")), "a");
    assert_eq!(gateway.admin("POST", "/-/breakers/pay/c/open").status, 404);
    assert_eq!(gateway.admin("POST", "/-/breakers/pay/a/break").status, 404);
    assert_eq!(gateway.admin("GET", "/-/breakers/pay/a/open").status, 405);
}
