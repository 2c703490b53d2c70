//! `Tidegate-Outcome` tells a client whether it may try again. It may err on one side only.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::{Gateway, Origin, Raw, free_port, get, one_route};

/// A dead channel first, then a living one.
fn two_channels(origin: SocketAddr, limits: &str, route: &str) -> Gateway {
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let one = format!("      - {{name: origin, endpoints: [\"{origin}\"]}}\n");
    let two = format!("      - {{name: dead, endpoints: [\"{dead}\"]}}\n{one}");
    Gateway::start(&one_route(origin, limits, route, "").replace(&one, &two))
}

#[test]
fn a_request_that_reached_the_second_channel_was_not_not_sent() {
    let origin = Origin::ok();
    let gateway = two_channels(origin.address, "  limits: {body_timeout: 1s}", "    max_body_size: 1KiB");
    // Twice each, so that each begins once with the channel that is dead.
    for _ in 0..2 {
        let mut raw = Raw::connect(gateway.public());
        raw.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        std::thread::sleep(Duration::from_millis(200));
        raw.send(format!("400\r\n{}\r\n", "a".repeat(1024)));
        let answer = raw.answer().expect("an answer");
        assert_eq!((answer.status, answer.header("tidegate-outcome")), (413, Some("unknown")), "{answer:?}");
    }
    assert!(gateway.access_log(2).iter().all(|line| line["outcome"] == "unknown"));
}

#[test]
fn an_early_refusal_was_sent_nowhere() {
    let origin = Origin::ok();
    let gateway = two_channels(origin.address, "", "    max_body_size: 1KiB");
    let mut raw = Raw::connect(gateway.public());
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n\r\n");
    let answer = raw.answer().expect("an answer");
    assert_eq!((answer.status, answer.header("tidegate-outcome")), (413, None), "{answer:?}");
    assert_eq!(get(gateway.public(), "/", "").status, 200);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_client_that_stops_sending_is_no_fault_of_the_channel() {
    let origin = Origin::ok();
    // The origin's patience (2 s, of `one_route`) ends before the client's does.
    let gateway = Gateway::start(&one_route(origin.address, "  limits: {body_timeout: 10s}", "", ""));
    let mut raw = Raw::connect(gateway.public());
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello");
    let answer = raw.answer().expect("an answer");
    assert_eq!((answer.status, answer.header("tidegate-outcome")), (408, Some("unknown")), "{answer:?}");
    let log = gateway.access_log(1);
    assert_eq!(log[0]["status"], 408, "{log:?}");
    let metrics = gateway.admin("GET", "/metrics").text();
    let blamed =
        metrics.lines().find(|line| line.contains("timeout") && !line.starts_with('#') && !line.ends_with(" 0"));
    assert_eq!(blamed, None);
}
