//! The table, row by row.

use super::*;
use crate::config::CodeRule;

/// About a payment of which nothing is known.
const NOTHING: Asked<'static> = Asked { id: "", money: &Money { amount: None, currency: None } };

fn rule(http: Option<u16>, code: Option<&str>, subcode: Option<&str>, meaning: Meaning, failover: bool) -> CodeRule {
    CodeRule { flow: None, http, code: code.map(str::to_owned), subcode: subcode.map(str::to_owned), meaning, failover }
}

fn codes() -> Codes {
    let mut codes = Codes::default();
    let more = [
        rule(None, Some("DECLINED"), Some("CHANNEL_MAINTENANCE"), Meaning::SoftDeclined, true),
        rule(None, Some("DECLINED"), Some("LIMIT"), Meaning::SoftDeclined, false),
        rule(None, Some("SYSTEM_ERROR"), None, Meaning::Unknown, false),
        rule(Some(503), Some("MAINTENANCE"), None, Meaning::NotProcessed, false),
    ];
    codes.rules.splice(0..0, more);
    codes
}

fn answer(status: u16, body: &str) -> Judged<Class> {
    let money = Money { amount: Some(100), currency: Some("CNY".to_owned()) };
    of_answer(&codes(), StatusCode::from_u16(status).unwrap(), Some(body.as_bytes()), Asked { id: "p1", money: &money })
}

fn query(status: u16, body: &str) -> Report {
    let money = Money { amount: Some(100), currency: Some("CNY".to_owned()) };
    of_query(
        &codes(),
        Flow::Query,
        StatusCode::from_u16(status).unwrap(),
        Some(body.as_bytes()),
        Asked { id: "p1", money: &money },
    )
    .class
}

#[test]
fn rows_2_to_10_what_the_wire_says() {
    let table = [
        (2, Seen::NoConnection, Class::NotSent),
        (3, Seen::NoHandshake, Class::NotSent),
        (4, Seen::Broken { accepted: 0 }, Class::NotSent),
        (4, Seen::Silent { accepted: 0 }, Class::NotSent),
        (5, Seen::Broken { accepted: 1 }, Class::Unknown),
        (6, Seen::Refused, Class::NotProcessed),
        (6, Seen::GoneAway, Class::NotProcessed),
        (7, Seen::NeedsHttp11, Class::NotProcessed),
        (8, Seen::Protocol, Class::Unknown),
        (9, Seen::Broken { accepted: 400 }, Class::Unknown),
        (10, Seen::Silent { accepted: 400 }, Class::Unknown),
        (10, Seen::Truncated, Class::Unknown),
        (10, Seen::Undecodable, Class::Unknown),
    ];
    for (row, seen, class) in table {
        assert_eq!(of_wire(seen), class, "row {row}: {seen:?}");
    }
}

#[test]
fn rows_11_to_16_what_a_status_says() {
    let table: [(u8, &[u16], Class); 6] = [
        (11, &[425], Class::NotProcessed),
        (12, &[429], Class::NotProcessed),
        (13, &[503], Class::Unknown),
        (14, &[500, 501, 502, 504, 505, 511, 599], Class::Unknown),
        (15, &[408, 409], Class::Unknown),
        (16, &[400, 401, 403, 404, 405, 413, 415, 422], Class::Rejected),
    ];
    for (row, statuses, class) in table {
        for status in statuses {
            assert_eq!(answer(*status, "{}").class, class, "row {row}: {status}");
            assert_eq!(answer(*status, "not json").class, class, "row {row}: {status}");
        }
    }
    // What stands in no row.
    for status in [300, 301, 302, 304, 402, 406, 410, 418, 426, 428, 431, 451] {
        assert_eq!(answer(status, "{}").class, Class::Unknown, "{status}");
    }
    assert_eq!(answer(503, r#"{"status":"MAINTENANCE"}"#).class, Class::NotProcessed, "row 13 by a rule");
}

#[test]
fn rows_17_to_22_what_a_code_says() {
    let table = [
        (17, r#"{"status":"SUCCESS","amount":100,"currency":"CNY"}"#, Class::Succeeded),
        (17, r#"{"status":"REFUNDED"}"#, Class::Succeeded),
        (18, r#"{"status":"PENDING"}"#, Class::Pending),
        (18, r#"{"status":"PROCESSING"}"#, Class::Pending),
        (19, r#"{"status":"DECLINED","code":"INSUFFICIENT_FUNDS"}"#, Class::DeclinedHard),
        (20, r#"{"status":"DECLINED","code":"CHANNEL_MAINTENANCE"}"#, Class::DeclinedSoft { failover: true }),
        (20, r#"{"status":"DECLINED","code":"LIMIT"}"#, Class::DeclinedSoft { failover: false }),
        (21, r#"{"status":"SYSTEM_ERROR"}"#, Class::Unknown),
        (22, r#"{"status":"SUCCES"}"#, Class::Unknown),
        (22, r#"{"status":null}"#, Class::Unknown),
        (22, "{}", Class::Unknown),
        (10, "", Class::Unknown),
        (10, r#"{"status":"SUCCESS""#, Class::Unknown),
    ];
    for status in [200, 201] {
        for (row, body, class) in table {
            assert_eq!(answer(status, body).class, class, "row {row}: {body}");
        }
    }
    assert_eq!(answer(200, r#"{"status":"SUCCES"}"#).alert, Some("a code without a rule"));
    assert_eq!(answer(200, r#"{"status":"SYSTEM_ERROR"}"#).alert, None);
}

#[test]
fn a_rule_without_a_status_speaks_of_good_answers_only() {
    for status in [302, 500, 503] {
        assert_eq!(answer(status, r#"{"status":"DECLINED"}"#).class, Class::Unknown, "{status}");
        assert_eq!(answer(status, r#"{"status":"SUCCESS"}"#).class, Class::Unknown, "{status}");
    }
}

#[test]
fn other_money_than_was_asked_for_is_no_success() {
    for body in [
        r#"{"status":"SUCCESS","amount":101}"#,
        r#"{"status":"SUCCESS","amount":"100"}"#,
        r#"{"status":"SUCCESS","amount":100,"currency":"USD"}"#,
        r#"{"status":"DECLINED","amount":1}"#,
    ] {
        let judged = answer(200, body);
        assert_eq!(judged.class, Class::Unknown, "{body}");
        assert!(judged.alert.is_some(), "{body}");
        assert_eq!(query(200, body), Report::Nothing, "{body}");
    }
}

#[test]
fn an_answer_about_another_payment_says_nothing_about_this_one() {
    for status in ["SUCCESS", "DECLINED", "CLOSED"] {
        let body = format!(r#"{{"payment_no":"p2","status":"{status}","amount":100}}"#);
        let judged = answer(200, &body);
        assert_eq!((judged.class, judged.alert), (Class::Unknown, Some("another payment")));
        assert_eq!(query(200, &body), Report::Nothing, "{body}");
    }
    assert_eq!(answer(200, r#"{"payment_no":"p1","status":"SUCCESS"}"#).class, Class::Succeeded);
}

#[test]
fn words_of_a_charge_under_a_refusal_are_no_refusal() {
    for status in [400, 404, 410, 422, 425, 429] {
        for word in ["SUCCESS", "PENDING"] {
            let body = format!(r#"{{"status":"{word}"}}"#);
            assert_eq!(answer(status, &body).class, Class::Unknown, "{status} {word}");
            assert_eq!(query(status, &body), Report::Nothing, "{status} {word}");
        }
    }
}

#[test]
fn an_answer_too_large_to_read_is_judged_by_its_status() {
    let judge = |status| of_answer(&codes(), StatusCode::from_u16(status).unwrap(), None, NOTHING).class;
    assert_eq!(judge(200), Class::Unknown);
    assert_eq!(judge(429), Class::NotProcessed);
    assert_eq!(judge(422), Class::Rejected);
    assert_eq!(judge(500), Class::Unknown);
    let asked = of_query(&codes(), Flow::Close, StatusCode::OK, None, NOTHING);
    assert_eq!((asked.class, asked.alert), (Report::Nothing, Some("the answer is too large")));
}

#[test]
fn only_what_proves_that_nothing_was_charged_frees_a_payment() {
    let frees = [Class::NotSent, Class::NotProcessed, Class::DeclinedSoft { failover: true }];
    let holds = [
        Class::Succeeded,
        Class::Pending,
        Class::DeclinedHard,
        Class::DeclinedSoft { failover: false },
        Class::Rejected,
        Class::Unknown,
    ];
    assert!(frees.iter().all(|class| class.frees()) && !holds.iter().any(|class| class.frees()));
    // Once something is unknown, nothing that the second call alone can say makes it known.
    for class in frees.into_iter().chain([Class::DeclinedHard, Class::Rejected, Class::Unknown]) {
        assert_eq!(class.after_unknown(), Class::Unknown, "{class:?}");
    }
    assert_eq!(Class::Succeeded.after_unknown(), Class::Succeeded);
    assert_eq!(Class::Pending.after_unknown(), Class::Pending);
}

#[test]
fn a_query_that_fails_tells_nothing() {
    let table = [
        (200, r#"{"status":"SUCCESS"}"#, Report::Succeeded),
        (200, r#"{"status":"PENDING"}"#, Report::Pending),
        (200, r#"{"status":"DECLINED"}"#, Report::DeclinedHard),
        (200, r#"{"status":"DECLINED","code":"LIMIT"}"#, Report::DeclinedHard),
        (200, r#"{"status":"CLOSED"}"#, Report::Closed),
        (404, r#"{"code":"PAYMENT_NOT_FOUND"}"#, Report::NotFound),
        (410, r#"{"status":"GONE"}"#, Report::NotFound),
        // Whoever stands in front of the channel and knows no such host, or no such path.
        (404, "<html>not found</html>", Report::Nothing),
        (404, r#"{"message":"no route"}"#, Report::Nothing),
        (410, "", Report::Nothing),
        (200, r#"{"status":"HUH"}"#, Report::Nothing),
        (200, "huh", Report::Nothing),
        (400, "{}", Report::Nothing),
        (429, "{}", Report::Nothing),
        (500, r#"{"status":"SUCCESS"}"#, Report::Nothing),
        (503, r#"{"status":"MAINTENANCE"}"#, Report::Nothing),
    ];
    for (status, body, report) in table {
        assert_eq!(query(status, body), report, "{status} {body}");
    }
}

#[test]
fn a_rule_may_speak_of_one_flow_only() {
    let mut codes = codes();
    let closed = CodeRule { flow: Some(Flow::Close), ..rule(None, Some("SUCCESS"), None, Meaning::Closed, false) };
    codes.rules.insert(0, closed);
    let read = |flow| of_query(&codes, flow, StatusCode::OK, Some(br#"{"status":"SUCCESS"}"#), NOTHING).class;
    assert_eq!((read(Flow::Close), read(Flow::Query)), (Report::Closed, Report::Succeeded));
}

#[test]
fn a_soft_decline_without_failover_is_final_for_whoever_hears_of_it() {
    assert_eq!(query(200, r#"{"status":"DECLINED","code":"LIMIT"}"#), Report::DeclinedHard);
    assert_eq!(query(200, r#"{"status":"DECLINED","code":"CHANNEL_MAINTENANCE"}"#), Report::DeclinedSoft);
}
