//! What `headers` promises.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;

use super::*;
use crate::engine::{KeyHasher, Mode, Nanos, StateRegistry};

fn spec(settings: serde_json::Value) -> Headers {
    serde_json::from_value(settings).unwrap()
}

fn problems(settings: serde_json::Value) -> Vec<String> {
    let mut problems = Problems::default();
    spec(settings).check(&CheckContext { identities: &[], stores: &[], durable: &[] }, &mut problems);
    problems.0.into_iter().map(|problem| problem.path).collect()
}

fn name(text: &'static str) -> HeaderName {
    HeaderName::from_static(text)
}

#[test]
fn edits_come_in_the_order_remove_set_add_for_each_direction() {
    let spec = spec(json!({
        "request": { "set": { "x-a": "1" }, "remove": ["x-b"], "add": { "x-c": "2" } },
        "response": { "remove": ["server"] },
    }));
    let (states, hasher, identities) = (StateRegistry::new(), KeyHasher::fixed(), BTreeMap::new());
    let (name_of_filter, mode) = ("edit".into(), Mode::Enforce);
    let mut cx = BuildContext {
        name: name_of_filter,
        mode,
        states: &states,
        hasher: &hasher,
        identities: &identities,
        upstreams: &[],
        acquired: Vec::new(),
    };
    let filter = spec.build(&mut cx).unwrap();
    let mut cx = RequestContext::new(Nanos(0), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let head = RequestHead { method: "GET", target: "/", path: "/", host: "", secure: false, headers: &[] };
    assert!(matches!(filter.on_request(&head, &mut cx), Decision::Continue));
    let value = HeaderValue::from_static;
    assert_eq!(
        cx.to_upstream.as_slice(),
        [
            HeaderEdit::Remove(name("x-b")),
            HeaderEdit::Set(name("x-a"), value("1")),
            HeaderEdit::Add(name("x-c"), value("2")),
        ]
    );
    assert_eq!(cx.to_client.as_slice(), [HeaderEdit::Remove(name("server"))]);
}

#[test]
fn what_the_gateway_must_own_is_refused_with_its_path() {
    for bad in ["Host", "connection", "Content-Length", "transfer-encoding", "X-Tidegate-User", "te", "a b", ""] {
        assert_eq!(problems(json!({ "request": { "remove": [bad] } })), ["request.remove[0]"], "{bad}");
        assert_eq!(problems(json!({ "response": { "set": { bad: "v" } } })), [format!("response.set.{bad}")]);
    }
    assert_eq!(problems(json!({ "request": { "add": { "x-a": "line\r\nend" } } })), ["request.add.x-a"]);
    assert_eq!(problems(json!({})), [""]);
    assert!(problems(json!({ "request": { "set": { "x-a": "ok" } } })).is_empty());
}

#[test]
fn unknown_words_are_refused() {
    assert!(serde_json::from_value::<Headers>(json!({ "requests": {} })).is_err());
    assert!(serde_json::from_value::<Headers>(json!({ "request": { "replace": {} } })).is_err());
}
