//! Clients that leave in the middle, in every way there is: what they asked for is carried out to its end, and its answer is
//! there when they come back.

use super::*;
use crate::support::eventually;
use crate::support::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, OPENING, fields, frame};
use rustix::net::sockopt::set_socket_linger;

const RST_STREAM: u8 = 3;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const PIECES: usize = 5;

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaving {
    Http1Closes,
    Http1Resets,
    Http2Closes,
    Http2ResetsItsStream,
}

const LEAVINGS: [Leaving; 4] =
    [Leaving::Http1Closes, Leaving::Http1Resets, Leaving::Http2Closes, Leaving::Http2ResetsItsStream];

/// The same request's head over HTTP/2.
fn head(key: &str) -> Vec<u8> {
    fields(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "shop.test"),
        (":path", "/api/orders?b=2&a=1"),
        ("idempotency-key", key),
        ("content-type", "application/json"),
    ])
}

fn asked_over_http2(gateway: &Gateway, key: &str, body: &str) -> Raw {
    let mut raw = Raw::connect(gateway.public());
    raw.send([OPENING, &frame(HEADERS, END_HEADERS, &head(key)), &frame(DATA, END_STREAM, body.as_bytes())].concat());
    raw
}

/// The frame on another stream.
fn with_stream(stream: u32, mut frame: Vec<u8>) -> Vec<u8> {
    frame[5..9].copy_from_slice(&stream.to_be_bytes());
    frame
}

impl Leaving {
    fn ask(self, gateway: &Gateway, key: &str) -> Raw {
        match self {
            Self::Http1Closes | Self::Http1Resets => asked(gateway, key, "{}"),
            Self::Http2Closes | Self::Http2ResetsItsStream => asked_over_http2(gateway, key, "{}"),
        }
    }

    /// What is left of the client.
    fn leave(self, mut raw: Raw) -> Option<Raw> {
        match self {
            Self::Http1Closes | Self::Http2Closes => None,
            Self::Http1Resets => {
                set_socket_linger(raw.socket(), Some(Duration::ZERO)).expect("set the option");
                None
            }
            Self::Http2ResetsItsStream => {
                raw.send(frame(RST_STREAM, 0, &CANCEL));
                Some(raw)
            }
        }
    }
}

/// Answers in pieces with pauses, so that something is still to be written when the client has long left.
fn slow_speaker(begun: Arc<AtomicUsize>) -> Origin {
    Origin::with(move |_, stream| {
        begun.fetch_add(1, SeqCst);
        std::thread::sleep(Duration::from_millis(150));
        if stream.write_all(b"HTTP/1.1 201 Created\r\nX-Shop: yes\r\nTransfer-Encoding: chunked\r\n\r\n").is_err() {
            return false;
        }
        for _ in 0..PIECES {
            if stream.write_all(b"5\r\npiece\r\n").is_err() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(60));
        }
        stream.write_all(b"0\r\n\r\n").is_ok()
    })
}

fn in_flight(gateway: &Gateway) -> bool {
    gateway.metric("tidegate_idempotency_in_flight") > 0.5
}

#[test]
fn whoever_leaves_in_the_middle_finds_the_answer_over_both_protocols() {
    let begun = Arc::new(AtomicUsize::new(0));
    let origin = slow_speaker(begun.clone());
    let gateway = Gateway::start(&with(origin.address, "sqlite", ""));
    for (number, leaving) in LEAVINGS.into_iter().enumerate() {
        // Before the answer, and while it is on its way.
        for (wait, when) in [(0, "before"), (200, "within")] {
            let key = format!("{number}-{when}");
            let before = begun.load(SeqCst);
            let client = leaving.ask(&gateway, &key);
            eventually("it is under way", PATIENCE, || begun.load(SeqCst) > before);
            std::thread::sleep(Duration::from_millis(wait));
            let rest = leaving.leave(client);
            eventually("it is over", PATIENCE, || !in_flight(&gateway));
            drop(rest);
            let again = order(&gateway, &key, "{}");
            assert_eq!((again.status, again.text()), (201, "piece".repeat(PIECES)), "{leaving:?} {when}: {again:?}");
            assert_eq!((again.header("idempotent-replayed"), again.header("x-shop")), (Some("true"), Some("yes")));
        }
    }
    assert_eq!(origin.seen().len(), 2 * LEAVINGS.len(), "each was carried out once");
    let log = gateway.access_log(4 * LEAVINGS.len());
    let cut = log.iter().filter(|line| line["decision"] == "cut" && line["outcome"] == "final").count();
    assert_eq!(cut, 2 * LEAVINGS.len(), "{log:?}");
}

#[test]
fn an_answer_that_its_client_does_not_read_is_kept_all_the_same() {
    const LARGE: usize = 3 << 20;
    let origin = Origin::with(|_, stream| {
        let head = format!("HTTP/1.1 201 Created\r\nContent-Length: {LARGE}\r\n\r\n");
        stream.write_all(head.as_bytes()).is_ok() && stream.write_all(&vec![b'x'; LARGE]).is_ok()
    });
    let file = with(origin.address, "sqlite", ", max_answer: 4MiB");
    let gateway = Gateway::start(&file.replace("server:", "server:\n  limits: {body_timeout: 1s}"));
    for leaving in [Leaving::Http1Closes, Leaving::Http2Closes] {
        let key = format!("{leaving:?}");
        let sent = origin.seen().len();
        let client = leaving.ask(&gateway, &key);
        eventually("it is under way", PATIENCE, || origin.seen().len() > sent);
        eventually("it is over", PATIENCE, || !in_flight(&gateway));
        let again = order(&gateway, &key, "{}");
        assert_eq!((again.status, again.body.len()), (201, LARGE), "{leaving:?} {:?}", again.headers);
        drop(client);
    }
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn a_client_that_leaves_before_its_body_is_there_has_asked_for_nothing() {
    let origin = shop(Duration::ZERO);
    let gateway = Gateway::start(&with(origin.address, "sqlite", ""));
    let mut raw = Raw::connect(gateway.public());
    raw.send(request("k", "{}").replace("Content-Length: 2", "Content-Length: 20"));
    drop(raw);
    let head =
        [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/"), ("idempotency-key", "k")];
    let mut raw = Raw::connect(gateway.public());
    let part = [OPENING, &frame(HEADERS, END_HEADERS, &fields(&head)), &frame(DATA, 0, b"{")].concat();
    raw.send(part);
    raw.send(frame(RST_STREAM, 0, &CANCEL));
    gateway.access_log(2);
    assert_eq!((origin.seen().len(), gateway.metric("tidegate_idempotency_records")), (0, 0.0));
}

#[test]
fn a_gateway_that_is_asked_to_stop_sees_to_the_end_of_what_nobody_waits_for() {
    let begun = Arc::new(AtomicUsize::new(0));
    let origin = slow_speaker(begun.clone());
    for leaving in LEAVINGS {
        let mut gateway = Gateway::start(&with(origin.address, "sqlite", ""));
        let before = begun.load(SeqCst);
        let client = leaving.ask(&gateway, "k");
        eventually("it is under way", PATIENCE, || begun.load(SeqCst) > before);
        let rest = leaving.leave(client);
        gateway.signal("TERM");
        drop(rest);
        assert!(gateway.ended_within(PATIENCE).is_some_and(|status| status.success()), "{leaving:?}");
        gateway.kill_and_start();
        let again = order(&gateway, "k", "{}");
        assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")), "{leaving:?} {again:?}");
    }
}

#[test]
fn a_client_cannot_leave_more_behind_than_it_may_have_connections() {
    let origin = shop(Duration::from_millis(1_500));
    let file = with(origin.address, "memory", "");
    let gateway = Gateway::start(&file.replace("server:", "server:\n  limits: {max_connections_per_client: 3}"));
    let mut raw = asked_over_http2(&gateway, "k-1", "{}");
    // The same client opens and leaves streams of one connection.
    for number in 0..8_u32 {
        eventually("it is under way", PATIENCE, || origin.seen().len() > number as usize);
        raw.send(with_stream(1 + 2 * number, frame(RST_STREAM, 0, &CANCEL)));
        let head = head(&format!("k-{}", number + 2));
        let next = [frame(HEADERS, END_HEADERS, &head), frame(DATA, END_STREAM, b"{}")];
        next.into_iter().for_each(|frame| _ = raw.send(with_stream(3 + 2 * number, frame)));
    }
    // Its connection has one of three seats, so two go on without it and the others end.
    let log = gateway.access_log(6);
    assert!(log.iter().take(6).all(|line| line["outcome"] == "unknown"), "{log:?}");
    drop(raw);
    eventually("the others are over", PATIENCE, || !in_flight(&gateway));
    let log = gateway.access_log(9);
    let known: Vec<_> = log.iter().filter(|line| line["outcome"] == "final").collect();
    assert!((2..=4).contains(&known.len()), "{log:?}");
}
