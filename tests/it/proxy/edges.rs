//! Where HTTP/1 gateways lose their step: old clients, HEAD, early answers, clients that leave, origins that say too much.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::{Gateway, Origin, Raw, eventually, exchange, one_route};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&one_route(origin.address, "", "", ""))
}

#[test]
fn an_old_client_gets_no_chunks() {
    let origin = Origin::with(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").is_ok()
    });
    let gateway = gateway(&origin);
    let answer = exchange(gateway.public(), "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status, answer.header("transfer-encoding")), (200, None), "{answer:?}");
    assert_eq!(answer.text(), "hello");
}

#[test]
fn a_head_has_no_body_and_the_next_request_is_answered() {
    let origin = Origin::with(|seen, stream| {
        let body = if seen.method == "HEAD" { "" } else { "hello" };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{body}").is_ok()
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    raw.send(format!("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n{GET}"));
    let head = raw.answer_to("HEAD").expect("an answer");
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    assert_eq!(raw.answer().expect("an answer").text(), "hello");
}

#[test]
fn an_answer_before_the_body_is_complete_reaches_the_client() {
    let origin = Origin::by_hand(|mut stream| {
        let mut chunk = [0; 4096];
        let _ = stream.read(&mut chunk);
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        // Reads on, so that no reset overtakes the answer.
        while stream.read(&mut chunk).is_ok_and(|read| read > 0) {}
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    raw.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
    let answer = raw.answer().expect("an answer while the body is still on its way");
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    // Whatever follows on this connection is body; the door must not take it for a request.
    raw.send(GET);
    assert!(raw.answer().is_none_or(|answer| answer.status == 408));
}

#[test]
fn bytes_beyond_an_answers_length_reach_nobody() {
    let origin = Origin::with(|_, stream| {
        let smuggled = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
        // In one piece: nobody could tell bytes that come later from an answer to the next request.
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{smuggled}").as_bytes()).is_ok()
    });
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    for number in 0..10 {
        raw.send(GET);
        let answer = raw.answer().unwrap_or_else(|| panic!("no answer {number}"));
        assert!(!answer.text().contains("smuggled"), "{number}: {answer:?}");
    }
}

#[test]
fn clients_that_leave_give_everything_back() {
    let origin = Origin::with(|_, stream| {
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").is_ok()
            && stream.write_all(&[b'x'; 100_000]).is_ok()
    });
    let gateway = gateway(&origin);
    for leaves in ["GET / HT", GET, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc"] {
        for _ in 0..10 {
            let mut raw = Raw::connect(gateway.public());
            raw.send(leaves);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let gone = || gateway.metric("tidegate_requests_in_flight") < 0.5 && gateway.metric("tidegate_connections{") < 0.5;
    eventually("nothing is counted as running", Duration::from_secs(10), gone);
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}

#[test]
fn odd_but_proper_answers_pass() {
    let cases: [(&str, &'static str, u16); 5] = [
        ("no content", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("not modified with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", 304),
        ("no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200),
        ("until the end", "HTTP/1.0 200 OK\r\n\r\nall of it", 200),
        ("a status of its own", "HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", 599),
    ];
    for (name, bytes, status) in cases {
        let origin = Origin::with(move |_, stream| {
            let _ = stream.write_all(bytes.as_bytes());
            false
        });
        let gateway = gateway(&origin);
        let answer = exchange(gateway.public(), GET);
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        if name == "until the end" {
            assert_eq!(answer.text(), "all of it");
        }
    }
}
