//! The configuration changes while traffic flows: nothing fails, nothing is forgotten, nothing is forgiven.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::{Gateway, Origin, Raw, eventually, get, one_route};

fn limited(origin: SocketAddr, rate: &str, more: &str) -> String {
    let filter = format!(
        "filters:
  quota:
    rate_limit:
      policies: [{{name: client, key: client, rate: {rate}}}]
{more}"
    );
    one_route(origin, "", "    filters: [quota]", &filter)
}

/// How many of `tries` requests on one connection pass.
fn passed(gateway: &Gateway, tries: usize) -> usize {
    let mut raw = Raw::connect(gateway.public());
    let one = |_| {
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        raw.answer().expect("an answer").status == 200
    };
    (0..tries).map(one).filter(|passed| *passed).count()
}

#[test]
fn an_edit_changes_a_limit_within_a_second() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&limited(origin.address, "1000000/s", ""));
    assert_eq!(passed(&gateway, 20), 20);
    let start = Instant::now();
    gateway.write_config(&limited(origin.address, "1/h", ""));
    eventually("the new limit holds", Duration::from_secs(1), || get(gateway.public(), "/", "").status == 429);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_reload_forgives_nothing() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&limited(origin.address, "10/h", ""));
    assert_eq!(passed(&gateway, 15), 10);
    for number in 0..5 {
        // Another filter comes and goes; the quota itself stays as it is.
        let more = if number % 2 == 0 { "  extra: {headers: {response: {set: {x-a: b}}}}" } else { "" };
        gateway.reload(&limited(origin.address, "10/h", more));
        assert_eq!(passed(&gateway, 5), 0, "reload {number} gave tokens away");
    }
    // Twice the rate: what was used stays used, and the new room is there at once or comes with time, never in full.
    gateway.reload(&limited(origin.address, "20/h", ""));
    assert!(passed(&gateway, 25) <= 10, "a rescaled bucket is not a new one");
}

#[test]
fn a_typo_keeps_the_old_file_serving_and_says_where_it_is() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&limited(origin.address, "1000000/s", ""));
    gateway.write_config(&limited(origin.address, "1000000/s", "").replace("rate_limit:", "rate_limt:"));
    let status = || gateway.admin("GET", "/-/config/status").text();
    eventually("the failure is reported", Duration::from_secs(5), || status().contains("rate_limt"));
    assert!(status().contains("rate_limit"), "a suggestion: {}", status());
    assert_eq!((gateway.generation(), passed(&gateway, 20)), (1, 20));
    assert!(gateway.metric("tidegate_config_last_reload_successful") < 0.5);
    gateway.reload(&limited(origin.address, "1/h", ""));
    assert_eq!(passed(&gateway, 3), 1);
    assert!(gateway.metric("tidegate_config_last_reload_successful") > 0.5);
}

#[test]
fn changes_that_need_a_restart_are_refused_by_name() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&limited(origin.address, "1000000/s", ""));
    gateway.write_config(&limited(origin.address, "1/h", "").replace("server:\n", "server:\n  threads: 7\n"));
    let status = || gateway.admin("GET", "/-/config/status").text();
    eventually("the refusal is reported", Duration::from_secs(5), || status().contains("server.threads"));
    assert_eq!((gateway.generation(), passed(&gateway, 20)), (1, 20), "nothing of it was taken over");
}

/// Clients that keep their connections and count what goes wrong.
fn load(address: SocketAddr, clients: usize, over: &AtomicBool, failed: &AtomicUsize, done: &AtomicUsize) {
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut raw = Raw::connect(address);
                while !over.load(SeqCst) {
                    raw.send("GET /load HTTP/1.1\r\nHost: a\r\n\r\n");
                    match raw.answer() {
                        Some(answer) if answer.status == 200 => _ = done.fetch_add(1, SeqCst),
                        _ => {
                            failed.fetch_add(1, SeqCst);
                            return;
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn fifty_reloads_under_load_fail_no_request_and_drop_no_connection() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&limited(origin.address, "1000000/s", ""));
    let (over, failed, done) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let answers = std::thread::scope(|scope| {
        scope.spawn(|| load(gateway.public(), 8, &over, &failed, &done));
        let one = |number| {
            let rate = if number % 2 == 0 { "900000/s" } else { "1000000/s" };
            let extra = format!("  f{number}: {{headers: {{response: {{set: {{x-n: n{number}}}}}}}}}");
            gateway.write_config(&limited(origin.address, rate, &extra));
            std::thread::sleep(Duration::from_millis(20));
            gateway.admin("POST", "/-/reload")
        };
        let answers: Vec<_> = (0..50).map(one).collect();
        over.store(true, SeqCst);
        answers
    });
    for answer in answers {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert!(gateway.generation() >= 51, "{}", gateway.generation());
    assert_eq!(failed.load(SeqCst), 0, "of {} requests", done.load(SeqCst));
    assert!(done.load(SeqCst) > 100, "only {} requests in that time", done.load(SeqCst));
}

#[test]
fn a_request_lives_under_the_configuration_it_began_with() {
    let origin = Origin::with(|_, stream| {
        std::thread::sleep(Duration::from_millis(1500));
        std::io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let mark = |text: &str| {
        let filter = format!("filters: {{mark: {{headers: {{response: {{set: {{x-mark: {text}}}}}}}}}}}");
        one_route(origin.address, "", "    filters: [mark]", &filter)
    };
    let gateway = Gateway::start(&mark("old"));
    let mut raw = Raw::connect(gateway.public());
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(200));
    gateway.reload(&mark("new"));
    assert_eq!(raw.answer().expect("an answer").header("x-mark"), Some("old"));
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(raw.answer().expect("an answer").header("x-mark"), Some("new"));
}
