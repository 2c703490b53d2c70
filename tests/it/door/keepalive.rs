//! Connections go on after an answer unless there is a reason.

use std::time::Duration;

use crate::support::{Gateway, Origin, Raw, one_route};

const LIMITED: &str = "    filters: [once]";
const ONCE: &str = "filters:
  once:
    rate_limit:
      policies:
        - {name: client, key: client, rate: 1/h}";

#[test]
fn a_refusal_keeps_the_connection() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", LIMITED, ONCE));
    let mut raw = Raw::connect(gateway.public());
    for number in 0..50 {
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = raw.answer().unwrap_or_else(|| panic!("no answer {number}"));
        assert_eq!(answer.status, if number == 0 { 200 } else { 429 });
        if number > 0 {
            let wait: u64 = answer.header("retry-after").and_then(|value| value.parse().ok()).expect("a number");
            assert!((3_590..=3_600).contains(&wait), "{wait}");
            assert_eq!(answer.json()["status"], 429);
        }
    }
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_refused_request_with_a_body_leaves_the_next_request_intact() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", LIMITED, ONCE));
    let mut raw = Raw::connect(gateway.public());
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(raw.answer().expect("an answer").status, 200);
    for body in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
        raw.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(raw.answer().expect("an answer to the POST").status, 429);
        assert_eq!(raw.answer().expect("an answer to the GET").status, 429);
    }
}

#[test]
fn requests_in_one_piece_are_told_apart_though_their_bodies_look_like_heads() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let body = "GET /no HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = format!("POST /with HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let get = "GET /bare HTTP/1.1\r\nHost: a\r\n\r\n";
    for piece in [post.clone() + get, get.to_owned() + &post, get.repeat(2), post.repeat(2)] {
        origin.forget();
        let mut raw = Raw::connect(gateway.public());
        raw.send(&piece);
        for _ in 0..2 {
            assert_eq!(raw.answer().expect("an answer").status, 200, "{piece}");
        }
        for seen in origin.seen() {
            let expected = if seen.target == "/with" { body } else { "" };
            assert_eq!(String::from_utf8_lossy(&seen.body), expected, "{piece}");
            assert_ne!(seen.target, "/no");
        }
        assert_eq!(origin.seen().len(), 2, "{piece}");
    }
}

#[test]
fn close_is_honoured_and_said() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    for request in ["GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let mut raw = Raw::connect(gateway.public());
        raw.send(request);
        let answer = raw.answer().expect("an answer");
        assert_eq!(answer.status, 200);
        assert!(raw.closed_within(Duration::from_secs(2)).is_some());
    }
    let mut raw = Raw::connect(gateway.public());
    raw.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(raw.answer().expect("an answer").header("connection"), Some("keep-alive"));
    raw.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(raw.answer().expect("a second answer").status, 200);
}

#[test]
fn a_thousand_requests_use_few_upstream_connections() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let mut raw = Raw::connect(gateway.public());
    for _ in 0..1000 {
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(raw.answer().expect("an answer").status, 200);
    }
    assert!(origin.connections() <= 2, "{} connections", origin.connections());
}

#[test]
fn a_stop_lets_running_requests_end() {
    let origin = Origin::with(|_, stream| {
        std::thread::sleep(Duration::from_millis(700));
        std::io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").is_ok()
    });
    let mut gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let mut raw = Raw::connect(gateway.public());
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(200));
    gateway.signal("TERM");
    assert_eq!(raw.answer().expect("the running request is answered").text(), "late");
    let status = gateway.ended_within(Duration::from_secs(5)).expect("it ends once nothing runs");
    assert!(status.success(), "{status}");
}

#[test]
fn a_stop_ends_idle_connections_and_those_that_become_idle() {
    let origin = Origin::with(|seen, stream| {
        if seen.target == "/slow" {
            std::thread::sleep(Duration::from_millis(700));
        }
        std::io::Write::write_all(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let mut gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let mut connections: Vec<Raw> = (0..6).map(|_| Raw::connect(gateway.public())).collect();
    for raw in &mut connections {
        for _ in 0..3 {
            raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(raw.answer().expect("an answer").status, 200);
        }
    }
    // Half of them idle, half with a request under way when the stop comes.
    for raw in connections.iter_mut().step_by(2) {
        raw.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    std::thread::sleep(Duration::from_millis(200));
    gateway.signal("TERM");
    for (number, raw) in connections.iter_mut().enumerate() {
        if number % 2 == 0 {
            assert_eq!(raw.answer().expect("the running request is answered").status, 200);
        }
        assert!(raw.closed_within(Duration::from_secs(3)).is_some(), "connection {number} is still open");
    }
    assert!(gateway.ended_within(Duration::from_secs(3)).expect("it ends").success());
}

#[test]
fn a_quit_signal_without_a_successor_changes_nothing() {
    let origin = Origin::ok();
    let mut gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    gateway.signal("QUIT");
    assert!(gateway.ended_within(Duration::from_secs(1)).is_none());
    let mut raw = Raw::connect(gateway.public());
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(raw.answer().expect("still serving").status, 200);
    assert!(gateway.alive());
}
