//! HTTP/2 that no library would send: what RFC 9113 calls malformed reaches no origin, and floods are outlived.

use std::time::{Duration, Instant};

use crate::support::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, OPENING, fields, frame, frame_on};
use crate::support::{Gateway, Origin, Raw, Seen, eventually, get, one_route};

const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const PRIORITY: u8 = 2;

/// Names and values.
type Fields<'a> = Vec<(&'a str, &'a str)>;

fn gateway(origin: &Origin) -> Gateway {
    Gateway::start(&one_route(origin.address, "", "", ""))
}

fn usual() -> Fields<'static> {
    vec![(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/x")]
}

/// The usual head with one field said otherwise.
fn with(name: &'static str, value: &'static str) -> Fields<'static> {
    usual().into_iter().map(|(known, usual)| (known, if known == name { value } else { usual })).collect()
}

/// The usual head without one field.
fn without(name: &str) -> Fields<'static> {
    usual().into_iter().filter(|(known, _)| *known != name).collect()
}

/// The usual head and more behind it.
fn and(more: &[(&'static str, &'static str)]) -> Fields<'static> {
    usual().into_iter().chain(more.iter().copied()).collect()
}

/// What became of stream 1 or its connection.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Reset,
    GoAway,
    Closed,
    /// Answered by the gateway itself.
    Refused,
    /// Answered by the origin.
    Answered,
}

/// Reads frames until there is an end.
fn end(raw: &mut Raw) -> End {
    loop {
        let head = raw.bytes(9);
        let [a, b, c, kind, ..] = head[..] else { return End::Closed };
        let payload = raw.bytes(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
        match kind {
            RST_STREAM => return End::Reset,
            GOAWAY => return End::GoAway,
            // The origin's 200 is entry 8 of HPACK's table; whatever else comes is the gateway's own.
            HEADERS if payload.first() == Some(&0x88) => return End::Answered,
            HEADERS => return End::Refused,
            _ => (),
        }
    }
}

fn malformed_heads() -> Vec<(&'static str, Fields<'static>)> {
    vec![
        ("a capital letter in a name", and(&[("X-A", "a")])),
        ("connection", and(&[("connection", "close")])),
        ("transfer-encoding", and(&[("transfer-encoding", "chunked")])),
        ("upgrade", and(&[("upgrade", "websocket")])),
        ("keep-alive", and(&[("keep-alive", "1")])),
        ("proxy-connection", and(&[("proxy-connection", "keep-alive")])),
        ("te other than trailers", and(&[("te", "gzip")])),
        ("a pseudo-header behind others", [vec![("x-a", "a")], usual()].concat()),
        ("two paths", and(&[(":path", "/y")])),
        ("two methods", and(&[(":method", "GET")])),
        ("two authorities", and(&[(":authority", "b")])),
        ("an unknown pseudo-header", and(&[(":shop", "a")])),
        ("a status", and(&[(":status", "200")])),
        ("no path", without(":path")),
        ("an empty path", with(":path", "")),
        ("no method", without(":method")),
        ("an empty method", with(":method", "")),
        ("a path without a slash", with(":path", "x")),
        ("an asterisk for a POST", with(":path", "*")),
        ("a request in the path", with(":path", "/x HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled")),
        ("a blank in the path", with(":path", "/x y")),
        ("a request in the method", with(":method", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nPOST")),
        ("a request in the authority", with(":authority", "a\r\n\r\nGET /smuggled HTTP/1.1")),
        ("a user in the authority", with(":authority", "u@a")),
        ("a path in the authority", with(":authority", "a/smuggled")),
        ("no host at all", without(":authority")),
        ("a line end in a value", and(&[("x-a", "a\r\nX-User-Id: root")])),
        ("a line feed in a value", and(&[("x-a", "a\nb")])),
        ("a zero byte in a value", and(&[("x-a", "a\0b")])),
        ("a line end in a name", and(&[("x-a: a\r\nx-user-id", "root")])),
        ("a colon in a name", and(&[("x:a", "a")])),
        ("a blank in a name", and(&[("x a", "a")])),
        ("an empty name", and(&[("", "a")])),
        ("a length that is none", and(&[("content-length", "3x")])),
        ("two lengths", and(&[("content-length", "2"), ("content-length", "3")])),
        ("a tunnel", vec![(":method", "CONNECT"), (":authority", "a:80")]),
        ("a tunnel with a path", with(":method", "CONNECT")),
        ("another protocol", [with(":method", "CONNECT"), vec![(":protocol", "websocket")]].concat()),
    ]
}

#[test]
fn malformed_heads_reach_no_origin() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for (name, head) in malformed_heads() {
        let mut raw = Raw::connect(gateway.public());
        raw.send([OPENING, &frame(HEADERS, END_HEADERS, &fields(&head)), &frame(DATA, END_STREAM, b"hi")].concat());
        let end = end(&mut raw);
        assert_ne!(end, End::Answered, "{name}");
        assert_eq!(origin.seen().len(), 0, "{name}: {end:?} {:?}", origin.seen());
    }
    assert_eq!(get(gateway.public(), "/", "").status, 200);
}

#[test]
fn a_body_that_differs_from_its_length_is_never_whole() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    for (length, body) in [("5", &b"hi"[..]), ("1", b"hi"), ("0", b"hi"), ("2", b"")] {
        let head = fields(&[usual(), vec![("content-length", length)]].concat());
        let mut raw = Raw::connect(gateway.public());
        raw.send([OPENING, &frame(HEADERS, END_HEADERS, &head), &frame(DATA, END_STREAM, body)].concat());
        assert_ne!(end(&mut raw), End::Answered, "{length} for {body:?}");
        // What had begun was cut: no origin takes a part for the whole, nor what follows for a request.
        let seen = origin.seen();
        // Of a length of nothing the head alone is the whole request; what comes behind it does not get through.
        let whole =
            |seen: &Seen| !seen.body.is_empty() && seen.header("content-length") == Some(&*seen.body.len().to_string());
        assert!(seen.iter().all(|seen| !whole(seen) && seen.target == "/x"), "{seen:?}");
        origin.forget();
    }
    assert_eq!(get(gateway.public(), "/", "").status, 200);
}

#[test]
fn a_fragment_is_off_before_a_route_is_looked_for() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let mut raw = Raw::connect(gateway.public());
    let head = fields(&with(":path", "/x#/../admin"));
    raw.send([OPENING, &frame(HEADERS, END_HEADERS | END_STREAM, &head)].concat());
    assert_eq!(end(&mut raw), End::Answered);
    assert_eq!((origin.seen().len(), origin.seen()[0].target.as_str()), (1, "/x"));
}

#[test]
fn what_follows_a_body_frames_nothing() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let trailers = fields(&[("content-length", "50"), ("x-user-id", "root"), ("host", "evil")]);
    let mut raw = Raw::connect(gateway.public());
    raw.send(
        [
            OPENING,
            &frame(HEADERS, END_HEADERS, &fields(&usual())),
            &frame(DATA, 0, b"hi"),
            &frame(HEADERS, END_HEADERS | END_STREAM, &trailers),
        ]
        .concat(),
    );
    eventually("the request arrives", Duration::from_secs(5), || origin.seen().len() == 1);
    let seen = origin.seen().remove(0);
    assert_eq!((seen.body.as_slice(), seen.header("x-user-id"), seen.header("host")), (&b"hi"[..], None, Some("a")));
}

#[test]
fn malformed_frames_end_their_connection() {
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    let head = fields(&usual());
    let cases: [(&str, Vec<u8>); 14] = [
        ("data before a head", frame(DATA, END_STREAM, b"hi")),
        ("a head on stream 0", frame_on(0, HEADERS, END_HEADERS, &head)),
        ("a head on a stream of the server's", frame_on(2, HEADERS, END_HEADERS, &head)),
        ("a frame beyond the largest", frame(HEADERS, END_HEADERS, &vec![0; 20_000])),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, &head)),
        (
            "something between a head and its rest",
            [frame(HEADERS, 0, &head), frame_on(0, PING, 0, &[0; 8]), frame(CONTINUATION, END_HEADERS, b"")].concat(),
        ),
        ("settings on a stream", frame(SETTINGS, 0, b"")),
        ("settings of an odd length", frame_on(0, SETTINGS, 0, b"abc")),
        ("a ping of an odd length", frame_on(0, PING, 0, b"abc")),
        ("a window of no bytes more", frame_on(0, WINDOW_UPDATE, 0, &[0; 4])),
        ("a window beyond the largest", frame_on(0, WINDOW_UPDATE, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("a reset of nothing", frame(RST_STREAM, 0, &[0; 4])),
        ("more padding than frame", frame(HEADERS, END_HEADERS | 8, &[200, 0, 0])),
        ("a field that nobody has named", frame(HEADERS, END_HEADERS, &[0xff, 0xff, 0xff, 0x7f])),
    ];
    for (name, bytes) in cases {
        let mut raw = Raw::connect(gateway.public());
        raw.send([OPENING, &bytes].concat());
        let end = end(&mut raw);
        assert!(matches!(end, End::GoAway | End::Closed), "{name}: {end:?}");
        assert_eq!(origin.seen().len(), 0, "{name}: {:?}", origin.seen());
    }
    assert_eq!(get(gateway.public(), "/", "").status, 200);
}

/// Frames of a flood: the next `count`, each from its number.
type Flood = fn(u32) -> Vec<u8>;

fn request_on(stream: u32) -> Vec<u8> {
    frame_on(stream, HEADERS, END_HEADERS | END_STREAM, &fields(&with(":method", "GET")))
}

#[test]
fn floods_are_outlived_in_little_memory() {
    let floods: [(&str, Flood); 10] = [
        ("pings", |_| frame_on(0, PING, 0, &[0; 8])),
        ("settings", |_| frame_on(0, SETTINGS, 0, &[0, 3, 0, 0, 0, 100])),
        ("priorities", |n| frame_on(n * 2 + 1, PRIORITY, 0, &[0, 0, 0, 0, 1])),
        ("windows", |_| frame_on(0, WINDOW_UPDATE, 0, &[0, 0, 0, 1])),
        ("requests taken back", |n| {
            [request_on(n * 2 + 1), frame_on(n * 2 + 1, RST_STREAM, 0, &[0, 0, 0, 8])].concat()
        }),
        ("requests without end", |n| request_on(n * 2 + 1)),
        ("resets that the server is led to send", |n| {
            [request_on(n * 2 + 1), frame_on(n * 2 + 1, WINDOW_UPDATE, 0, &[0; 4])].concat()
        }),
        ("empty data", |n| {
            frame(if n == 0 { HEADERS } else { DATA }, if n == 0 { END_HEADERS } else { 0 }, &{
                if n == 0 { fields(&usual()) } else { Vec::new() }
            })
        }),
        ("a head that goes on", |n| {
            let head = if n == 0 { fields(&usual()) } else { fields(&[("x-a", "a")]) };
            frame(if n == 0 { HEADERS } else { CONTINUATION }, 0, &head)
        }),
        ("a head that goes on with nothing", |n| {
            frame(if n == 0 { HEADERS } else { CONTINUATION }, 0, &if n == 0 { fields(&usual()) } else { Vec::new() })
        }),
    ];
    let origin = Origin::ok();
    let gateway = gateway(&origin);
    assert_eq!(get(gateway.public(), "/", "").status, 200);
    let before = gateway.resident_kib();
    for (name, flood) in floods {
        let mut raw = Raw::connect(gateway.public());
        // Who does not read what is sent back must not make the gateway keep it.
        raw.socket().set_write_timeout(Some(Duration::from_secs(1))).expect("set the timeout");
        raw.send(OPENING);
        for batch in 0..200 {
            let frames: Vec<u8> = (batch * 100..(batch + 1) * 100).flat_map(flood).collect();
            if !raw.send(frames) {
                break;
            }
        }
        let begun = Instant::now();
        assert_eq!(get(gateway.public(), "/", "").status, 200, "during {name}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{name}: {:?}", begun.elapsed());
    }
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "grew by {grown} KiB");
    eventually("every request is over", Duration::from_secs(40), || {
        gateway.metric("tidegate_requests_in_flight") < 0.5
    });
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}
