//! Repeats, twins, other requests under the same key, and what is not stored.

use std::collections::BTreeMap;

use super::*;
use crate::support::{eventually, get};

#[test]
fn a_repeat_gets_the_same_answer_and_the_origin_sees_one_request() {
    let origin = shop(Duration::ZERO);
    let gateway = Gateway::start(&with(origin.address, "sqlite", ""));
    let first = order(&gateway, "\"k-1\"", "{}");
    assert_eq!((first.status, first.header("idempotent-replayed")), (201, None));
    // Quoted or bare, it is the same key; the order of a query says nothing.
    let again = exchange(gateway.public(), &request("k-1", "{}").replace("?b=2&a=1", "?a=1&b=2"));
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!(again.body, first.body);
    for name in ["content-type", "location", "x-shop", "content-length"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    assert_eq!(again.header("set-cookie"), None, "a session is not given twice");
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    let seen = origin.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("idempotency-key"), Some("\"k-1\""), "the key goes on as it came");
    assert_eq!(seen[0].header("idempotency-fence"), Some("1"));
    assert_eq!(order(&gateway, "k-2", "{}").text(), "{\"order\":2}", "another key is another order");
    assert_eq!(origin.seen()[1].header("idempotency-fence"), Some("2"));
}

#[test]
fn two_hundred_at_once_are_carried_out_once() {
    let origin = shop(Duration::from_millis(300));
    let gateway = Gateway::start(&with(origin.address, "sqlite", ""));
    let mut all: Vec<Raw> = (0..200).map(|_| asked(&gateway, "k", "{\"qty\":1}")).collect();
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for raw in &mut all {
        let answer = raw.answer().expect("an answer");
        *statuses.entry(answer.status).or_default() += 1;
        if answer.status == 201 {
            assert_eq!(answer.text(), "{\"order\":1}");
        } else {
            assert_eq!((answer.status, code(&answer).as_str()), (409, "idempotency-in-flight"), "{answer:?}");
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
    }
    assert_eq!(origin.seen().len(), 1, "{statuses:?}");
    assert!(statuses[&201] >= 1, "{statuses:?}");
    let counted = gateway.metric("tidegate_idempotency_total");
    assert!((counted - 200.0).abs() < f64::EPSILON, "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn twins_over_http2_get_the_first_ones_answer() {
    let origin = shop(Duration::from_millis(200));
    let gateway = Gateway::start(&with(origin.address, "sqlite", ""));
    let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let url = format!("http://{}/api/orders", gateway.public());
    let send = || client.post(&url).header("idempotency-key", "k").body("{}").send();
    let all: Vec<_> = (0..30).map(|_| tokio::spawn(send())).collect();
    for one in all {
        let answer = one.await.expect("joined").expect("an answer");
        assert_eq!(answer.status(), 201);
        assert_eq!(answer.text().await.expect("a body"), "{\"order\":1}");
    }
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn the_same_key_for_another_request_is_refused_and_nothing_is_sent() {
    let origin = shop(Duration::from_millis(300));
    let gateway = Gateway::start(&with(origin.address, "memory", ""));
    let mut first = asked(&gateway, "k", "{\"qty\":1}");
    eventually("the first is under way", PATIENCE, || !origin.seen().is_empty());
    // While it runs, and behind it.
    let other = order(&gateway, "k", "{\"qty\":2}");
    assert_eq!((other.status, code(&other).as_str()), (422, "idempotency-key-reused"));
    assert_eq!(first.answer().expect("an answer").status, 201);
    let other = order(&gateway, "k", "{\"qty\":2}");
    assert_eq!((other.status, code(&other).as_str()), (422, "idempotency-key-reused"));
    assert_eq!(order(&gateway, "k", "{\"qty\":1}").text(), "{\"order\":1}", "the first result is untouched");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_key_that_is_none_is_refused() {
    let origin = shop(Duration::ZERO);
    let gateway = Gateway::start(&with(origin.address, "memory", ", required: true"));
    let long = "k".repeat(256);
    for bad in ["", "a b", "\"open", "\"a\"b", "kä", long.as_str(), "a\r\nIdempotency-Key: b"] {
        let answer = order(&gateway, bad, "{}");
        assert_eq!((answer.status, code(&answer).as_str()), (400, "idempotency-key-malformed"), "{bad:?}");
    }
    let missing =
        exchange(gateway.public(), "POST /api/orders HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!((missing.status, code(&missing).as_str()), (400, "idempotency-key-missing"));
    assert!(missing.header("link").is_some_and(|link| link.contains("rel=\"describedby\"")), "{missing:?}");
    let large = order(&gateway, "k", &"x".repeat(70_000));
    assert_eq!((large.status, code(&large).as_str()), (413, "body-too-large"));
    assert!(origin.seen().is_empty());
    assert_eq!(get(gateway.public(), "/", "").status, 201, "what only reads needs no key");
}

#[test]
fn keys_of_others_are_other_keys() {
    let origin = shop(Duration::ZERO);
    let identity = "identity:\n  merchant:\n    - {header: x-merchant}";
    let yaml = format!("{}{identity}\n", with(origin.address, "memory", ", scope: merchant, anonymous: deny"));
    let gateway = Gateway::start(&yaml);
    let ask = |merchant: &str| {
        let merchant = if merchant.is_empty() { String::new() } else { format!("X-Merchant: {merchant}\r\n") };
        exchange(gateway.public(), &request("k", "{}").replacen("Content-Type", &format!("{merchant}Content-Type"), 1))
    };
    assert_eq!([ask("a").text(), ask("b").text()], ["{\"order\":1}", "{\"order\":2}"]);
    assert_eq!([ask("a").text(), ask("b").text()], ["{\"order\":1}", "{\"order\":2}"]);
    assert_eq!(ask("").status, 400);
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn an_answer_that_nothing_was_done_frees_the_key() {
    const NO: &str = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\nno";
    const YES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes";
    let (origin, count) = script(&[NO, YES]);
    let gateway = Gateway::start(&with(origin.address, "sqlite", ""));
    assert_eq!(order(&gateway, "k", "{}").status, 429);
    assert_eq!(order(&gateway, "k", "{}").text(), "yes");
    assert_eq!(order(&gateway, "k", "{}").header("idempotent-replayed"), Some("true"));
    assert_eq!(count.load(SeqCst), 2);
    let fences: Vec<_> = origin.seen().iter().map(|seen| seen.header("idempotency-fence").map(str::to_owned)).collect();
    assert!(fences[0] < fences[1], "{fences:?}");
}

#[test]
fn what_was_never_sent_frees_the_key() {
    let port = crate::support::free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let gateway = Gateway::start(&with(address, "sqlite", ""));
    for _ in 0..2 {
        let refused = order(&gateway, "k", "{}");
        assert_eq!((refused.status, refused.header("tidegate-outcome")), (503, Some("not-sent")), "{refused:?}");
        // Its end is noted just behind its answer.
        eventually("its end is noted", PATIENCE, || gateway.metric("tidegate_idempotency_in_flight") < 0.5);
    }
    eventually("the claim is gone", PATIENCE, || gateway.metric("tidegate_idempotency_records") < 0.5);
}

#[test]
fn a_failure_behind_the_sending_is_unknown_and_not_repeated() {
    const BROKEN: &str = "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops";
    const SHORT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort";
    for (answers, status) in [(&[BROKEN][..], 500), (&[""], 502)] {
        let (origin, count) = script(Box::leak(Box::new(answers.to_vec())));
        let gateway = Gateway::start(&with(origin.address, "sqlite", ""));
        let first = order(&gateway, "k", "{}");
        assert_eq!(first.status, status);
        // What an upstream itself says is passed on as it is; that it said nothing is the gateway's to tell.
        let told = if status == 502 { Some("unknown") } else { None };
        assert_eq!(first.header("tidegate-outcome"), told, "{first:?}");
        for _ in 0..3 {
            let again = order(&gateway, "k", "{}");
            assert_eq!((again.status, code(&again).as_str()), (409, "outcome-unknown"), "{again:?}");
            assert_eq!(again.header("tidegate-outcome"), Some("unknown"));
        }
        assert_eq!(count.load(SeqCst), 1);
    }
    // An answer that breaks off.
    let origin = Origin::with(|_, stream| {
        let _ = stream.write_all(SHORT.as_bytes());
        false
    });
    let gateway = Gateway::start(&with(origin.address, "sqlite", ", location: \"/api/orders/by-key/{key}\""));
    let mut raw = asked(&gateway, "k:1", "{}");
    assert!(raw.answer().is_none_or(|answer| answer.status != 200));
    eventually("its end is noted", PATIENCE, || gateway.metric("tidegate_idempotency_in_flight") < 0.5);
    let again = order(&gateway, "k:1", "{}");
    assert_eq!((again.status, again.header("location")), (202, Some("/api/orders/by-key/k%3A1")), "{again:?}");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn an_upstream_that_knows_keys_itself_is_asked_again() {
    const BROKEN: &str = "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops";
    const YES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes";
    let (origin, _) = script(&[BROKEN, YES]);
    let gateway = Gateway::start(&with(origin.address, "sqlite", ", backend_idempotent: true"));
    assert_eq!(order(&gateway, "k", "{}").status, 500);
    assert_eq!(order(&gateway, "k", "{}").text(), "yes");
    let keys: Vec<_> = origin.seen().iter().map(|seen| seen.header("idempotency-key").map(str::to_owned)).collect();
    assert_eq!(keys, [Some("k".to_owned()), Some("k".to_owned())]);
}

#[test]
fn an_answer_that_is_too_long_passes_and_is_not_given_again() {
    let long: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(300_000)).into_boxed_str());
    let (origin, _) = script(Box::leak(Box::new([long])));
    let gateway = Gateway::start(&with(origin.address, "sqlite", ""));
    assert_eq!(order(&gateway, "k", "{}").body.len(), 300_000);
    let again = order(&gateway, "k", "{}");
    assert_eq!((again.status, code(&again).as_str()), (409, "idempotency-unreplayable"));
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn answers_without_a_body_and_in_chunks_are_given_again() {
    const EMPTY: &str = "HTTP/1.1 204 No Content\r\nX-Shop: yes\r\n\r\n";
    const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n3\r\nbar\r\n0\r\n\r\n";
    let (origin, _) = script(&[EMPTY, CHUNKS]);
    let gateway = Gateway::start(&with(origin.address, "sqlite", ""));
    for _ in 0..2 {
        let answer = order(&gateway, "a", "{}");
        assert_eq!((answer.status, answer.header("x-shop"), answer.header("content-length")), (204, Some("yes"), None));
    }
    for _ in 0..2 {
        assert_eq!(order(&gateway, "b", "{}").text(), "foobar");
    }
    assert_eq!(origin.seen().len(), 2);
}

#[test]
fn a_shadow_repeats_nothing_and_counts() {
    let origin = shop(Duration::ZERO);
    let yaml = with(origin.address, "sqlite", "").replace("once: {", "once: {mode: shadow, ");
    let gateway = Gateway::start(&yaml);
    for number in 1..=3 {
        assert_eq!(order(&gateway, "k", "{}").text(), format!("{{\"order\":{number}}}"));
    }
    assert!(gateway.metric("tidegate_idempotency_total{filter=\"once\",result=\"replay\"}") >= 2.0);
    assert_eq!(origin.seen()[0].header("idempotency-fence"), None);
}

#[test]
fn a_reload_forgets_no_answer() {
    let origin = shop(Duration::ZERO);
    let gateway = Gateway::start(&with(origin.address, "memory", ""));
    assert_eq!(order(&gateway, "k", "{}").text(), "{\"order\":1}");
    gateway.reload(&with(origin.address, "memory", ", coalesce: 1s, keep: 1h"));
    assert_eq!(order(&gateway, "k", "{}").text(), "{\"order\":1}");
}

#[test]
fn a_connection_is_kept_behind_what_was_recorded_and_behind_what_failed() {
    const YES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes";
    const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n0\r\n\r\n";
    let (origin, _) = script(&[YES, CHUNKS, "", YES]);
    let gateway = Gateway::start(&with(origin.address, "memory", ""));
    let mut raw = Raw::connect(gateway.public());
    for (key, status) in [("a", 200), ("b", 200), ("c", 502), ("d", 200), ("a", 200)] {
        assert!(raw.send(request(key, "{}")));
        let answer = raw.answer().unwrap_or_else(|| panic!("no answer for {key}"));
        assert_eq!((answer.status, answer.header("connection")), (status, Some("keep-alive")), "{key} {answer:?}");
    }
    raw.send(request("e", "{}").replace("Host:", "Connection: close\r\nHost:"));
    assert_eq!(raw.answer().expect("an answer").header("connection"), Some("close"));
    assert!(raw.closed_within(Duration::from_secs(2)).is_some());
    assert_eq!(origin.seen().len(), 5);
}
