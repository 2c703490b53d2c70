//! Claims and their ends, with records in memory.

use super::*;
use crate::engine::ReplyBody;

/// Carries a request out to its end.
fn carried_out(filter: &dyn Filter, key: &str, status: u16, now: Nanos) -> u64 {
    let mut cx = request("alice", "{}", now);
    goes_on(ask(filter, key, &mut cx));
    let fence = sent(filter, &mut cx);
    answered(filter, &mut cx, status, "done");
    over(filter, &mut cx, Some(Known::Final));
    fence
}

fn repeat(filter: &dyn Filter, key: &str, now: Nanos) -> Decision {
    ask(filter, key, &mut request("alice", "{}", now))
}

#[test]
fn a_repeat_gets_status_kept_headers_and_body() {
    let filter = once("");
    carried_out(&*filter, "k", 201, at(0));
    let reply = refused(repeat(&*filter, "k", at(1)));
    assert_eq!(reply.status, StatusCode::CREATED);
    let headers: Vec<_> = reply.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(headers, [("x-shop", b"yes".as_slice()), ("idempotent-replayed", b"true")]);
    assert!(matches!(&reply.body, ReplyBody::Whole(body) if body == "done"));
}

#[test]
fn answers_settle_free_or_leave_open() {
    for status in [200, 204, 303, 400, 402, 404, 410, 422] {
        let filter = once("");
        carried_out(&*filter, "k", status, at(0));
        assert_eq!(refused(repeat(&*filter, "k", at(1))).status.as_u16(), status);
    }
    for status in [401, 403, 408, 409, 425, 429] {
        let filter = once("");
        let first = carried_out(&*filter, "k", status, at(0));
        assert!(first < carried_out(&*filter, "k", 200, at(1)), "{status} frees the key");
    }
    for status in [500, 502, 503, 504] {
        let filter = once("");
        carried_out(&*filter, "k", status, at(0));
        assert_eq!(refused(repeat(&*filter, "k", at(1))).code(), Some("outcome-unknown"), "{status}");
    }
}

#[test]
fn what_never_left_is_free_and_what_may_have_left_is_not() {
    for (known, free) in [
        (None, true),
        (Some(Known::NotSent), true),
        (Some(Known::NotProcessed), true),
        (Some(Known::Unknown), false),
        (Some(Known::Final), false),
    ] {
        let filter = once("");
        let mut cx = request("alice", "{}", at(0));
        goes_on(ask(&*filter, "k", &mut cx));
        sent(&*filter, &mut cx);
        over(&*filter, &mut cx, known);
        let again = repeat(&*filter, "k", at(1));
        assert_eq!(matches!(again, Decision::Continue), free, "{known:?}");
    }
}

#[test]
fn a_request_that_is_dropped_is_free_until_it_is_sent_and_unknown_behind() {
    let filter = once("");
    let mut cx = request("alice", "{}", at(0));
    goes_on(ask(&*filter, "k", &mut cx));
    drop(cx);
    let mut cx = request("alice", "{}", at(1));
    goes_on(ask(&*filter, "k", &mut cx));
    sent(&*filter, &mut cx);
    drop(cx);
    assert_eq!(refused(repeat(&*filter, "k", at(2))).code(), Some("outcome-unknown"));
}

#[test]
fn a_twin_waits_and_another_request_is_refused() {
    let filter = once("");
    let mut first = request("alice", "{}", at(0));
    goes_on(ask(&*filter, "k", &mut first));
    let Decision::Wait(wait) = repeat(&*filter, "k", at(0)) else { panic!("waits for its twin") };
    assert_eq!(wait.reason, "twin");
    let other = ask(&*filter, "k", &mut request("alice", "{\"other\":1}", at(0)));
    assert_eq!(refused(other).code(), Some("idempotency-key-reused"));
    goes_on(ask(&*filter, "k", &mut request("bob", "{}", at(0))));
    sent(&*filter, &mut first);
    answered(&*filter, &mut first, 200, "done");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let resumed = runtime.block_on(wait.until);
    let Verdict::Respond(reply) = resumed.verdict else { panic!("answered") };
    assert_eq!(reply.status, StatusCode::OK);
}

#[test]
fn without_coalescing_a_twin_is_told_at_once() {
    let filter = once(r#", "coalesce": "0s""#);
    let mut first = request("alice", "{}", at(0));
    goes_on(ask(&*filter, "k", &mut first));
    let reply = refused(repeat(&*filter, "k", at(0)));
    assert_eq!((reply.status, reply.code()), (StatusCode::CONFLICT, Some("idempotency-in-flight")));
    assert_eq!(reply.retry_after, Some(std::time::Duration::from_secs(1)));
}

#[test]
fn one_principal_has_only_so_many_under_way() {
    let filter = once(r#", "max_in_flight": 2"#);
    let mut held: Vec<_> = (0..2).map(|_| request("alice", "{}", at(0))).collect();
    for (number, cx) in held.iter_mut().enumerate() {
        goes_on(ask(&*filter, &format!("k{number}"), cx));
    }
    assert_eq!(refused(repeat(&*filter, "k2", at(0))).status, StatusCode::TOO_MANY_REQUESTS);
    goes_on(ask(&*filter, "k2", &mut request("bob", "{}", at(0))));
    held.pop();
    goes_on(repeat(&*filter, "k2", at(0)));
}

#[test]
fn answers_are_kept_as_long_as_the_file_says() {
    let filter = once(r#", "keep": "1h""#);
    carried_out(&*filter, "k", 200, at(0));
    assert_eq!(refused(repeat(&*filter, "k", at(3_599))).status, StatusCode::OK);
    goes_on(repeat(&*filter, "k", at(3_600)));
}

#[test]
fn a_body_is_asked_for_before_anything_is_decided() {
    let filter = once("");
    let mut cx = request("alice", "", at(0));
    cx.body = None;
    assert!(matches!(ask(&*filter, "k", &mut cx), Decision::NeedBody { max: 65_536 }));
    cx.body = Some(Bytes::new());
    goes_on(ask(&*filter, "k", &mut cx));
}

#[test]
fn somebody_without_the_identity_has_keys_by_address_or_none() {
    let filter = once("");
    goes_on(ask(&*filter, "k", &mut request("", "{}", at(0))));
    let strict = once(r#", "anonymous": "deny""#);
    assert_eq!(refused(ask(&*strict, "k", &mut request("", "{}", at(0)))).status, StatusCode::BAD_REQUEST);
}

#[test]
fn an_answer_beyond_the_bound_is_told_as_such() {
    let filter = once(r#", "max_answer": "3B", "location": "/by-key/{key}""#);
    carried_out(&*filter, "k", 200, at(0));
    let reply = refused(repeat(&*filter, "k", at(1)));
    assert_eq!(reply.code(), Some("idempotency-unreplayable"));
    assert!(reply.headers.iter().any(|(name, value)| name == "location" && value == "/by-key/k"));
}

#[test]
fn a_shadow_counts_repeats_and_asks_for_nothing() {
    let states = registry();
    let filter = built(r#"{"store": "local"}"#, Mode::Shadow, &states);
    for round in 0..2 {
        let mut cx = request("alice", "{}", at(round));
        cx.body = None;
        let decision = ask(&*filter, "k", &mut cx);
        if round == 0 {
            goes_on(decision);
        } else {
            assert_eq!(refused(decision).code(), Some("idempotency-unreplayable"));
        }
        let mut attempt =
            Attempt { number: 1, pinned: false, safe: false, candidates: ChannelSet::all(1), chosen: None };
        assert!(matches!(filter.on_attempt(&mut attempt, &mut cx), Verdict::Continue));
        assert!(cx.capture.unwrap_or(0) == 0, "nothing is buffered for a shadow");
        let answer = Captured { status: StatusCode::OK, headers: HeaderMap::new(), body: None };
        assert!(filter.on_captured(&answer, &mut cx).is_none());
        over(&*filter, &mut cx, Some(Known::Final));
    }
    // Enforced later, it does not find what the shadow remembered without bodies.
    goes_on(repeat(&*built(r#"{"store": "local"}"#, Mode::Enforce, &states), "k", at(3)));
}
