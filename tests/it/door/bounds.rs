//! Bounds: heads, bodies, connections.

use std::time::Duration;

use crate::support::{Gateway, Origin, Raw, eventually, get, one_route};

#[test]
fn heads_beyond_their_bounds_are_refused_by_name() {
    let origin = Origin::ok();
    let gateway =
        Gateway::start(&one_route(origin.address, "  limits: {max_header_size: 4KiB, max_headers: 20}", "", ""));
    let cases = [
        ("a long line", format!("X: {}\r\n", "a".repeat(5000)), 431),
        ("many lines", "X: a\r\n".repeat(21), 431),
        ("as many as allowed", "X: a\r\n".repeat(19), 200),
    ];
    for (name, headers, status) in cases {
        assert_eq!(get(gateway.public(), "/", &headers).status, status, "{name}");
    }
    assert_eq!(get(gateway.public(), &format!("/{}", "a".repeat(9000)), "").status / 100, 4);
}

#[test]
fn heads_that_never_end_are_cut_at_the_bound() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let before = gateway.resident_kib();
    let line = format!("X-Bomb: {}\r\n", "a".repeat(8000));
    let bombs: Vec<_> = (0..20).map(|_| Raw::connect(gateway.public())).collect();
    for mut raw in bombs {
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n");
        let mut sent = 0;
        while sent < 64 << 20 && raw.send(&line) {
            sent += line.len();
        }
        assert!(sent < 8 << 20, "{sent} bytes were taken");
    }
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "grew by {grown} KiB");
}

#[test]
fn bodies_beyond_the_bound_are_refused_before_or_while_they_come() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "    max_body_size: 1KiB", ""));
    let mut raw = Raw::connect(gateway.public());
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n");
    assert_eq!(raw.answer().expect("an answer").status, 413);
    assert_eq!(origin.seen().len(), 0);
    let mut raw = Raw::connect(gateway.public());
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    raw.send(format!("400\r\n{}\r\n400\r\n{}\r\n0\r\n\r\n", "a".repeat(1024), "b".repeat(1024)));
    assert_eq!(raw.answer().expect("an answer").status, 413);
    let mut raw = Raw::connect(gateway.public());
    raw.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n{}", "a".repeat(1024)));
    assert_eq!(raw.answer().expect("an answer").status, 200);
}

#[test]
fn connections_are_bounded_in_all_and_by_address() {
    let origin = Origin::ok();
    let limits = "  limits: {max_connections: 20, max_connections_per_client: 10}";
    let gateway = Gateway::start(&one_route(origin.address, limits, "", ""));
    // The probe of the start may still hold a seat.
    eventually("all seats are free", Duration::from_secs(5), || gateway.metric("tidegate_connections{") < 1.0);
    let mut held: Vec<Raw> = (0..10).map(|_| Raw::connect(gateway.public())).collect();
    for raw in &mut held {
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(raw.answer().expect("an answer").status, 200);
    }
    let mut refused = Raw::connect(gateway.public());
    refused.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = refused.answer();
    assert!(answer.as_ref().is_none_or(|answer| answer.status == 503), "{answer:?}");
    held.pop();
    eventually("a seat is free again", Duration::from_secs(5), || get(gateway.public(), "/", "").status == 200);
}

#[test]
fn ten_thousand_idle_connections_cost_little() {
    let origin = Origin::ok();
    let limits = "  limits: {max_connections: 20000, max_connections_per_client: 20000}";
    let gateway = Gateway::start(&one_route(origin.address, limits, "", ""));
    // As many as this machine's limit on open files allows this process.
    let most = open_files().saturating_sub(200).min(10_000);
    let before = gateway.resident_kib();
    let mut idle = Vec::with_capacity(most);
    for _ in 0..most {
        let mut raw = Raw::connect(gateway.public());
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(raw.answer().expect("an answer").status, 200);
        idle.push(raw);
    }
    let each = gateway.resident_kib().saturating_sub(before) * 1024 / most as u64;
    assert!(each < 25 << 10, "{each} bytes for an idle connection");
    assert_eq!(get(gateway.public(), "/", "").status, 200);
}

fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(1024)
}
