//! An agreed upgrade turns the connection into a pipe; one that was refused does not.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::{Gateway, Origin, Raw, one_route};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn echo() -> Origin {
    Origin::by_hand(|mut stream| {
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
            head.push(byte[0]);
        }
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = stream.write_all(agreed);
        let mut chunk = [0; 4096];
        while let Ok(read) = stream.read(&mut chunk) {
            if read == 0 || stream.write_all(&chunk[..read]).is_err() {
                return;
            }
        }
    })
}

#[test]
fn frames_pass_both_ways_and_outlive_request_deadlines() {
    let origin = echo();
    let limits = "  limits: {request_timeout: 1s, body_timeout: 1s, idle_timeout: 1s}";
    let gateway = Gateway::start(&one_route(origin.address, limits, "", ""));
    let mut raw = Raw::connect(gateway.public());
    raw.send(UPGRADE);
    assert_eq!(raw.answer().expect("an answer").status, 101);
    for pause in [0, 10, 2500] {
        std::thread::sleep(Duration::from_millis(pause));
        raw.send(b"\x81\x05hello");
        assert_eq!(raw.bytes(7), b"\x81\x05hello", "after {pause} ms");
    }
    raw.half_close();
    assert!(raw.closed_within(Duration::from_secs(3)).is_some());
}

#[test]
fn bytes_behind_an_upgrade_wait_for_its_answer() {
    let origin =
        Origin::with(|_, stream| stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").is_ok());
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let mut raw = Raw::connect(gateway.public());
    raw.send(format!("{UPGRADE}GET /behind HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(raw.answer().expect("an answer").status, 403);
    // It is a request of its own, through the door, or nothing: never bytes of the first one.
    let _ = raw.answer();
    for seen in origin.seen() {
        assert!(seen.body.is_empty(), "{seen:?}");
        assert!(seen.header("x-request-id").is_some(), "{seen:?}");
    }
}

#[test]
fn a_route_may_refuse_upgrades() {
    let origin = echo();
    let gateway = Gateway::start(&one_route(origin.address, "", "    websocket: false", ""));
    let mut raw = Raw::connect(gateway.public());
    raw.send(UPGRADE);
    let answer = raw.answer();
    assert!(answer.as_ref().is_none_or(|answer| answer.status != 101), "{answer:?}");
}

#[test]
fn what_an_upstream_says_with_its_agreement_is_not_lost() {
    let origin = Origin::by_hand(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let agreed = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nKeep-Alive: 5\r\n\r\n\x01\x05first";
        let _ = stream.write_all(agreed.as_bytes());
        let mut said = [0; 4];
        let _ = stream.read_exact(&mut said);
        let _ = stream.write_all(&said);
    });
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    for _ in 0..50 {
        let mut raw = Raw::connect(gateway.public());
        // A client that cannot wait says something behind its request.
        raw.send(format!("{UPGRADE}ping"));
        let answer = raw.answer().expect("an answer");
        assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")), "{answer:?}");
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!((answer.header("keep-alive"), answer.header("content-length")), (None, None));
        assert_eq!(raw.bytes(11), b"\x01\x05firstping");
        assert!(raw.closed_within(Duration::from_secs(3)).is_some());
    }
    let log = gateway.access_log(50);
    assert_eq!((&log[0]["status"], &log[0]["bytes_sent"]), (&101.into(), &11.into()), "{}", log[0]);
}

#[test]
fn an_agreement_to_something_else_is_no_answer() {
    for to in ["h2c", "websocket\r\nUpgrade: h2c", ""] {
        let origin = Origin::with(move |_, stream| {
            let agreed = format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n");
            stream.write_all(agreed.as_bytes()).is_ok()
        });
        let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
        let mut raw = Raw::connect(gateway.public());
        raw.send(UPGRADE);
        assert_eq!(raw.answer().expect("an answer").status, 502, "{to}");
    }
}

#[test]
fn a_place_is_free_again_when_the_upstream_has_left_although_the_client_is_silent() {
    let origin = Origin::by_hand(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = stream.write_all(agreed);
    });
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let mut raw = Raw::connect(gateway.public());
    raw.send(UPGRADE);
    assert_eq!(raw.answer().expect("an answer").status, 101);
    // The client keeps its side open; the line is written when the gateway has let go.
    crate::support::eventually("its line", Duration::from_secs(15), || gateway.access_log(0).len() == 1);
    assert!(raw.closed_within(Duration::from_secs(3)).is_some());
}

#[test]
fn a_stopping_gateway_ends_what_would_never_end_and_says_so_in_its_log() {
    let origin = echo();
    let patient =
        one_route(origin.address, "", "", "").replace("server:\n", "server:\n  shutdown: {drain_timeout: 4s}\n");
    let mut gateway = Gateway::start(&patient);
    let mut raw = Raw::connect(gateway.public());
    raw.send(UPGRADE);
    assert_eq!(raw.answer().expect("an answer").status, 101);
    gateway.signal("TERM");
    assert!(gateway.ended_within(Duration::from_secs(6)).is_some());
    assert_eq!(gateway.access_log(1)[0]["status"], 101);
}
