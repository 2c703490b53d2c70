//! Heads that HTTP/2 lets through and HTTP/1 would not: the same rules hold before an origin sees them.

use crate::support::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, OPENING, fields, frame};
use crate::support::{Gateway, Origin, Raw, eventually, one_route};
use std::time::Duration;

/// Names and values.
type Fields<'a> = &'a [(&'a str, &'a str)];

/// Sends a POST with these fields and a body; the connection is held until it is dropped.
fn post(gateway: &Gateway, target: &str, more: Fields<'_>, body: &[u8]) -> Raw {
    let usual = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", target)];
    let head = fields(&[&usual, more].concat());
    let mut raw = Raw::connect(gateway.public());
    raw.send([OPENING, &frame(HEADERS, END_HEADERS, &head), &frame(DATA, END_STREAM, body)].concat());
    raw
}

/// A name, a method or target, further headers, and the status that is right.
type Case<'a> = (&'a str, &'a str, Fields<'a>, u16);

#[test]
fn what_http_1_refuses_is_refused() {
    let origin = Origin::ok();
    let limits = "  limits: {max_header_size: 4KiB, max_headers: 20}";
    let gateway = Gateway::start(&one_route(origin.address, limits, "", ""));
    let many = [("x-a", "a"); 21];
    let long = "a".repeat(5_000);
    let cases: [Case<'_>; 9] = [
        ("a length twice", "/", &[("content-length", "2"), ("content-length", "2")], 400),
        ("blank before a value", "/", &[("x-user", " root")], 400),
        ("blank behind a value", "/", &[("x-user", "root\t")], 400),
        ("underscore twin", "/", &[("x_user", "root")], 400),
        ("unknown expectation", "/", &[("expect", "payment")], 417),
        ("bytes beyond ASCII in a query", "/?a=\u{e9}", &[], 400),
        ("another host", "/", &[("host", "b")], 400),
        ("many lines", "/", &many, 431),
        ("a long line", "/", &[("x-a", &long)], 431),
    ];
    let mut lines = 0;
    for (name, target, more, status) in cases {
        let _raw = post(&gateway, target, more, b"hi");
        // The library answers some of these itself, before there is a request to log.
        let quiet = name == "another host";
        if quiet {
            std::thread::sleep(Duration::from_millis(100));
        } else {
            lines += 1;
            let log = gateway.access_log(lines);
            assert_eq!(log[lines - 1]["status"], status, "{name}: {log:?}");
        }
        assert_eq!(origin.seen().len(), 0, "{name}: {:?}", origin.seen());
    }
}

#[test]
fn cookies_are_one_line_again_and_expectations_end_at_the_gateway() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&one_route(origin.address, "", "", ""));
    let more = [("cookie", "a=1"), ("cookie", "b=2"), ("expect", "100-continue"), ("content-length", "2")];
    let _raw = post(&gateway, "/?family=A|B", &more, b"hi");
    eventually("the request arrives", Duration::from_secs(5), || origin.seen().len() == 1);
    let seen = origin.seen().remove(0);
    assert_eq!((seen.count("cookie"), seen.header("cookie")), (1, Some("a=1; b=2")), "{seen:?}");
    assert_eq!((seen.header("expect"), seen.count("content-length")), (None, 1), "{seen:?}");
    assert_eq!((seen.target.as_str(), seen.body.as_slice()), ("/?family=A|B", b"hi".as_slice()));
}
