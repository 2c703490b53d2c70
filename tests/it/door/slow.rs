//! Clients that take their time: each is ended by a deadline of its own, with a status where one can be heard.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::{Gateway, Origin, Raw, eventually, free_port, one_route};

const SHORT: &str = "  limits:
    header_timeout: 1s
    body_timeout: 1s
    idle_timeout: 1s
    request_timeout: 4s";

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&one_route(origin.address, SHORT, "", ""))
}

/// Sends a byte at a time until the connection is gone or the limit is reached.
fn drip(raw: &mut Raw, bytes: &[u8], every: Duration, limit: Duration) -> Duration {
    let start = Instant::now();
    for byte in bytes.iter().cycle() {
        if start.elapsed() > limit || !raw.send([*byte]) || !alive(raw) {
            break;
        }
        std::thread::sleep(every);
    }
    start.elapsed()
}

fn alive(raw: &Raw) -> bool {
    raw.socket().set_nonblocking(true).expect("set");
    let peeked = raw.socket().peek(&mut [0; 1]);
    raw.socket().set_nonblocking(false).expect("set");
    matches!(peeked, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn a_head_a_byte_at_a_time_ends_at_its_deadline() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    raw.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    let took = drip(&mut raw, b"a", Duration::from_millis(50), Duration::from_secs(5));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(raw.answer().map(|answer| answer.status), Some(408));
    assert!(raw.closed_within(Duration::from_secs(2)).is_some());
}

#[test]
fn what_is_begun_behind_a_refused_request_ends_at_its_deadline_too() {
    let origin = Origin::ok();
    let once = "filters:\n  once: {rate_limit: {policies: [{name: client, key: client, rate: 1/h}]}}";
    let gateway = Gateway::start(&one_route(origin.address, SHORT, "    filters: [once]", once));
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut first = Raw::connect(gateway.public());
    first.send(get);
    assert_eq!(first.answer().expect("an answer").status, 200);
    // In one piece and at once, so that the door may never have had to wait before.
    for rest in ["", "GET /half HTTP/1.1\r\nHo"] {
        let mut all: Vec<Raw> = (0..20).map(|_| Raw::connect(gateway.public())).collect();
        all.iter_mut().for_each(|raw| assert!(raw.send(format!("{get}{rest}"))));
        let begun = Instant::now();
        for raw in &mut all {
            assert_eq!(raw.answer().expect("an answer").status, 429);
            if !rest.is_empty() {
                assert_eq!(raw.answer().map(|answer| answer.status), Some(408));
            }
            assert!(raw.closed_within(Duration::from_secs(5)).is_some(), "kept for ever");
        }
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    }
}

#[test]
fn silence_ends_connections_without_a_word() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    // Nothing sent, and nothing more after a request.
    for first in ["", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut raw = Raw::connect(gateway.public());
        raw.send(first);
        if !first.is_empty() {
            assert_eq!(raw.answer().expect("an answer").status, 200);
        }
        let took = raw.closed_within(Duration::from_secs(4)).expect("closed");
        assert!(took > Duration::from_millis(800), "{took:?}");
    }
}

#[test]
fn a_body_that_stops_or_drips_is_told_so() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    assert_eq!(raw.answer().map(|answer| answer.status), Some(408), "stopped");
    let mut raw = Raw::connect(gateway.public());
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    let took = drip(&mut raw, b"a", Duration::from_millis(20), Duration::from_secs(10));
    assert!(took < Duration::from_secs(6), "dripping: {took:?}");
    let mut raw = Raw::connect(gateway.public());
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let took = drip(&mut raw, b"1\r\na\r\n", Duration::from_millis(20), Duration::from_secs(10));
    assert!(took < Duration::from_secs(6), "dripping chunks: {took:?}");
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let origin = Origin::with(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n");
        let chunk = [b'x'; 64 << 10];
        (0..1600).all(|_| stream.write_all(&chunk).is_ok())
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_secs(6));
    let log = gateway.access_log(1);
    assert_eq!(log[0]["decision"], "cut", "{log:?}");
    let taken = gateway.metric("tidegate_connections{");
    assert!(taken <= 1.0, "{taken} connections are still counted");
}

#[test]
fn many_dripping_clients_do_not_keep_others_out() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let mut slow: Vec<Raw> = (0..200).map(|_| Raw::connect(gateway.public())).collect();
    for raw in &mut slow {
        raw.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    }
    let start = Instant::now();
    for _ in 0..50 {
        let mut raw = Raw::connect(gateway.public());
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(raw.answer().expect("an answer").status, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn empty_lines_do_not_put_off_the_deadline() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    let took = drip(&mut raw, b"\r\n", Duration::from_millis(100), Duration::from_secs(8));
    assert!(took < Duration::from_secs(5), "{took:?}");
    // One is forgiven, however it arrives.
    let mut raw = Raw::connect(gateway.public());
    for piece in ["\r", "\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        raw.send(piece);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(raw.answer().map(|answer| answer.status), Some(200));
}

#[test]
fn clients_that_do_not_read_are_let_go() {
    let big = Origin::with(|_, stream| {
        let piece = vec![b'x'; 64 << 10];
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
        (0..1024).all(|_| stream.write_all(&piece).is_ok())
    });
    let limits = "  limits: {body_timeout: 1s}";
    let gateway = Gateway::start(&one_route(big.address, limits, "", ""));
    let unread: Vec<_> = (0..3).map(|_| Raw::connect(gateway.public())).collect();
    for mut raw in unread {
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        // Held open and never read: the seat must come back all the same.
        std::mem::forget(raw);
    }
    eventually("the answers begin", Duration::from_secs(5), || gateway.metric("tidegate_connections{") >= 3.0);
    eventually("nobody is waited for", Duration::from_secs(8), || gateway.metric("tidegate_connections{") < 1.0);
    let cut = gateway.access_log(3);
    assert!(cut.iter().all(|line| line["decision"] == "cut"), "{cut:?}");
}

#[test]
fn pipelining_without_reading_ends() {
    // An origin that is gone: its failures keep their connections.
    let dead = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let gateway = Gateway::start(&one_route(dead, "  limits: {body_timeout: 1s}", "", ""));
    let mut raw = Raw::connect(gateway.public());
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let flood = std::thread::spawn(move || while raw.send(&requests) {});
    eventually("the flood is cut", Duration::from_secs(20), || flood.is_finished());
}
