//! Answers that two readers could read in two ways never reach a client, and every client gets one it can read.

use std::io::Write;
use std::time::Duration;

use crate::support::{Answer, Gateway, Origin, Raw, one_route};

/// An origin that answers every request with these bytes, and then closes or goes on.
fn saying(bytes: &'static [u8], goes_on: bool) -> Origin {
    Origin::with(move |_, stream| {
        let said = stream.write_all(bytes).is_ok();
        std::thread::sleep(Duration::from_millis(50));
        said && goes_on
    })
}

fn ask(origin: &Origin, request: &str) -> (Gateway, Raw) {
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let mut raw = Raw::connect(gateway.public());
    raw.send(request);
    (gateway, raw)
}

fn count(answer: &Answer, name: &str) -> usize {
    answer.headers.iter().filter(|(known, _)| known == name).count()
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks_and_no_interim_answers() {
    let chunks = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\n";
    for bytes in [&chunks[..], b"HTTP/1.1 200 OK\r\n\r\nhello"] {
        let origin = saying(bytes, false);
        let (_gateway, mut raw) = ask(&origin, "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
        let head = raw.head().expect("a head");
        assert_eq!((head.status, head.header("transfer-encoding")), (200, None), "{head:?}");
        assert_eq!(head.header("connection"), Some("close"));
        // The close is the end of the body.
        assert_eq!(raw.bytes(100), b"hello");
    }
}

#[test]
fn an_origin_that_fails_behind_an_interim_answer_is_a_bad_gateway() {
    let origin = saying(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", false);
    let (gateway, mut raw) = ask(&origin, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(raw.head().map(|head| head.status), Some(103));
    let answer = raw.answer().expect("an answer");
    assert_eq!((answer.status, answer.header("tidegate-outcome")), (502, Some("unknown")), "{answer:?}");
    assert_eq!(gateway.access_log(1)[0]["status"], 502);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn another_protocol_that_nobody_asked_for_is_a_bad_gateway() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\
                   HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let origin = saying(switch, true);
    let (_gateway, mut raw) = ask(&origin, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(raw.head().map(|head| head.status), Some(502));
}

#[test]
fn lengths_and_codings_are_said_once_or_refused() {
    let cases: [(&str, &'static [u8], u16); 6] = [
        ("a length twice", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200),
        ("a list of lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", 200),
        ("different lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!", 502),
        (
            "chunked twice",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            502,
        ),
        ("no coding at all", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", 502),
        ("chunked first", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 502),
    ];
    for (name, bytes, status) in cases {
        let origin = saying(bytes, true);
        let (_gateway, mut raw) = ask(&origin, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = raw.answer().unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        if status == 200 {
            assert_eq!((count(&answer, "content-length"), answer.text().as_str()), (1, "ok"), "{name}");
        }
    }
}

#[test]
fn an_answer_without_content_has_no_length_and_the_next_is_found() {
    let origin = saying(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", true);
    let (_gateway, mut raw) = ask(&origin, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..3 {
        let answer = raw.answer().expect("an answer");
        assert_eq!((answer.status, answer.header("content-length")), (204, None));
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
}

#[test]
fn an_upgrade_that_was_not_agreed_to_keeps_the_connection() {
    let origin = Origin::ok();
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (_gateway, mut raw) = ask(&origin, upgrade);
    for _ in 0..3 {
        let answer = raw.answer().expect("an answer");
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
        raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
}
