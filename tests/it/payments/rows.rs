//! The table of outcomes over HTTP/1, a test for each row that a channel can provoke.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::desk::{
    Desk, IDEMPOTENT, NOT_FOUND, PLAIN, SOFT, answer, answering, charges, good, pay, payment, stands, with,
};
use crate::support::{Gateway, Origin, free_port};

/// Pays through `a`, then `b`, and returns the client's answer.
#[track_caller]
fn through(a: &Origin, b: &Origin, expected: (u16, &str, &str), stands_as: &str) {
    let gateway = Desk::default().open(&[("a", a.address, SOFT), ("b", b.address, SOFT)]);
    check(&gateway, expected, stands_as);
}

#[track_caller]
fn check(gateway: &Gateway, (status, outcome, channel): (u16, &str, &str), stands_as: &str) {
    let got = pay(gateway, "p1");
    let seen = (got.status, got.header("tidegate-outcome"), got.header("tidegate-channel"));
    assert_eq!(seen, (status, Some(outcome), Some(channel)), "{got:?}");
    if status == 202 {
        assert_eq!(got.header("location"), Some("/.tidegate/payments/p1"));
        assert_eq!(got.header("retry-after"), Some("2"));
        assert_eq!(got.json(), serde_json::json!({"status": "PROCESSING", "payment_id": "p1"}));
    }
    stands(gateway, "p1", stands_as);
}

/// An address that refuses connections.
fn dead() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// A channel that reads the whole request and then does this.
fn then(act: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Origin {
    let act = move |_: &_, stream: &mut TcpStream| {
        act(stream);
        false
    };
    with(act, (200, r#"{"status":"PENDING"}"#))
}

/// Ends a connection with a reset.
fn reset(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).expect("linger");
    let _ = stream.shutdown(Shutdown::Read);
}

#[test]
fn row_2_a_refused_connection_moves_on_at_once() {
    let b = good();
    let gateway = Desk::default().open(&[("a", dead(), PLAIN), ("b", b.address, PLAIN)]);
    let begun = Instant::now();
    check(&gateway, (200, "final", "b"), "SUCCEEDED a:NOT_SENT b:SUCCEEDED");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(charges(&b), 1);
    let log = gateway.access_log(1);
    assert_eq!((&log[0]["payment"], &log[0]["channel"], &log[0]["attempts"]), (&"p1".into(), &"b".into(), &2.into()));
}

#[test]
fn row_2_a_connection_that_is_never_accepted_moves_on() {
    // A backlog of one, and it is full.
    let full = TcpListener::bind("127.0.0.1:0").expect("a port");
    rustix::net::listen(&full, 0).expect("a smaller backlog");
    let address = full.local_addr().expect("its address");
    let mut fillers = Vec::new();
    while let Ok(filler) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        fillers.push(filler);
    }
    let b = good();
    let gateway = Desk::default().open(&[("a", address, PLAIN), ("b", b.address, PLAIN)]);
    check(&gateway, (200, "final", "b"), "SUCCEEDED a:NOT_SENT b:SUCCEEDED");
    assert_eq!(charges(&b), 1);
}

#[test]
fn rows_1_and_2_when_nobody_can_be_reached_the_client_may_try_again() {
    let gateway = Desk::default().open(&[("a", dead(), PLAIN), ("b", dead(), PLAIN)]);
    let got = pay(&gateway, "p1");
    assert_eq!((got.status, got.header("tidegate-outcome")), (503, Some("not-sent")), "{got:?}");
    assert_eq!(got.json()["code"], "upstream-unavailable");
    let (state, tries) = super::desk::states(&gateway, "p1");
    assert_eq!(state, "FAILED");
    assert!(tries.len() == 6 && tries.iter().all(|(_, state)| state == "NOT_SENT"), "{tries:?}");
    // It does, once a channel is there.
    let b = good();
    gateway.reload(&Desk::default().yaml(&[("a", dead(), PLAIN), ("b", b.address, PLAIN)]));
    assert_eq!(pay(&gateway, "p1").status, 200);
    assert_eq!((super::desk::states(&gateway, "p1").0.as_str(), charges(&b)), ("SUCCEEDED", 1));
}

#[test]
fn row_4_a_connection_that_ends_before_the_kernel_took_a_byte_moves_on() {
    // Resets each connection as soon as it is there. Which side is quicker is chance, so it is tried until the channel was.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    let arrived = Arc::new(Mutex::new(String::new()));
    let noted = arrived.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.set_nonblocking(true).expect("no waiting");
            let mut piece = [0; 4096];
            let read = stream.read(&mut piece).unwrap_or(0);
            reset(&stream);
            drop(stream);
            noted.lock().expect("no panic").push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    });
    let b = good();
    let gateway = Desk::default().open(&[("a", address, PLAIN), ("b", b.address, PLAIN)]);
    let mut untouched = 0;
    for number in 1_000..5_000 {
        let id = format!("p{number}");
        let got = pay(&gateway, &id);
        let shown = payment(&gateway, &id);
        let first = &shown["attempts"][0];
        if first["channel"] == "b" {
            continue;
        }
        let evidence = first["evidence"].as_str().expect("evidence");
        let moved = first["state"] == "NOT_SENT";
        assert_eq!(moved, !evidence.contains("bytes sent") || evidence.contains(" 0 bytes sent"), "{shown}");
        assert_eq!(got.status, if moved { 200 } else { 202 }, "{got:?} {shown}");
        assert_eq!(shown["attempts"].as_array().map(Vec::len), Some(1 + usize::from(moved)), "{shown}");
        let posted = format!("idempotency-key: {id}\r\n");
        let seen = arrived.lock().expect("no panic").to_ascii_lowercase().contains(&posted);
        assert!(!(moved && seen), "it had the request, and another has the payment: {shown}");
        untouched += usize::from(evidence.contains(" 0 bytes sent"));
        if untouched == 3 {
            return;
        }
    }
    panic!("the channel was never quicker");
}

#[test]
fn row_5_a_reset_within_the_request_is_unknown() {
    let b = good();
    // Takes a piece of the request and no more.
    let a = Origin::by_hand(|mut stream| {
        let _ = stream.read(&mut [0; 10]);
        reset(&stream);
    });
    through(&a, &b, (202, "unknown", "a"), "PROCESSING a:UNKNOWN");
    assert_eq!(charges(&b), 0);
}

#[test]
fn row_9_a_reused_connection_that_dies_is_unknown() {
    let b = good();
    // Answers the first request of a connection; the second is read and dropped.
    let a = Origin::by_hand(|stream| {
        let mut out = stream.try_clone().expect("a clone");
        let mut input = stream;
        let mut piece = [0; 4096];
        let _ = input.read(&mut piece);
        answer(&mut out, 200, r#"{"status":"SUCCESS"}"#);
        let _ = input.read(&mut piece);
    });
    // One channel first, so that the connection to it is warm; then with another to go to.
    let gateway = Desk::default().open(&[("a", a.address, PLAIN)]);
    assert_eq!(pay(&gateway, "p0").status, 200);
    gateway.reload(&Desk::default().yaml(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]));
    check(&gateway, (202, "unknown", "a"), "PROCESSING a:UNKNOWN");
    assert_eq!((a.connections(), charges(&b)), (1, 0));
}

#[test]
fn row_1_a_channel_that_may_not_be_asked_has_been_sent_nothing() {
    let (a, b) = (good(), good());
    let off = "        enabled: false\n";
    let gateway = Desk::default().open(&[("a", a.address, off), ("b", b.address, PLAIN)]);
    check(&gateway, (200, "final", "b"), "SUCCEEDED b:SUCCEEDED");
    assert_eq!((charges(&a), charges(&b)), (0, 1));
    let gateway = Desk::default().open(&[("a", a.address, off), ("b", b.address, off)]);
    let got = pay(&gateway, "p1");
    assert_eq!((got.status, got.header("tidegate-outcome")), (503, Some("not-sent")), "{got:?}");
    assert_eq!((charges(&a), charges(&b)), (0, 1));
}

#[test]
fn a_channel_that_may_not_be_asked_neither_ends_the_rounds_nor_makes_a_refusal_unsent() {
    let (a, b) = (answering(429, r#"{"code":"busy"}"#), good());
    let gateway = Desk::default().open(&[("a", a.address, PLAIN), ("b", b.address, "        enabled: false\n")]);
    let got = pay(&gateway, "p1");
    assert_eq!((got.status, got.header("tidegate-outcome")), (429, Some("not-processed")), "{got:?}");
    assert_eq!((charges(&a), charges(&b)), (3, 0), "three rounds");
    stands(&gateway, "p1", "FAILED a:NOT_PROCESSED a:NOT_PROCESSED a:NOT_PROCESSED");
}

#[test]
fn a_connection_that_the_channel_has_closed_is_not_used_again() {
    let a = Origin::with(|_, stream| {
        answer(stream, 200, r#"{"status":"SUCCESS"}"#);
        false
    });
    let gateway = Desk::default().open(&[("a", a.address, PLAIN)]);
    for at in 0..5 {
        assert_eq!(pay(&gateway, &format!("p{at}")).status, 200);
        // The origin's thread closes just behind its answer.
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((charges(&a), a.connections()), (5, 5));
}

#[test]
fn connections_are_kept_and_nothing_stray_on_them_is_taken_for_an_answer() {
    let a = good();
    let gateway = Desk::default().open(&[("a", a.address, PLAIN)]);
    for at in 0..5 {
        assert_eq!(pay(&gateway, &format!("p{at}")).status, 200);
    }
    assert_eq!(a.connections(), 1);
    let stray = Origin::with(|_, stream| {
        let more = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"status\":\"SUCCESS\"}";
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{{\"status\":\"DECLINED\"}}{more}");
        stream.write_all(text.as_bytes()).is_ok()
    });
    let gateway = Desk::default().open(&[("a", stray.address, PLAIN)]);
    for at in 0..3 {
        let got = pay(&gateway, &format!("p{at}"));
        assert_eq!((got.status, got.json()["status"].as_str()), (200, Some("DECLINED")));
    }
}

#[test]
fn row_10_silence_is_unknown() {
    let b = good();
    let a = then(|_| std::thread::sleep(Duration::from_secs(5)));
    through(&a, &b, (202, "unknown", "a"), "PROCESSING a:UNKNOWN");
    assert_eq!((charges(&a), charges(&b)), (1, 0));
}

#[test]
fn row_10_an_answer_that_is_cut_or_no_answer_at_all_is_unknown() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"status\":\"SUCCESS\"}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n{\"status\":\"SUCCESS\"}\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "SUCCESS\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall fine!",
        "",
    ] {
        let b = good();
        let a = then(move |stream| drop(stream.write_all(text.as_bytes())));
        through(&a, &b, (202, "unknown", "a"), "PROCESSING a:UNKNOWN");
        assert_eq!((charges(&a), charges(&b)), (1, 0), "{text}");
    }
}

#[test]
fn rows_11_to_13_what_was_not_processed_moves_on() {
    for (status, body) in [(425, ""), (429, "{}"), (503, r#"{"status":"MAINTENANCE"}"#)] {
        let (a, b) = (answering(status, body), good());
        through(&a, &b, (200, "final", "b"), "SUCCEEDED a:NOT_PROCESSED b:SUCCEEDED");
        assert_eq!((charges(&a), charges(&b)), (1, 1), "{status}");
    }
}

#[test]
fn row_12_when_every_channel_refuses_the_client_reads_why() {
    let (a, b) = (answering(429, r#"{"code":"busy"}"#), answering(429, r#"{"code":"busy"}"#));
    let gateway = Desk::default().open(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    let got = pay(&gateway, "p1");
    assert_eq!((got.status, got.header("tidegate-outcome")), (429, Some("not-processed")), "{got:?}");
    assert_eq!(got.json()["code"], "busy");
    assert_eq!(super::desk::states(&gateway, "p1").0, "FAILED");
}

#[test]
fn rows_13_to_15_an_error_of_the_channel_is_unknown() {
    for status in [503, 500, 502, 504, 408, 409, 302] {
        let (a, b) = (answering(status, r#"{"status":"SUCCESS"}"#), good());
        through(&a, &b, (202, "unknown", "a"), "PROCESSING a:UNKNOWN");
        assert_eq!((charges(&a), charges(&b)), (1, 0), "{status}");
    }
}

#[test]
fn row_16_a_wrong_request_is_wrong_everywhere() {
    for status in [400, 401, 403, 404, 405, 413, 415, 422] {
        let (a, b) = (answering(status, r#"{"code":"INVALID"}"#), good());
        through(&a, &b, (status, "final", "a"), "FAILED a:REJECTED");
        assert_eq!((charges(&a), charges(&b)), (1, 0), "{status}");
    }
}

#[test]
fn rows_17_and_18_success_and_pending_are_the_channels_own_words() {
    let (a, b) = (good(), good());
    through(&a, &b, (200, "final", "a"), "SUCCEEDED a:SUCCEEDED");
    assert_eq!((charges(&a), charges(&b)), (1, 0));
    let a = answering(201, r#"{"status":"PENDING","pay_url":"x"}"#);
    through(&a, &b, (201, "final", "a"), "PROCESSING a:PENDING");
    assert_eq!((charges(&a), charges(&b)), (1, 0));
}

#[test]
fn rows_19_and_20_only_a_soft_decline_moves_on() {
    let hard = r#"{"status":"DECLINED","code":"INSUFFICIENT_FUNDS"}"#;
    let soft = r#"{"status":"DECLINED","code":"CHANNEL_MAINTENANCE"}"#;
    let b = good();
    through(&answering(200, hard), &b, (200, "final", "a"), "FAILED a:DECLINED_HARD");
    assert_eq!(charges(&b), 0);
    through(&answering(200, soft), &b, (200, "final", "b"), "SUCCEEDED a:DECLINED_SOFT b:SUCCEEDED");
    assert_eq!(charges(&b), 1);
    // Everybody declines softly: the client reads the last one's words, and nobody is asked twice.
    let (a, b) = (answering(200, soft), answering(200, soft));
    through(&a, &b, (200, "not-processed", "b"), "FAILED a:DECLINED_SOFT b:DECLINED_SOFT");
    assert_eq!((charges(&a), charges(&b)), (1, 1));
}

#[test]
fn rows_21_and_22_a_code_that_nobody_knows_stops_everything() {
    for body in [r#"{"status":"SYSTEM_ERROR"}"#, r#"{"status":"WHATEVER"}"#, "{}", r#"{"status":"SUCCESS","amount":1}"#]
    {
        let (a, b) = (answering(200, body), good());
        through(&a, &b, (202, "unknown", "a"), "PROCESSING a:UNKNOWN");
        assert_eq!((charges(&a), charges(&b)), (1, 0), "{body}");
    }
}

#[test]
fn an_unknown_outcome_is_tried_again_where_that_is_the_same_payment() {
    let b = good();
    let first = std::sync::atomic::AtomicBool::new(true);
    let a = with(
        move |_, stream| {
            if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                return false;
            }
            answer(stream, 200, r#"{"status":"SUCCESS"}"#)
        },
        (404, NOT_FOUND),
    );
    let gateway = Desk::default().open(&[("a", a.address, IDEMPOTENT), ("b", b.address, IDEMPOTENT)]);
    check(&gateway, (200, "final", "a"), "SUCCEEDED a:SUCCEEDED");
    assert_eq!((charges(&a), charges(&b)), (2, 0));
    assert_eq!(super::desk::payment(&gateway, "p1")["attempts"][0]["sends"], 2);
    let keys: Vec<_> = a.seen().iter().filter_map(|seen| seen.header("idempotency-key").map(str::to_owned)).collect();
    assert_eq!(keys, ["p1", "p1"]);
}

#[test]
fn once_unknown_a_decline_of_the_second_call_proves_nothing() {
    let b = good();
    let first = std::sync::atomic::AtomicBool::new(true);
    let a = with(
        move |_, stream| {
            if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
                return false;
            }
            answer(stream, 429, "{}")
        },
        (200, r#"{"status":"SUCCESS"}"#),
    );
    let gateway = Desk::default().open(&[("a", a.address, IDEMPOTENT), ("b", b.address, PLAIN)]);
    let got = pay(&gateway, "p1");
    assert!(matches!(got.status, 200 | 202), "{got:?}");
    super::desk::becomes(&gateway, "p1", "SUCCEEDED a:SUCCEEDED");
    assert_eq!(charges(&b), 0);
}
