//! Requests that different parsers read differently never reach an origin (RFC 9112 §6, §11).

use std::time::Duration;

use crate::support::{Gateway, Origin, Raw, one_route};

const HOST: &str = "Host: shop.test\r\n";

/// Requests that must be refused with a status, closed, and seen by no origin.
fn refused() -> Vec<(&'static str, String, u16)> {
    let post = |headers: &str, body: &str| format!("POST /x HTTP/1.1\r\n{HOST}{headers}\r\n{body}");
    let get = |line: &str, headers: &str| format!("{line}\r\n{headers}\r\n");
    vec![
        ("length and chunked", post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        ("two lengths", post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"), 400),
        ("two lengths in one", post("Content-Length: 3, 4\r\n", "abcd"), 400),
        ("signed length", post("Content-Length: +3\r\n", "abc"), 400),
        ("negative length", post("Content-Length: -3\r\n", "abc"), 400),
        ("hexadecimal length", post("Content-Length: 0x3\r\n", "abc"), 400),
        ("length beyond 64 bits", post("Content-Length: 99999999999999999999\r\n", "abc"), 400),
        ("empty length", post("Content-Length: \r\n", "abc"), 400),
        ("length with inner blank", post("Content-Length: 1 2\r\n", "abc"), 400),
        ("unknown coding", post("Transfer-Encoding: gzip\r\n", "abc"), 501),
        ("coding after chunked", post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), 400),
        ("chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        ("disguised coding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400),
        ("vertical tab in coding", post("Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n"), 400),
        ("blank before colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400),
        ("folded line", post("X: a\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        ("underscore twin", post("Transfer_Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        ("old version with coding", "POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), 400),
        ("chunk size not a number", post("Transfer-Encoding: chunked\r\n", "xyz\r\nabc\r\n0\r\n\r\n"), 400),
        ("chunk size too long", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nabc"), 400),
        ("chunk longer than said", post("Transfer-Encoding: chunked\r\n", "2\r\nabc\r\n0\r\n\r\n"), 400),
        ("bare line feed in chunk", post("Transfer-Encoding: chunked\r\n", "3\nabc\r\n0\r\n\r\n"), 400),
        ("no host", get("GET /x HTTP/1.1", ""), 400),
        ("two hosts", get("GET /x HTTP/1.1", "Host: a\r\nHost: b\r\n"), 400),
        ("odd host", get("GET /x HTTP/1.1", "Host: a/b\r\n"), 400),
        ("host with user", get("GET /x HTTP/1.1", "Host: u@a\r\n"), 400),
        ("other host in target", get("GET http://evil.test/x HTTP/1.1", HOST), 400),
        ("bare line feeds", "GET /x HTTP/1.1\nHost: a\n\n".into(), 400),
        ("carriage return in value", get("GET /x HTTP/1.1", "Host: a\r\nX: a\rb\r\n"), 400),
        ("zero byte", get("GET /x HTTP/1.1", "Host: a\r\nX: a\0b\r\n"), 400),
        ("no header name", get("GET /x HTTP/1.1", "Host: a\r\n: b\r\n"), 400),
        ("fragment in target", get("GET /x#y HTTP/1.1", HOST), 400),
        ("blank in target", get("GET /x y HTTP/1.1", HOST), 400),
        ("no version", get("GET /x", HOST), 400),
        ("version two", get("GET /x HTTP/2.0", HOST), 505),
        ("lower-case version", get("GET /x http/1.1", HOST), 400),
        ("tunnel", get("CONNECT shop.test:443 HTTP/1.1", HOST), 405),
        ("another protocol", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n".into(), 400),
        ("backslash in path", get("GET /\\..\\x HTTP/1.1", HOST), 400),
        ("encoded slash in path", get("GET /a%2fb HTTP/1.1", HOST), 400),
        ("cut escape in path", get("GET /a%2 HTTP/1.1", HOST), 400),
    ]
}

#[test]
fn ambiguous_requests_are_refused_and_reach_no_origin() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    for (name, request, status) in refused() {
        let mut raw = Raw::connect(gateway.public());
        // What a second parser might take for a request must never be one.
        raw.send(request + "GET /smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n");
        let answer = raw.answer().unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        assert!(raw.closed_within(Duration::from_secs(2)).is_some(), "{name}: left open");
        let seen = origin.seen();
        assert!(!seen.iter().any(|seen| seen.target == "/smuggled"), "{name}: smuggled\n{seen:?}");
        // A body that turns out wrong may have begun; it never ends, so no origin acts on it.
        assert!(seen.iter().all(|seen| seen.header("transfer-encoding").is_some()), "{name}: {seen:?}");
        origin.forget();
    }
}

#[test]
fn bodies_arrive_as_sent_and_the_next_request_is_found() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let mut raw = Raw::connect(gateway.public());
    let sent = [
        format!("POST /length HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nhello"),
        format!(
            "POST /chunks HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: a\r\n\r\n"
        ),
        format!("GET /plain HTTP/1.1\r\n{HOST}\r\n"),
        format!("POST /empty HTTP/1.1\r\n{HOST}Content-Length: 0\r\n\r\n"),
        format!("GET http://shop.test/absolute HTTP/1.1\r\n{HOST}\r\n"),
        format!("GET http://shop.test HTTP/1.1\r\n{HOST}\r\n"),
        "GET /old HTTP/1.0\r\n\r\n".to_owned(),
    ];
    // All at once: the door must cut them apart exactly.
    raw.send(sent.concat());
    for request in &sent {
        let answer = raw.answer().unwrap_or_else(|| panic!("no answer to {request}"));
        assert_eq!(answer.status, 200, "{request}: {answer:?}");
    }
    let seen = origin.seen();
    let bodies: Vec<_> = seen.iter().map(|seen| (seen.target.as_str(), seen.body.as_slice())).collect();
    let expected: [(&str, &[u8]); 7] = [
        ("/length", b"hello"),
        ("/chunks", b"hello"),
        ("/plain", b""),
        ("/empty", b""),
        ("/absolute", b""),
        ("/", b""),
        ("/old", b""),
    ];
    assert_eq!(bodies, expected);
}

#[test]
fn a_body_in_pieces_of_any_size_is_the_same_body() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let whole = format!(
        "POST /a HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /b HTTP/1.1\r\n{HOST}\r\n"
    );
    for size in [1, 2, 3, 7, 11] {
        let mut raw = Raw::connect(gateway.public());
        for piece in whole.as_bytes().chunks(size) {
            raw.send(piece);
            if size < 3 {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
        assert_eq!(raw.answer().map(|answer| answer.status), Some(200), "pieces of {size}");
        assert_eq!(raw.answer().map(|answer| answer.status), Some(200), "pieces of {size}");
        let seen = origin.seen();
        assert_eq!(seen[0].body, b"hello world", "pieces of {size}");
        assert_eq!(seen[1].target, "/b");
        origin.forget();
    }
}

#[test]
fn an_expected_continue_is_sent_before_the_body() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "    max_body_size: 1KiB", ""));
    let mut raw = Raw::connect(gateway.public());
    raw.send(format!("POST /x HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
    assert_eq!(raw.head().map(|head| head.status), Some(100));
    raw.send("hello");
    assert_eq!(raw.answer().map(|answer| answer.status), Some(200));
    // A body that would be refused is not even asked for.
    let mut raw = Raw::connect(gateway.public());
    raw.send(format!("POST /x HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n"));
    assert_eq!(raw.head().map(|head| head.status), Some(413));
}

#[test]
fn what_browsers_leave_bare_in_a_query_passes_as_it_is() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let mut raw = Raw::connect(gateway.public());
    raw.send(format!("GET /css?family=A|B&f={{x}}^` HTTP/1.1\r\n{HOST}\r\n"));
    assert_eq!(raw.answer().map(|answer| answer.status), Some(200));
    assert_eq!(origin.seen()[0].target, "/css?family=A|B&f={x}^`");
}
