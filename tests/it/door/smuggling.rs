//! The families of request smuggling, as bytes: each disguise is refused, or the origin reads what the client's other
//! readers read. What is looked at is what the origin really received.

use std::time::Duration;

use crate::support::{Gateway, Origin, Raw, Seen, one_route};

/// A name and the bytes of a request.
type Case = (&'static str, Vec<u8>);

/// A POST with these lines and this body.
fn post(lines: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"POST /x HTTP/1.1\r\nHost: shop.test\r\n", lines.as_ref(), b"\r\n", body.as_ref()].concat()
}

/// A POST whose chunked body is `body`.
fn chunks(body: impl AsRef<[u8]>) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// A request with this first line and these lines.
fn get(line: &str, lines: &str) -> Vec<u8> {
    format!("{line}\r\n{lines}\r\n").into_bytes()
}

const END: &str = "0\r\n\r\n";
const HOST: &str = "Host: shop.test\r\n";

fn disguised_codings() -> Vec<Case> {
    let lines: [(&str, &[u8]); 22] = [
        ("identity before chunked", b"Transfer-Encoding: identity, chunked\r\n"),
        ("chunked twice in one line", b"Transfer-Encoding: chunked, chunked\r\n"),
        ("an empty element before", b"Transfer-Encoding: ,chunked\r\n"),
        ("an empty element behind", b"Transfer-Encoding: chunked,\r\n"),
        ("a parameter", b"Transfer-Encoding: chunked;a=b\r\n"),
        ("quoted", b"Transfer-Encoding: \"chunked\"\r\n"),
        ("empty", b"Transfer-Encoding:\r\n"),
        ("identity", b"Transfer-Encoding: identity\r\n"),
        ("another line behind", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n"),
        ("another line before", b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n"),
        ("form feed before", b"Transfer-Encoding: \x0cchunked\r\n"),
        ("form feed behind", b"Transfer-Encoding: chunked\x0c\r\n"),
        ("carriage return behind", b"Transfer-Encoding: chunked\r\r\n"),
        ("carriage return before", b"Transfer-Encoding:\rchunked\r\n"),
        ("a wide blank", b"Transfer-Encoding: \xa0chunked\r\n"),
        ("folded", b"Transfer-Encoding:\r\n chunked\r\n"),
        ("folded with a tab", b"X: a\r\n\tTransfer-Encoding: chunked\r\n"),
        ("zero byte in the name", b"Transfer-Encoding\0: chunked\r\n"),
        ("tab before the colon", b"Transfer-Encoding\t: chunked\r\n"),
        ("behind a bare line feed", b"X: a\nTransfer-Encoding: chunked\r\n"),
        ("behind a bare carriage return", b"X: a\rTransfer-Encoding: chunked\r\n"),
        ("behind line feed and carriage return", b"X: a\n\rTransfer-Encoding: chunked\r\n"),
    ];
    lines.into_iter().map(|(name, lines)| (name, post(lines, END))).collect()
}

fn contradicting_lengths() -> Vec<Case> {
    let lines: [(&str, &[u8]); 14] = [
        ("the same length twice", b"Content-Length: 3\r\nContent-Length: 3\r\n"),
        ("in another case", b"Content-Length: 3\r\ncontent-length: 5\r\n"),
        ("a list of the same", b"Content-Length: 3, 3\r\n"),
        ("a list of one", b"Content-Length: 3,\r\n"),
        ("a fraction", b"Content-Length: 3.0\r\n"),
        ("a power", b"Content-Length: 3e0\r\n"),
        ("other digits", "Content-Length: \u{663}\r\n".as_bytes()),
        ("a separator", b"Content-Length: 1_0\r\n"),
        ("form feed", b"Content-Length: 3\x0c\r\n"),
        ("carriage return", b"Content-Length: 3\r\r\n"),
        ("blank before the colon", b"Content-Length : 3\r\n"),
        ("beside identity", b"Content-Length: 3\r\nTransfer-Encoding: identity\r\n"),
        ("behind chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        ("negative zero", b"Content-Length: -0\r\n"),
    ];
    lines.into_iter().map(|(name, lines)| (name, post(lines, "abc"))).collect()
}

fn malformed_chunks() -> Vec<Case> {
    let bodies: [(&str, Vec<u8>); 17] = [
        ("a size that wraps around", "10000000000000003\r\nabc\r\n0\r\n\r\n".into()),
        ("a negative size", "-3\r\nabc\r\n0\r\n\r\n".into()),
        ("a signed size", "+3\r\nabc\r\n0\r\n\r\n".into()),
        ("a prefixed size", "0x3\r\nabc\r\n0\r\n\r\n".into()),
        ("a blank before the size", " 3\r\nabc\r\n0\r\n\r\n".into()),
        ("a blank behind the size", "3 \r\nabc\r\n0\r\n\r\n".into()),
        ("no size", "\r\nabc\r\n0\r\n\r\n".into()),
        ("line feed in an extension", "3;a\nb\r\nabc\r\n0\r\n\r\n".into()),
        ("zero byte in an extension", "3;a\0b\r\nabc\r\n0\r\n\r\n".into()),
        ("carriage return in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n".into()),
        ("an endless extension", format!("3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(20_000)).into()),
        ("nothing behind a chunk", "3\r\nabc0\r\n\r\n".into()),
        ("a request for a trailer", "0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".into()),
        ("a folded trailer", "0\r\n X: a\r\n\r\n".into()),
        ("line feed in a trailer", "0\r\nX: a\nGET /smuggled HTTP/1.1\r\n\r\n".into()),
        ("a bare line feed at the end", "0\r\n\n".into()),
        ("endless trailers", format!("0\r\n{}\r\n", "X: abcdefgh\r\n".repeat(2_000)).into()),
    ];
    bodies.into_iter().map(|(name, body)| (name, chunks(body))).collect()
}

fn malformed_lines() -> Vec<Case> {
    let line = |name, line: &str| (name, get(line, HOST));
    let host = |name, value: &str| (name, get("GET /x HTTP/1.1", &format!("Host: {value}\r\n")));
    vec![
        line("two blanks", "GET  /x HTTP/1.1"),
        line("a tab", "GET\t/x\tHTTP/1.1"),
        line("a blank before", " GET /x HTTP/1.1"),
        line("a blank behind", "GET /x HTTP/1.1 "),
        line("a carriage return behind", "GET /x HTTP/1.1\r"),
        line("a carriage return for a blank", "GET\r/x HTTP/1.1"),
        line("no target", "GET HTTP/1.1"),
        line("a zero byte in the target", "GET /x\0y HTTP/1.1"),
        line("a letter beyond ASCII", "GET /\u{e9} HTTP/1.1"),
        line("an odd method", "G(T /x HTTP/1.1"),
        line("a long version", "GET /x HTTP/1.10"),
        line("a padded version", "GET /x HTTP/01.1"),
        line("a version without a dot", "GET /x HTTP/11"),
        line("an asterisk", "GET * HTTP/1.1"),
        line("an authority", "GET shop.test:80 HTTP/1.1"),
        line("another scheme", "GET ftp://shop.test/x HTTP/1.1"),
        line("no authority", "GET http:///x HTTP/1.1"),
        line("a user", "GET http://a@shop.test/x HTTP/1.1"),
        line("another port", "GET http://shop.test:81/x HTTP/1.1"),
        ("a target in place of a host", get("GET http://shop.test/x HTTP/1.1", "")),
        ("a blank before the first header", get("GET /x HTTP/1.1", " Host: shop.test\r\n")),
        ("a header without a colon", get("GET /x HTTP/1.1", "Host: shop.test\r\nX\r\n")),
        ("two hosts alike", get("GET /x HTTP/1.1", "Host: shop.test\r\nHost: shop.test\r\n")),
        ("a folded host", get("GET /x HTTP/1.1", "Host:\r\n shop.test\r\n")),
        host("an empty host", ""),
        host("a list of hosts", "a, b"),
        host("two words for a host", "a b"),
        host("a port of letters", "a:80x"),
        host("a port beyond 16 bits", "a:65536"),
        host("half a bracket", "[::1"),
        host("form feed in a host", "a\x0c"),
        ("two empty lines before", b"\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
    ]
}

#[test]
fn disguises_are_refused_and_reach_no_origin() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let cases = [disguised_codings(), contradicting_lengths(), malformed_chunks(), malformed_lines()];
    for (name, request) in cases.into_iter().flatten() {
        let mut raw = Raw::connect(gateway.public());
        raw.send([&request[..], b"GET /smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n"].concat());
        let answer = raw.answer().unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(answer.status, 400, "{name}: {answer:?}");
        assert!(raw.closed_within(Duration::from_secs(2)).is_some(), "{name}: left open");
        let seen = origin.seen();
        assert!(!seen.iter().any(|seen| seen.target == "/smuggled"), "{name}: smuggled\n{seen:?}");
        // A body that turns out wrong may have begun; it never ends, so no origin acts on it.
        assert!(seen.iter().all(|seen| seen.header("transfer-encoding").is_some()), "{name}: {seen:?}");
        origin.forget();
    }
}

/// Sends a request and one behind it on the same connection; what the origin received of the first.
fn received(gateway: &Gateway, origin: &Origin, name: &str, request: &[u8]) -> Seen {
    let mut raw = Raw::connect(gateway.public());
    raw.send([request, b"GET /behind HTTP/1.1\r\nHost: shop.test\r\n\r\n"].concat());
    for which in ["first", "second"] {
        let method = if request.starts_with(b"HEAD") && which == "first" { "HEAD" } else { "GET" };
        let answer = raw.answer_to(method).unwrap_or_else(|| panic!("{name}: no {which} answer"));
        assert_eq!(answer.status, 200, "{name}, {which}: {answer:?}");
    }
    let mut seen = origin.seen();
    origin.forget();
    assert_eq!(seen.len(), 2, "{name}: {seen:?}");
    assert_eq!((seen[1].target.as_str(), seen[1].body.len()), ("/behind", 0), "{name}: {seen:?}");
    seen.remove(0)
}

#[test]
fn what_has_one_reading_arrives_in_that_reading() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let with_length = |method: &str| {
        format!("{method} /x HTTP/1.1\r\n{HOST}Content-Length: {}\r\n\r\n{smuggled}", smuggled.len()).into_bytes()
    };
    let trailers =
        "5\r\nhello\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: gzip\r\nHost: evil\r\nX: \u{e9}\r\n\r\n";
    let cases: [(&str, Vec<u8>, &str); 16] = [
        ("tabs around a length", post("Content-Length:\t5 \t\r\n", "hello"), "hello"),
        ("a padded length", post("Content-Length: 005\r\n", "hello"), "hello"),
        ("another case", post("transfer-ENCODING: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"), "hello"),
        ("padded sizes", chunks("005\r\nhello\r\n000\r\n\r\n"), "hello"),
        ("capital sizes", chunks(format!("A\r\n{}\r\n0\r\n\r\n", "0123456789")), "0123456789"),
        ("extensions", chunks("5;a;b=\"c d\"\r\nhello\r\n0;e\r\n\r\n"), "hello"),
        ("trailers that frame", chunks(trailers), "hello"),
        ("a GET with a body", with_length("GET"), smuggled),
        ("a HEAD with a body", with_length("HEAD"), smuggled),
        ("a DELETE with a body", with_length("DELETE"), smuggled),
        ("an OPTIONS with a body", with_length("OPTIONS"), smuggled),
        ("a method of its own", with_length("get"), smuggled),
        ("a length that ends at this hop", post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello"), "hello"),
        (
            "a coding that ends at this hop",
            post("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            "hello",
        ),
        (
            "an old client that expects",
            format!("POST /x HTTP/1.0\r\n{HOST}Connection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello").into(),
            "hello",
        ),
        ("an empty line before", [b"\r\n", &post("Content-Length: 5\r\n", "hello")[..]].concat(), "hello"),
    ];
    for (name, request, body) in cases {
        let seen = received(&gateway, &origin, name, &request);
        assert_eq!(String::from_utf8_lossy(&seen.body), body, "{name}: {seen:?}");
        assert_eq!(seen.count("host"), 1, "{name}: {seen:?}");
        assert_eq!(seen.count("content-length") + seen.count("transfer-encoding"), 1, "{name}: {seen:?}");
    }
}

#[test]
fn no_upgrade_but_a_proper_websocket_reaches_an_origin() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let lines = [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Upgrade: websocket\r\nSec-WebSocket-Key: a\r\n",
        "Connection: Upgrade\r\n",
    ];
    for lines in lines {
        let seen = received(&gateway, &origin, lines, &get("GET /x HTTP/1.1", &format!("{HOST}{lines}")));
        for gone in ["upgrade", "http2-settings"] {
            assert_eq!(seen.header(gone), None, "{lines}: {seen:?}");
        }
        assert!(
            seen.header("connection").is_none_or(|said| !said.to_ascii_lowercase().contains("upgrade")),
            "{seen:?}"
        );
    }
    // One with a body is a request like others: what is behind it is no frame.
    let body = "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n";
    let seen = received(&gateway, &origin, "a body", &post(body, "hello"));
    assert_eq!((seen.header("upgrade"), seen.body.as_slice()), (None, b"hello".as_slice()), "{seen:?}");
}

#[test]
fn a_client_cannot_name_the_gateways_own_words_as_matters_of_the_connection() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let ours = ["host", "x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-tidegate-priority"];
    let lines =
        format!("{HOST}Connection: close, {}\r\nConnection: keep-alive, TE\r\nTE: trailers\r\n", ours.join(", "));
    let mut raw = Raw::connect(gateway.public());
    raw.send(get("GET /x HTTP/1.1", &lines));
    assert_eq!(raw.answer().map(|answer| answer.status), Some(200));
    assert!(raw.closed_within(Duration::from_secs(2)).is_some(), "`close` stands, whatever else is said");
    let seen = origin.seen().remove(0);
    for name in ours {
        assert_eq!(seen.count(name), 1, "{name}: {seen:?}");
    }
    assert_eq!(seen.header("te"), None, "{seen:?}");
}

#[test]
fn bytes_behind_an_answer_without_a_body_reach_nobody() {
    for (method, head) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 8\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\n"),
    ] {
        let origin = Origin::with(move |_, stream| {
            let smuggled = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
            std::io::Write::write_all(stream, format!("{head}{smuggled}").as_bytes()).is_ok()
        });
        let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
        let mut raw = Raw::connect(gateway.public());
        for number in 0..4 {
            raw.send(format!("{method} / HTTP/1.1\r\n{HOST}\r\n"));
            // Refusing it is as good as passing it on without what follows.
            let Some(answer) = raw.answer_to(method) else { break };
            let expected = head[9..12].parse().expect("a status");
            assert!([expected, 502].contains(&answer.status), "{head}, {number}: {answer:?}");
            assert!(!answer.text().contains("smuggled"), "{head}, {number}: {answer:?}");
        }
    }
}
