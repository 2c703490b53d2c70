//! Lines seen from outside: order, pace, refusals at entry, and clients that leave.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, OPENING, fields, frame};
use crate::support::{Gateway, Origin, Raw, eventually, get, one_route};

const RST_STREAM: u8 = 3;

const PATIENCE: Duration = Duration::from_secs(10);

fn with(origin: SocketAddr, queue: &str) -> String {
    one_route(origin, "", "    filters: [line]", &format!("filters:\n  line: {{queue: {queue}}}"))
}

/// Takes so long for each request, and notes how many it had at once.
fn slow(time: Duration) -> (Origin, Arc<AtomicUsize>) {
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    let origin = Origin::with(move |_, stream| {
        seen.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        std::thread::sleep(time);
        now.fetch_sub(1, SeqCst);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    (origin, most)
}

/// Answers once `open` is set.
fn held() -> (Origin, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let told = open.clone();
    let origin = Origin::with(move |_, stream| {
        eventually("the test lets it go", 6 * PATIENCE, || told.load(SeqCst));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_ok()
    });
    (origin, open)
}

fn line(gateway: &Gateway) -> Value {
    gateway.admin("GET", "/-/queues").json()["queues"][0].clone()
}

fn depth_is(gateway: &Gateway, depth: u64) {
    eventually("the line's length", PATIENCE, || line(gateway)["depth"] == depth);
}

/// A request that is sent and not read yet.
fn asked(gateway: &Gateway) -> Raw {
    let mut raw = Raw::connect(gateway.public());
    raw.send("GET /asked HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    raw
}

#[test]
fn so_many_at_once_and_the_others_wait() {
    let (origin, most) = slow(Duration::from_millis(100));
    let gateway = Gateway::start(&with(origin.address, "{max_concurrent: 2, max_wait: 5s}"));
    let mut all: Vec<Raw> = (0..10).map(|_| asked(&gateway)).collect();
    for raw in &mut all {
        assert_eq!(raw.answer().expect("an answer").status, 200);
    }
    assert_eq!(most.load(SeqCst), 2);
    let log = gateway.access_log(10);
    let waited = log.iter().filter(|line| line["queue_wait_ms"].as_u64().is_some_and(|wait| wait > 50)).count();
    assert!(waited >= 7, "{log:?}");
    assert_eq!(line(&gateway)["in_service"], 0);
    assert!(gateway.metric("tidegate_queue_admitted_total") >= 10.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_connection_wait_in_the_same_line() {
    let (origin, most) = slow(Duration::from_millis(50));
    let gateway = Gateway::start(&with(origin.address, "{max_concurrent: 2, max_wait: 5s}"));
    let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let url = format!("http://{}/", gateway.public());
    let all: Vec<_> = (0..20).map(|_| tokio::spawn(client.post(&url).body("hello").send())).collect();
    for one in all {
        assert_eq!(one.await.expect("joined").expect("an answer").status(), 200);
    }
    assert_eq!(most.load(SeqCst), 2);
    assert!(origin.seen().iter().all(|seen| seen.body == b"hello"), "a body waits with its request");
}

#[test]
fn a_pace_is_kept_and_who_would_wait_too_long_is_told() {
    let origin = Origin::ok();
    let gateway = Gateway::start(&with(origin.address, "{rate: 10/s, max_wait: 1s}"));
    let start = Instant::now();
    let mut all: Vec<Raw> = (0..20).map(|_| asked(&gateway)).collect();
    let answers: Vec<_> = all.iter_mut().map(|raw| raw.answer().expect("an answer")).collect();
    let took = start.elapsed();
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    // One at once and ten within the second, the last at its very end: nobody who was let in is refused later. While all
    // twenty connect some may have left the line, which makes room for others, but never faster than the pace.
    assert!(passed >= 11, "{passed}");
    let pace = Duration::from_millis(100) * u32::try_from(passed - 1).expect("few");
    assert!(took >= pace - Duration::from_millis(20), "{passed} in {took:?}");
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refused.status, &refused.json()["code"]), (503, &Value::from("queue-timeout")), "{refused:?}");
        // More than the second that one may wait, and less than two.
        assert_eq!(refused.header("retry-after"), Some("2"), "{refused:?}");
    }
    let log = gateway.access_log(20);
    let refused = |line: &&Value| line["status"] == 503;
    assert!(log.iter().filter(refused).all(|line| line["queue_wait_ms"].is_null()), "refused at once: {log:?}");
}

#[test]
fn a_full_line_refuses_at_once() {
    let (origin, _) = slow(Duration::from_millis(500));
    let gateway = Gateway::start(&with(origin.address, "{max_concurrent: 1, max_length: 1, max_wait: 5s}"));
    let (_first, _second) = (asked(&gateway), asked(&gateway));
    depth_is(&gateway, 1);
    let start = Instant::now();
    let refused = get(gateway.public(), "/", "");
    assert_eq!((refused.status, &refused.json()["code"]), (503, &Value::from("queue-full")), "{refused:?}");
    assert!(refused.header("retry-after").is_some());
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
}

#[test]
fn a_client_that_leaves_gives_its_place_to_the_next() {
    let (origin, _) = slow(Duration::from_millis(700));
    let gateway = Gateway::start(&with(origin.address, "{max_concurrent: 1, max_wait: 10s}"));
    let mut first = asked(&gateway);
    eventually("the first is being served", PATIENCE, || line(&gateway)["in_service"] == 1);
    let leavers: Vec<Raw> = (0..5).map(|_| asked(&gateway)).collect();
    depth_is(&gateway, 5);
    let mut last = asked(&gateway);
    depth_is(&gateway, 6);
    for raw in &leavers {
        raw.socket().shutdown(Shutdown::Both).expect("shut down");
    }
    depth_is(&gateway, 1);
    assert_eq!(first.answer().expect("an answer").status, 200);
    assert_eq!(last.answer().expect("an answer").status, 200);
    assert_eq!(origin.seen().len(), 2);
    assert!(gateway.metric("tidegate_queue_left_total") >= 5.0);
}

/// How a request comes that will not be waited for.
#[derive(Clone, Copy, Debug)]
enum Comes {
    WithBody,
    WithChunks,
    /// More than is read of one who waits, and not all of it.
    WithLargeBody,
    WithManyChunks,
    OverHttp2,
    LargeOverHttp2,
}

impl Comes {
    const ALL: [Self; 6] = [
        Self::WithBody,
        Self::WithChunks,
        Self::WithLargeBody,
        Self::WithManyChunks,
        Self::OverHttp2,
        Self::LargeOverHttp2,
    ];
}

impl Comes {
    fn ask(self, gateway: &Gateway) -> Raw {
        let mut raw = Raw::connect(gateway.public());
        let post = |framing: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}");
        match self {
            Self::WithBody => raw.send(post("Content-Length: 5", "hello")),
            Self::WithChunks => raw.send(post("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")),
            Self::WithLargeBody => raw.send(post("Content-Length: 1000000", &"x".repeat(100_000))),
            Self::WithManyChunks => {
                raw.send(post("Transfer-Encoding: chunked", &format!("4000\r\n{}\r\n", "x".repeat(0x4000)).repeat(4)))
            }
            Self::OverHttp2 | Self::LargeOverHttp2 => {
                let head = fields(&[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")]);
                let body = match self {
                    Self::OverHttp2 => frame(DATA, END_STREAM, b"hello"),
                    // Never ended, and as much as a client may send before it is asked for more.
                    _ => frame(DATA, 0, &[b'x'; 0x3fff]).repeat(4),
                };
                raw.send([OPENING, &frame(HEADERS, END_HEADERS, &head), &body].concat())
            }
        };
        raw
    }

    /// Gives it up; over HTTP/2 the connection stays.
    fn give_up(self, raw: &mut Raw) {
        match self {
            Self::OverHttp2 | Self::LargeOverHttp2 => assert!(raw.send(frame(RST_STREAM, 0, &[0, 0, 0, 8]))),
            _ => raw.socket().shutdown(Shutdown::Both).expect("shut down"),
        }
    }
}

#[test]
fn a_request_with_a_body_that_is_given_up_leaves_its_place_to_the_next() {
    let (origin, open) = held();
    let gateway = Gateway::start(&with(origin.address, "{max_concurrent: 1, max_wait: 60s}"));
    for comes in Comes::ALL {
        // Who was answered gives the place back a moment later.
        eventually("the place is free", PATIENCE, || line(&gateway)["in_service"] == 0);
        origin.forget();
        open.store(false, SeqCst);
        let mut first = asked(&gateway);
        eventually("the first is being served", PATIENCE, || line(&gateway)["in_service"] == 1);
        let mut leavers: Vec<Raw> = (0..4).map(|_| comes.ask(&gateway)).collect();
        depth_is(&gateway, 4);
        let mut last = Comes::WithBody.ask(&gateway);
        depth_is(&gateway, 5);
        leavers[..2].iter_mut().for_each(|raw| comes.give_up(raw));
        let mut dropped = leavers.split_off(2);
        let reset = dropped.pop().expect("two");
        drop(dropped);
        rustix::net::sockopt::set_socket_linger(reset.socket(), Some(Duration::ZERO)).expect("a socket");
        drop(reset);
        depth_is(&gateway, 1);
        open.store(true, SeqCst);
        assert_eq!(first.answer().expect("an answer").status, 200, "{comes:?}");
        assert_eq!(last.answer().expect("an answer").status, 200, "{comes:?}");
        assert_eq!(origin.seen().len(), 2, "{comes:?}");
        assert_eq!(origin.seen()[1].body, b"hello", "what was read meanwhile is sent");
    }
}

#[test]
fn a_body_that_was_read_while_its_request_waited_is_whole_for_a_filter_that_asks_for_it() {
    let (origin, _) = slow(Duration::from_millis(300));
    let more = "stores: {records: {type: memory}}
filters:
  line: {queue: {max_concurrent: 1, max_wait: 10s}}
  once: {idempotency: {store: records}}";
    let gateway = Gateway::start(&one_route(origin.address, "", "    filters: [line, once]", more));
    let mut first = asked(&gateway);
    eventually("the first is being served", PATIENCE, || line(&gateway)["in_service"] == 1);
    let mut second = Raw::connect(gateway.public());
    // Its body comes in two parts, the second of them behind the turn.
    second.send("POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: 10\r\n\r\nhello");
    depth_is(&gateway, 1);
    assert_eq!(first.answer().expect("an answer").status, 200);
    depth_is(&gateway, 0);
    second.send("world");
    assert_eq!(second.answer().expect("an answer").status, 200);
    assert_eq!(origin.seen()[1].body, b"helloworld");
}

#[test]
fn a_wait_that_gets_too_long_is_ended() {
    let (origin, _) = slow(Duration::from_millis(1_500));
    let gateway = Gateway::start(&with(origin.address, "{max_concurrent: 1, max_wait: 300ms}"));
    let _first = asked(&gateway);
    eventually("the first is being served", PATIENCE, || line(&gateway)["in_service"] == 1);
    let start = Instant::now();
    let refused = get(gateway.public(), "/", "");
    assert_eq!((refused.status, &refused.json()["code"]), (503, &Value::from("queue-timeout")), "{refused:?}");
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(1_200), "{:?}", start.elapsed());
    assert_eq!(line(&gateway)["depth"], 0);
}

#[test]
fn a_reload_lets_those_in_who_wait() {
    let (origin, most) = slow(Duration::from_millis(1_500));
    let gateway = Gateway::start(&with(origin.address, "{max_concurrent: 1, max_wait: 10s}"));
    let mut all: Vec<Raw> = (0..3).map(|_| asked(&gateway)).collect();
    depth_is(&gateway, 2);
    gateway.reload(&with(origin.address, "{max_concurrent: 3, max_wait: 10s}"));
    depth_is(&gateway, 0);
    for raw in &mut all {
        assert_eq!(raw.answer().expect("an answer").status, 200);
    }
    assert_eq!(most.load(SeqCst), 3);
}

#[test]
fn a_shadow_makes_nobody_wait() {
    let (origin, most) = slow(Duration::from_millis(300));
    let yaml = one_route(
        origin.address,
        "",
        "    filters: [line]",
        "filters:\n  line: {mode: shadow, queue: {max_concurrent: 1}}",
    );
    let gateway = Gateway::start(&yaml);
    let mut all: Vec<Raw> = (0..4).map(|_| asked(&gateway)).collect();
    for raw in &mut all {
        assert_eq!(raw.answer().expect("an answer").status, 200);
    }
    assert_eq!(most.load(SeqCst), 4);
    let waits = "tidegate_filter_decisions_total{filter=\"line\",policy=\"\",outcome=\"queue\",mode=\"shadow\"}";
    assert!(gateway.metric(waits) >= 3.0);
}
