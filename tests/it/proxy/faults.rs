//! Origins that fail in all the usual ways: a clear status, in time, and never a second try that might act twice.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::{Answer, Gateway, Origin, Raw, exchange, free_port, get, one_route};

const POST: &str = "POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";

fn outcome(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status, answer.header("tidegate-outcome"))
}

#[test]
fn a_dead_origin_is_told_at_once_and_nothing_was_sent() {
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let gateway = Gateway::start(&one_route(dead, "", "", ""));
    let start = Instant::now();
    let mut raw = Raw::connect(gateway.public());
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n"; 5].into_iter().chain([POST]) {
        // On one connection: a failure behind the gateway does not send its clients away.
        raw.send(request);
        let answer = raw.answer().expect("an answer");
        assert_eq!(outcome(&answer), (503, Some("not-sent")), "{answer:?}");
        assert!(answer.header("retry-after").is_some());
    }
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn an_origin_that_takes_the_request_and_says_nothing_is_unknown() {
    let origin = Origin::with(|_, _| {
        std::thread::sleep(Duration::from_secs(30));
        false
    });
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let start = Instant::now();
    let answer = exchange(gateway.public(), POST);
    assert_eq!(outcome(&answer), (504, Some("unknown")), "{answer:?}");
    assert!((2..5).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(origin.seen().len(), 1, "sent once");
}

#[test]
fn broken_answers_are_bad_gateways_and_payments_are_sent_once() {
    let cases: [(&str, &'static [u8]); 6] = [
        ("closed without a byte", b""),
        ("no http", b"SSH-2.0-OpenSSH\r\n\r\n"),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le"),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!"),
        ("odd status", b"HTTP/1.1 xyz OK\r\nContent-Length: 2\r\n\r\nok"),
        ("a head without end", &[b'x'; 200_000]),
    ];
    for (name, bytes) in cases {
        let origin = Origin::with(move |_, stream| {
            let _ = stream.write_all(bytes);
            false
        });
        let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
        let start = Instant::now();
        let answer = exchange(gateway.public(), POST);
        assert_eq!(outcome(&answer), (502, Some("unknown")), "{name}: {answer:?}");
        assert!(start.elapsed() < Duration::from_secs(4), "{name}: {:?}", start.elapsed());
        assert_eq!(origin.seen().len(), 1, "{name}: sent once");
    }
}

#[test]
fn a_cut_body_cuts_the_answer() {
    let origin = Origin::with(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this");
        false
    });
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let mut raw = Raw::connect(gateway.public());
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(raw.head().expect("a head").status, 200);
    let body = raw.bytes(1000);
    assert!(body.len() < 1000, "a cut body must not look whole");
    assert_eq!(gateway.access_log(1)[0]["decision"], "cut");
}

/// An origin that closes kept-alive connections the moment the next request arrives on them.
fn closes_when_reused(seen: &'static AtomicUsize) -> Origin {
    Origin::by_hand(move |mut stream| {
        let mut chunk = [0; 4096];
        if std::io::Read::read(&mut stream, &mut chunk).unwrap_or(0) > 0 {
            seen.fetch_add(1, SeqCst);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        let _ = std::io::Read::read(&mut stream, &mut chunk);
        // Dropped without an answer: what a server does whose keep-alive time has just ended.
    })
}

#[test]
fn a_safe_request_on_a_dead_kept_alive_connection_is_made_again() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let origin = closes_when_reused(&SEEN);
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    for number in 0..10 {
        assert_eq!(get(gateway.public(), "/", "").status, 200, "request {number}");
    }
    assert_eq!(SEEN.load(SeqCst), 10);
}

#[test]
fn an_unsafe_request_on_a_dead_kept_alive_connection_is_not() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let origin = closes_when_reused(&SEEN);
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    assert_eq!(get(gateway.public(), "/", "").status, 200);
    // A client can be back before its connection is.
    std::thread::sleep(Duration::from_millis(200));
    let answer = exchange(gateway.public(), POST);
    assert_eq!(outcome(&answer), (502, Some("unknown")), "{answer:?}");
    assert_eq!(SEEN.load(SeqCst), 1, "no second connection was tried");
}

#[test]
fn interim_answers_pass_and_the_final_one_follows() {
    let origin = Origin::with(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    assert_eq!(get(gateway.public(), "/", "").text(), "ok");
}

#[test]
fn channels_take_turns_and_a_dead_one_is_left_out() {
    let (first, second) = (Origin::ok(), Origin::ok());
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let yaml = one_route(first.address, "", "", "").replace(
        &format!("      - {{name: origin, endpoints: [\"{}\"]}}\n", first.address),
        &format!(
            "      - {{name: one, endpoints: [\"{}\"]}}\n      - {{name: two, endpoints: [\"{}\"]}}\n      - {{name: dead, endpoints: [\"{dead}\"]}}\n",
            first.address, second.address
        ),
    );
    let gateway = Gateway::start(&yaml);
    let mut raw = Raw::connect(gateway.public());
    for number in 0..60 {
        raw.send(POST);
        let answer = raw.answer().expect("an answer");
        assert_eq!(answer.status, 200, "request {number}: {answer:?}");
        assert!(matches!(answer.header("tidegate-channel"), Some("one" | "two")), "{answer:?}");
    }
    let (one, two) = (first.seen().len(), second.seen().len());
    assert_eq!(one + two, 60);
    assert!(one >= 20 && two >= 20, "{one} and {two}");
    first.forget();
    for _ in 0..10 {
        raw.send(POST.replace("Host: a\r\n", "Host: a\r\nTidegate-Channel: one\r\n"));
        assert_eq!(raw.answer().expect("an answer").header("tidegate-channel"), Some("one"));
    }
    raw.send(POST.replace("Host: a\r\n", "Host: a\r\nTidegate-Channel: dead\r\n"));
    let answer = raw.answer().expect("an answer");
    assert_eq!(outcome(&answer), (503, Some("not-sent")), "a pinned channel has no substitute: {answer:?}");
}
