//! Connections to an origin: kept, shared by requests that follow one another, and never used when in doubt.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::{Gateway, Origin, Raw, eventually, one_route};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&one_route(origin.address, "", "", ""))
}

fn asks(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0)
}

#[test]
fn bytes_that_come_while_a_connection_is_idle_reach_nobody() {
    let said = Arc::new(AtomicUsize::new(0));
    let count = said.clone();
    let origin = Origin::by_hand(move |mut stream| {
        while asks(&mut stream) {
            let _ = stream.write_all(OK);
            std::thread::sleep(Duration::from_millis(30));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled");
            count.fetch_add(1, SeqCst);
        }
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    for number in 1..=10 {
        raw.send(if number % 2 == 0 { POST } else { GET });
        assert_eq!(raw.answer().expect("an answer").text(), "ok", "{number}");
        eventually("the origin says more", Duration::from_secs(5), || said.load(SeqCst) == number);
    }
    assert_eq!(origin.connections(), 10);
}

#[test]
fn a_connection_that_was_closed_while_idle_costs_no_request() {
    // Answers once and closes, without having said so.
    let origin = Origin::by_hand(|mut stream| {
        let _ = asks(&mut stream) && stream.write_all(OK).is_ok();
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    for number in 0..20 {
        raw.send(POST);
        assert_eq!(raw.answer().expect("an answer").status, 200, "request {number}");
        // Until its close has arrived the connection looks as good as any.
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn idle_connections_end_after_their_time() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = ended.clone();
    let origin = Origin::by_hand(move |mut stream| {
        while asks(&mut stream) {
            let _ = stream.write_all(OK);
        }
        count.fetch_add(1, SeqCst);
    });
    let yaml = one_route(origin.address, "", "", "").replace("read_timeout: 2s", "idle_timeout: 1s");
    let gateway = Gateway::start(&yaml);
    let mut raw = Raw::connect(gateway.public());
    for _ in 0..3 {
        raw.send(GET);
        assert_eq!(raw.answer().expect("an answer").status, 200);
    }
    assert_eq!((origin.connections(), ended.load(SeqCst)), (1, 0));
    eventually("the connection is closed", Duration::from_secs(6), || ended.load(SeqCst) == 1);
    raw.send(GET);
    assert_eq!(raw.answer().expect("an answer over a new one").status, 200);
}

#[test]
fn a_connection_outlives_refusals_of_the_origin_and_a_reload() {
    let origin = Origin::with(|seen, stream| {
        let status = if seen.target == "/404" { "404 Not Found" } else { "500 Oops" };
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno").is_ok()
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    for round in 0..5 {
        for (target, status) in [("/404", 404), ("/500", 500)] {
            raw.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let answer = raw.answer().expect("an answer");
            assert_eq!((answer.status, answer.header("connection")), (status, Some("keep-alive")), "{answer:?}");
        }
        if round == 2 {
            gateway.reload(&one_route(origin.address, "", "    max_body_size: 2KiB", ""));
        }
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_origin_that_closes_is_believed() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"[..],
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let origin = Origin::with(move |_, stream| stream.write_all(answer).is_ok());
        let gateway = gateway(&origin);
        let mut raw = Raw::connect(gateway.public());
        for _ in 0..3 {
            raw.send(GET);
            let answer = raw.answer().expect("an answer");
            // Its connection is not the client's.
            assert_eq!((answer.text().as_str(), answer.header("connection")), ("ok", Some("keep-alive")));
        }
        assert_eq!(origin.connections(), 3);
    }
}

#[test]
fn requests_behind_one_that_is_forwarded_wait_their_turn() {
    let origin = Origin::with(|seen, stream| {
        let body = format!("{} {} {}", seen.method, seen.target, String::from_utf8_lossy(&seen.body));
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).is_ok()
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    let mut all = String::new();
    for number in 0..20 {
        all += &format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        all += "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        all += "GET /g HTTP/1.1\r\nHost: a\r\n\r\n";
    }
    raw.send(&all);
    for number in 0..20 {
        assert_eq!(raw.answer().expect("an answer").text(), format!("POST /{number} hello"));
        assert_eq!(raw.answer().expect("an answer").text(), "POST /c abcde");
        assert_eq!(raw.answer().expect("an answer").text(), "GET /g ");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_answer_before_the_body_is_complete_ends_both_connections() {
    let origin = Origin::by_hand(|mut stream| {
        while asks(&mut stream) {
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        }
    });
    let gateway = gateway(&origin);
    for _ in 0..3 {
        let mut raw = Raw::connect(gateway.public());
        raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
        let answer = raw.answer().expect("an answer");
        assert_eq!((answer.status, answer.header("connection")), (403, Some("close")), "{answer:?}");
        assert!(raw.closed_within(Duration::from_secs(3)).is_some());
    }
    assert_eq!(origin.connections(), 3, "half a request lies on each");
}

#[test]
fn an_answer_is_read_although_the_origin_has_stopped_reading() {
    // Answers from the head alone and closes, with the rest of the body still coming.
    let origin = Origin::by_hand(|mut stream| {
        let _ = asks(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        std::thread::sleep(Duration::from_millis(300));
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n");
    let answer = raw.answer().expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (413, "no"));
}

#[test]
fn an_origin_that_dies_with_a_request_and_is_gone_is_not_waited_for() {
    let origin = Origin::by_hand(|mut stream| {
        let _ = asks(&mut stream) && stream.write_all(OK).is_ok() && asks(&mut stream);
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    raw.send(GET);
    assert_eq!(raw.answer().expect("an answer").status, 200);
    let address = origin.address;
    drop(origin);
    eventually("the port is closed", Duration::from_secs(5), || TcpStream::connect(address).is_err());
    let begun = Instant::now();
    // The kept connection ends without an answer, and there is no other to be had.
    raw.send(GET);
    let answer = raw.answer().expect("an answer");
    assert_eq!((answer.status, answer.header("tidegate-outcome")), (502, Some("unknown")), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(gateway.access_log(2)[1]["attempts"], 2);
}
