//! What is deferred, and what becomes of it.

use super::*;
use crate::support::eventually;

#[test]
fn a_deferred_request_is_carried_out_once_and_its_answer_is_the_upstreams_own() {
    let origin = shop(Duration::from_millis(50));
    let gateway = Gateway::start(&with(origin.address, ", when: always"));
    let accepted = post(&gateway, &keyed("k"), "{\"qty\":1}");
    let place = place(&accepted);
    assert!(accepted.header("retry-after").is_some());
    let got = result(&gateway, &place);
    assert_eq!((got.status, got.text().as_str()), (201, "{\"order\":1}"), "{got:?}");
    for (name, value) in [("x-shop", "yes"), ("location", "/api/orders/7"), ("set-cookie", "session=1")] {
        assert_eq!(got.header(name), Some(value));
    }
    assert_eq!(status(&gateway, &place), "DONE");
    let seen = origin.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].target.as_str(), seen[0].body.as_slice()), ("/api/orders?a=1", &b"{\"qty\":1}"[..]));
    assert_eq!((seen[0].header("idempotency-key"), seen[0].header("prefer")), (Some("k"), None));
}

#[test]
fn the_same_key_is_the_same_record_and_another_request_with_it_is_refused() {
    let origin = shop(Duration::from_millis(300));
    let gateway = Gateway::start(&with(origin.address, ", when: always"));
    let first = place(&post(&gateway, &keyed("k"), "{}"));
    let again = post(&gateway, &keyed("k"), "{}");
    assert_eq!((place(&again), again.header("idempotent-replayed")), (first.clone(), Some("true")));
    let other = post(&gateway, &keyed("k"), "{\"qty\":2}");
    assert_eq!((other.status, other.json()["code"].as_str()), (422, Some("idempotency-key-reused")));
    assert_eq!(result(&gateway, &first).status, 201);
    let late = post(&gateway, &keyed("k"), "{}");
    assert_eq!((late.status, late.text().as_str()), (201, "{\"order\":1}"), "who asks late gets the answer");
    assert_eq!(late.header("idempotent-replayed"), Some("true"));
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn who_prefers_to_wait_gets_the_answer_if_it_comes_in_time() {
    let origin = shop(Duration::from_millis(200));
    let gateway = Gateway::start(&with(origin.address, ""));
    let plain = post(&gateway, "", "{}");
    assert_eq!((plain.status, plain.header("preference-applied")), (201, None), "nobody asked for a deferral");
    let waited = post(&gateway, "Prefer: respond-async, wait=10\r\n", "{}");
    assert_eq!((waited.status, waited.text().as_str()), (201, "{\"order\":2}"));
    assert_eq!(waited.header("preference-applied"), Some("respond-async, wait=10"));
    let at_once = post(&gateway, "Prefer: respond-async\r\n", "{}");
    assert_eq!(at_once.header("preference-applied"), Some("respond-async"));
    assert_eq!(result(&gateway, &place(&at_once)).text(), "{\"order\":3}");
}

#[test]
fn a_shadow_promises_nothing_and_counts() {
    let origin = shop(Duration::ZERO);
    let yaml = with(origin.address, ", when: always").replace("later: {", "later: {mode: shadow, ");
    let gateway = Gateway::start(&yaml);
    assert_eq!(post(&gateway, &keyed("k"), "{}").status, 201);
    assert!(gateway.metric("tidegate_deferred_total{filter=\"later\",event=\"accepted\"}") > 0.5);
    assert!(!gateway.folder().join("disk.deferred.sqlite").exists(), "a shadow writes nothing down");
}

#[test]
fn who_must_have_a_key_or_a_name_is_told_when_it_has_none() {
    let origin = shop(Duration::ZERO);
    let identity = "identity:\n  merchant:\n    - {header: x-merchant}\n";
    let settings = ", when: always, required: true, scope: merchant, anonymous: deny";
    let gateway = Gateway::start(&format!("{}{identity}", with(origin.address, settings)));
    let code = |headers: &str| {
        let answer = post(&gateway, headers, "{}");
        (answer.status, answer.json()["code"].as_str().map(str::to_owned))
    };
    assert_eq!(code("X-Merchant: a\r\n"), (400, Some("idempotency-key-missing".to_owned())));
    assert_eq!(code(&keyed("k")), (400, Some("key-missing".to_owned())));
    assert_eq!(code(&format!("X-Merchant: a\r\n{}{}", keyed("k"), keyed("l"))).0, 400);
    assert_eq!(post(&gateway, &format!("X-Merchant: a\r\n{}", keyed("k")), "{}").status, 202);
    let large = post(&gateway, &format!("X-Merchant: a\r\n{}", keyed("l")), &"x".repeat(70_000));
    assert_eq!((large.status, large.json()["code"].as_str()), (413, Some("body-too-large")));
    assert_eq!(get(gateway.public(), "/", "").status, 201, "what only reads is not deferred");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_it_is_the_same() {
    let origin = shop(Duration::from_millis(300));
    let gateway = Gateway::start(&with(origin.address, ""));
    let client = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let base = format!("http://{}", gateway.public());
    let request = client.post(format!("{base}/api/orders")).header("prefer", "respond-async").body("{}");
    let accepted = request.send().await.expect("an answer");
    assert_eq!((accepted.status().as_u16(), accepted.version()), (202, reqwest::Version::HTTP_2));
    let place = accepted.headers()["location"].to_str().expect("a path").to_owned();
    let events = client.get(format!("{base}{place}/events")).send().await.expect("a stream");
    let told = events.text().await.expect("its end");
    assert!(told.contains("event: end"), "{told}");
    let result = client.get(format!("{base}{place}/result")).send().await.expect("an answer");
    assert_eq!((result.status().as_u16(), result.text().await.expect("a text").as_str()), (201, "{\"order\":1}"));
    assert_eq!(
        gateway.access_log(4).iter().filter(|line| line["decision"] == "deferred").count(),
        2,
        "taken, and sent"
    );
}

#[test]
fn under_overload_newcomers_are_deferred_and_a_repeat_finds_its_record() {
    let origin = shop(Duration::from_millis(800));
    let settings = ", when: overload, overload: {max_in_flight: 1}, max_in_flight: 1";
    let gateway = Gateway::start(&with(origin.address, settings));
    let mut first = Raw::connect(gateway.public());
    first.send(request(&keyed("a"), "{}"));
    eventually("the first is under way", PATIENCE, || origin.seen().len() == 1);
    let place = place(&post(&gateway, &keyed("b"), "{}"));
    assert_eq!(first.answer().expect("an answer").status, 201);
    assert_eq!(result(&gateway, &place).status, 201);
    // The overload is over; who was deferred is still found.
    eventually("nothing waits", PATIENCE, || gateway.metric("tidegate_deferred_depth") < 0.5);
    let again = post(&gateway, &keyed("b"), "{}");
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!(post(&gateway, &keyed("c"), "{}").status, 201);
    assert_eq!(origin.seen().len(), 3);
}
