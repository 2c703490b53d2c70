//! What clients and files say.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;

use super::super::{Afterwards, Letter, Prefer, RespondAsync};
use crate::engine::{CheckContext, FilterSpec, HeaderEdit, Problems, RequestHead};

fn prefer(lines: &[&str]) -> Prefer {
    let headers: Vec<(&[u8], &[u8])> = lines.iter().map(|line| (&b"Prefer"[..], line.as_bytes())).collect();
    Prefer::of(&RequestHead {
        method: "POST",
        target: "/",
        path: "/",
        host: "shop.test",
        secure: false,
        headers: &headers,
    })
}

#[test]
fn preferences_are_read_as_rfc_7240_says() {
    let wait = |seconds| Some(Duration::from_secs(seconds));
    for (lines, respond_async, waits) in [
        (&["respond-async, wait=10"][..], true, wait(10)),
        (&["wait=10", "Respond-Async"], true, wait(10)),
        (&["respond-async; foo=bar , wait = \"3\""], true, wait(3)),
        (&["wait=1, wait=9"], false, wait(1)),
        (&["wait=soon, return=minimal"], false, None),
        (&["respond-asynchronously"], false, None),
        (&[], false, None),
    ] {
        assert_eq!(prefer(lines), Prefer { respond_async, wait: waits }, "{lines:?}");
    }
    let applied =
        |respond_async, wait| Prefer::applied(respond_async, wait).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(applied(true, wait(2)).as_deref(), Some("respond-async, wait=2"));
    assert_eq!(applied(false, wait(2)).as_deref(), Some("wait=2"));
    assert_eq!(applied(false, None), None);
}

#[test]
fn a_letter_comes_out_as_it_went_in() {
    let mut headers = HeaderMap::new();
    headers.append("x-a", HeaderValue::from_bytes(b"\xff1").unwrap());
    headers.append("x-a", HeaderValue::from_static("2"));
    let letter = Letter {
        route: "orders".to_owned(),
        method: Method::POST,
        target: "/api/orders?a=1".to_owned(),
        headers,
        body: b"\0{}\xff"[..].into(),
        channel: Some("alipay".to_owned()),
        kind: Some("card".to_owned()),
        amount: Some(-7),
        afterwards: Afterwards {
            edits: vec![
                HeaderEdit::Remove("x-b".parse().unwrap()),
                HeaderEdit::Set("x-c".parse().unwrap(), HeaderValue::from_static("")),
                HeaderEdit::Add("x-d".parse().unwrap(), HeaderValue::from_bytes(b"\xff").unwrap()),
            ],
            kept: vec![("room".into(), vec![0, 1]), ("other".into(), Vec::new())],
        },
    };
    let bytes = letter.encode().unwrap();
    assert_eq!(Letter::decode(&bytes), Some(letter.clone()));
    let bare = Letter { channel: None, kind: None, amount: None, headers: HeaderMap::new(), ..letter };
    assert_eq!(Letter::decode(&bare.encode().unwrap()), Some(bare));
    assert_eq!(Letter::decode(&bytes[..bytes.len() - 1]), None, "cut off");
    assert_eq!(Letter::decode(b"\x02"), None, "of another version");
}

fn problems(settings: serde_json::Value) -> Vec<String> {
    let (identities, stores) = (["user".to_owned(), "route".to_owned()], ["disk".to_owned(), "heap".to_owned()]);
    let spec: RespondAsync = serde_json::from_value(settings).unwrap();
    let mut problems = Problems::default();
    spec.check(&CheckContext { identities: &identities, stores: &stores, durable: &stores[..1] }, &mut problems);
    problems.0.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

#[test]
fn nonsense_in_settings_is_refused_all_at_once() {
    assert_eq!(problems(json!({"store": "disk"})), Vec::<String>::new());
    let heap = problems(json!({"store": "heap"}));
    assert_eq!(heap, ["store: what was promised is kept in a store of type `sqlite`"]);
    let all = problems(json!({
        "scope": "route", "fair_by": "nobody", "weights": {"a": 0}, "ttl": "1ms", "max_wait": "1h", "max_records": 0,
        "max_in_flight": 0, "methods": ["get", "GET"], "retry": {"attempts": 0, "factor": 0.5}, "max_body": "1MiB",
    }));
    assert_eq!(all.len(), 13, "{all:#?}");
}
