//! What clients and operators see: refusals, the status resource, the admin side, and a gateway without a journal.

use std::time::Duration;

use super::desk::{
    BODY, Desk, PLAIN, SOFT, answer, answering, becomes, charges, good, pay, payment, request, stands, with,
};
use crate::support::{Answer, Gateway, Raw, exchange, free_port, get};

fn post(gateway: &Gateway, target: &str, body: &str) -> Answer {
    let length = body.len();
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    exchange(gateway.address("admin"), &format!("{head}{body}"))
}

#[test]
fn a_payment_without_a_proper_number_or_amount_is_refused_before_anything() {
    let a = good();
    let gateway = Desk::default().open(&[("a", a.address, PLAIN)]);
    for (request, code) in [
        (request("p1", BODY).replace("Idempotency-Key: p1\r\n", ""), "payment-id-missing"),
        (request("../p1", BODY), "payment-id-malformed"),
        (request("p1", r#"{"amount":"ten","currency":"CNY"}"#), "payment-malformed"),
        (request("p1", r#"{"amount":10}"#), "payment-malformed"),
        (request("p1", "no json"), "payment-malformed"),
    ] {
        let got = exchange(gateway.public(), &request);
        assert_eq!((got.status, got.json()["code"].as_str()), (400, Some(code)), "{got:?}");
    }
    let large = format!(r#"{{"amount":100,"currency":"CNY","note":"{}"}}"#, "x".repeat(70_000));
    assert_eq!(exchange(gateway.public(), &request("p1", &large)).status, 413);
    assert_eq!(
        (charges(&a), gateway.admin("GET", "/-/payments").json()["payments"].as_array().map(Vec::len)),
        (0, Some(0))
    );
}

#[test]
fn the_channels_answer_comes_whole_and_without_what_is_not_its_to_say() {
    let a = with(
        |_, stream| {
            use std::io::Write;
            let body = r#"{"status":"SUCCESS"}"#;
            let head = format!(
                "Content-Length: {}\r\nTidegate-Outcome: not-sent\r\nX-Trade: t1\r\nKeep-Alive: timeout=5",
                body.len()
            );
            stream.write_all(format!("HTTP/1.1 201 Created\r\n{head}\r\n\r\n{body}").as_bytes()).is_ok()
        },
        (404, ""),
    );
    let gateway = Desk::default().open(&[("a", a.address, PLAIN)]);
    let mut raw = Raw::connect(gateway.public());
    // Twice on one connection: what is read and answered leaves nothing behind.
    for id in ["p1", "p2"] {
        raw.send(request(id, BODY).replace("Host:", "Accept-Encoding: gzip\r\nHost:"));
        let got = raw.answer().expect("an answer");
        let of = |name: &str| {
            got.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        assert_eq!((got.status, got.text().as_str()), (201, r#"{"status":"SUCCESS"}"#));
        assert_eq!((of("tidegate-outcome"), of("x-trade")), (vec!["final"], vec!["t1"]));
        assert_eq!((of("tidegate-attempts"), of("x-request-id").len(), of("keep-alive").len()), (vec!["1"], 1, 0));
    }
    assert_eq!(gateway.access_log(2)[0]["decision"], "proxied");
    assert!(a.seen().iter().all(|seen| seen.header("accept-encoding").is_none()), "what is packed cannot be judged");
}

#[test]
fn a_query_and_a_call_about_a_payment_reach_the_channel_they_name_and_are_no_payments() {
    let (a, b) = (good(), good());
    let desk = Desk { payment: "      paths: [/pay/v1/payments]\n", ..Desk::default() };
    let gateway = desk.open(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
    assert_eq!(get(gateway.public(), "/pay/v1/payments/p1", "Tidegate-Channel: b\r\n").status, 200);
    let close = request("p1", "{\"why\":\"too late\"}").replace("Idempotency-Key: p1", "Tidegate-Channel: b");
    let close = close.replace("/payments HTTP", "/payments/p1/close HTTP");
    assert_eq!(exchange(gateway.public(), &close).status, 200, "{close}");
    assert_eq!((a.seen().len(), b.seen().len()), (0, 2));
    assert_eq!(b.seen()[1].body, b"{\"why\":\"too late\"}");
    assert_eq!(gateway.admin("GET", "/-/payments/p1").status, 404);
    let anywhere = close.replace("Tidegate-Channel: b\r\n", "");
    assert_eq!(exchange(gateway.public(), &anywhere).json()["code"], "channel-missing");
    // Where payments are made, nothing passes without a number that can be read, whoever is named.
    for (target, without) in
        [("/payments HTTP", "Idempotency-Key: p1\r\n"), ("//payments/ HTTP", "Idempotency-Key: p1")]
    {
        let pinned = request("p1", BODY).replace(without, "Tidegate-Channel: b\r\n").replace("/payments HTTP", target);
        assert_eq!(exchange(gateway.public(), &pinned).json()["code"], "payment-id-missing", "{pinned}");
    }
    let packed = request("p1", BODY).replace("Host:", "Tidegate-Channel: b\r\nContent-Encoding: gzip\r\nHost:");
    assert_eq!(exchange(gateway.public(), &packed).json()["code"], "payment-encoded");
    assert_eq!(b.seen().len(), 2);
}

#[test]
fn a_payment_that_names_its_channel_is_written_down_and_goes_there_or_nowhere() {
    let b = good();
    let dead = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let gateway = Desk::default().open(&[("a", dead, PLAIN), ("b", b.address, PLAIN)]);
    let to = |channel: &str, id: &str| {
        exchange(
            gateway.public(),
            &request(id, BODY).replace("Host:", &format!("Tidegate-Channel: {channel}\r\nHost:")),
        )
    };
    let got = to("a", "p1");
    assert_eq!((got.status, got.header("tidegate-outcome")), (503, Some("not-sent")), "{got:?}");
    assert_eq!(charges(&b), 0);
    assert_eq!(to("b", "p1").status, 200, "the same number may go elsewhere: it was sent nowhere");
    assert_eq!(to("b", "p1").header("tidegate-outcome"), Some("final"));
    assert_eq!(to("a", "p1").status, 200, "it is paid, whoever is named now");
    assert_eq!(charges(&b), 1);
    let attempts = gateway.admin("GET", "/-/payments/p1/attempts").json();
    let attempts: Vec<_> = attempts["attempts"].as_array().expect("a list").iter().collect();
    let (last, before) = attempts.split_last().expect("attempts");
    assert!(before.iter().all(|one| one["channel"] == "a" && one["state"] == "NOT_SENT"), "{before:?}");
    assert_eq!((&last["channel"], &last["state"]), (&"b".into(), &"SUCCEEDED".into()));
}

#[test]
fn the_state_of_a_payment_is_told_where_it_can_be_made_and_nowhere_else() {
    let a = answering(200, r#"{"status":"DECLINED","code":"INSUFFICIENT_FUNDS"}"#);
    let gateway = Desk::default().open(&[("a", a.address, PLAIN)]);
    assert_eq!(pay(&gateway, "p1").status, 200);
    let status = get(gateway.public(), "/.tidegate/payments/p1", "");
    let body = status.json();
    assert_eq!((status.status, status.header("cache-control")), (200, Some("no-store")));
    assert_eq!(
        (body["status"].as_str(), body["channel"].as_str(), body["amount"].as_i64()),
        (Some("FAILED"), Some("a"), Some(100))
    );
    assert_eq!(get(gateway.public(), "/.tidegate/payments/p2", "").json()["code"], "payment-unknown");
    assert_eq!(get(gateway.public(), "/.tidegate/payments/", "").status, 404);
    let posted =
        exchange(gateway.public(), "POST /.tidegate/payments/p1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
    // The other listener has no route to that upstream: the path is its own upstream's affair, which is dead.
    assert_eq!(get(gateway.address("other"), "/.tidegate/payments/p1", "").status, 503);
}

#[test]
fn without_a_journal_a_payment_is_tried_on_one_channel_once() {
    let desk = Desk { journal: false, ..Desk::default() };
    let b = good();
    let dead = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let gateway = desk.open(&[("a", dead, PLAIN), ("b", b.address, PLAIN)]);
    let got = pay(&gateway, "p1");
    assert_eq!((got.status, got.header("tidegate-outcome")), (503, Some("not-sent")), "{got:?}");
    assert_eq!(charges(&b), 0);
    for (a, status) in [
        (answering(500, "{}"), 502),
        (
            with(
                |_, _| {
                    std::thread::sleep(Duration::from_secs(5));
                    false
                },
                (404, ""),
            ),
            504,
        ),
    ] {
        let gateway = desk.open(&[("a", a.address, PLAIN), ("b", b.address, PLAIN)]);
        let got = pay(&gateway, "p1");
        assert_eq!((got.status, got.header("tidegate-outcome")), (status, Some("unknown")), "{got:?}");
        assert_eq!((charges(&a), charges(&b), got.header("location")), (1, 0, None));
    }
}

#[test]
fn operators_see_every_try_and_why_it_was_made() {
    let soft = r#"{"status":"DECLINED","code":"CHANNEL_MAINTENANCE"}"#;
    let (a, b) = (answering(200, soft), good());
    let gateway = Desk::default().open(&[("a", a.address, SOFT), ("b", b.address, SOFT)]);
    assert_eq!(pay(&gateway, "p1").status, 200);
    let listed = gateway.admin("GET", "/-/payments?state=succeeded").json();
    assert_eq!(listed["payments"][0]["amount"], 100);
    assert_eq!(gateway.admin("GET", "/-/payments?state=happy").status, 400);
    let tries = gateway.admin("GET", "/-/payments/p1/attempts").json()["attempts"].clone();
    assert_eq!(
        (tries[0]["evidence"].as_str(), tries[0]["http"].as_i64()),
        (Some("answered 200 DECLINED CHANNEL_MAINTENANCE"), Some(200))
    );
    let considered = gateway.admin("GET", "/-/payments/p1/route").json()["attempts"][1]["considered"].clone();
    let expected = serde_json::json!([
        {"channel": "a", "reason": "was left for good"},
        {"channel": "b", "reason": "chosen"},
    ]);
    assert_eq!(considered, expected);
    for path in ["", "/attempts", "/route"] {
        assert_eq!(gateway.admin("GET", &format!("/-/payments/nobody{path}")).status, 404);
    }
    assert!(gateway.metric("tidegate_payment_attempts_total{channel=\"a\",class=\"declined_soft\"}") > 0.5);
    assert!(gateway.metric("tidegate_payment_journal_writes_total") > 1.5);
}

#[test]
fn only_a_payment_that_waits_for_a_person_is_decided_by_one() {
    let a = answering(500, "{}");
    let yaml = Desk::default().yaml(&[("a", a.address, PLAIN)]);
    let gateway = Gateway::start(&yaml.replace("unit: 100ms,", "unit: 50ms, deadline: 500ms,"));
    assert_eq!(pay(&gateway, "p1").status, 202);
    let word = |state: &str, reason: &str| {
        let body = format!(r#"{{"state":"{state}","reason":"{reason}"}}"#);
        post(&gateway, "/-/payments/p1/manual-resolve", &body).status
    };
    assert_eq!(word("FAILED", "impatient"), 409);
    // Its channel says PENDING to every query: then the deadline of what is pending holds, a day.
    becomes(&gateway, "p1", "PROCESSING a:PENDING");
    assert_eq!(post(&gateway, "/-/payments/p1/close", "").status, 200);
    stands(&gateway, "p1", "FAILED a:CLOSED");
    assert_eq!((word("SUCCEEDED", ""), word("MAYBE", "because"), word("SUCCEEDED", "because")), (400, 400, 409));
    assert_eq!(payment(&gateway, "p1")["state"], "FAILED");
}

#[test]
fn the_word_of_a_person_is_the_last() {
    let a = with(|_, stream| answer(stream, 500, "{}"), (500, "{}"));
    let yaml = Desk::default().yaml(&[("a", a.address, PLAIN)]);
    let gateway = Gateway::start(&yaml.replace("unit: 100ms,", "unit: 50ms, deadline: 300ms,"));
    assert_eq!(pay(&gateway, "p1").status, 202);
    becomes(&gateway, "p1", "MANUAL a:MANUAL");
    let word = r#"{"state":"FAILED","reason":"the bank says no"}"#;
    assert_eq!(post(&gateway, "/-/payments/p1/manual-resolve", word).status, 200);
    let got = pay(&gateway, "p1");
    assert_eq!((got.status, got.json()["status"].as_str()), (200, Some("FAILED")), "{got:?}");
    let events = payment(&gateway, "p1")["events"].clone();
    assert_eq!(
        (events[0]["kind"].as_str(), events[1]["detail"].as_str()),
        (Some("MANUAL"), Some("FAILED by a person: the bank says no"))
    );
    assert_eq!(charges(&a), 1);
}
