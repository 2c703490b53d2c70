//! The filter as a chain calls it: settings, decisions, shadow mode.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use http::StatusCode;

use super::super::Queue as Settings;
use super::*;
use crate::engine::{
    BuildContext, CheckContext, Decision, Filter, FilterSpec, KeyHasher, Mode, Problems, Reply, RequestContext,
    RequestHead, StateRegistry,
};

fn settings(yaml_as_json: &str) -> Settings {
    serde_json::from_str(yaml_as_json).expect("settings")
}

fn built(json: &str, mode: Mode, states: &StateRegistry) -> Arc<dyn Filter> {
    let (hasher, identities) = (KeyHasher::fixed(), BTreeMap::new());
    let mut cx = BuildContext {
        name: "line".into(),
        mode,
        states,
        hasher: &hasher,
        identities: &identities,
        upstreams: &[],
        acquired: Vec::new(),
    };
    let filter = settings(json).build(&mut cx).expect("builds");
    filter.activate();
    filter
}

fn ask(filter: &dyn Filter, cx: &mut RequestContext) -> Decision {
    let head = RequestHead { method: "GET", target: "/", path: "/", host: "shop.test", secure: false, headers: &[] };
    filter.on_request(&head, cx)
}

fn request(now: Nanos) -> RequestContext {
    RequestContext::new(now, IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn refused(decision: Decision) -> Box<Reply> {
    match decision {
        Decision::Respond(reply) => reply,
        _ => panic!("not refused"),
    }
}

fn problems(json: &str) -> Vec<String> {
    let (mut problems, identities) = (Problems::default(), ["client".to_owned(), "user".to_owned()]);
    settings(json).check(&CheckContext { identities: &identities, stores: &[], durable: &[] }, &mut problems);
    problems.0.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

#[test]
fn nonsense_is_refused_with_its_place() {
    for (json, path) in [
        ("{}", ": "),
        (r#"{"max_concurrent": 1, "rate": "1/s"}"#, "rate: "),
        (r#"{"max_concurrent": 0}"#, "max_concurrent: "),
        (r#"{"max_concurrent": 1, "max_wait": "1h"}"#, "max_wait: "),
        (r#"{"max_concurrent": 1, "max_length": 2000000}"#, "max_length: "),
        (r#"{"max_concurrent": 1, "fair_by": "nobody"}"#, "fair_by: "),
        (r#"{"max_concurrent": 1, "ageing": "0s"}"#, "ageing: "),
        (r#"{"max_concurrent": 1, "warm_up": {}}"#, "warm_up: "),
        (r#"{"max_concurrent": 1, "codel": {"target": "1s"}}"#, "codel: "),
        (r#"{"rate": "1/s", "codel": {}}"#, "codel: "),
        (r#"{"rate": "1/s", "warm_up": {"cold_factor": 1}}"#, "warm_up: "),
    ] {
        let found = problems(json);
        assert!(found.len() == 1 && found[0].starts_with(path), "{json}: {found:?}");
    }
    assert!(problems(r#"{"max_concurrent": 1, "fair_by": "user", "codel": {}}"#).is_empty());
    assert!(problems(r#"{"rate": "10/s", "warm_up": {}}"#).is_empty());
}

#[test]
fn a_wait_beyond_the_longest_is_refused_with_when_to_come_back() {
    let states = StateRegistry::new();
    let filter = built(r#"{"rate": "1/s", "max_wait": "1500ms"}"#, Mode::Enforce, &states);
    assert!(matches!(ask(&*filter, &mut request(at(0))), Decision::Continue));
    let mut second = request(at(0));
    let waiting = ask(&*filter, &mut second);
    assert!(matches!(waiting, Decision::Wait(_)));
    let reply = refused(ask(&*filter, &mut request(at(0))));
    assert_eq!((reply.status, reply.code()), (StatusCode::SERVICE_UNAVAILABLE, Some("queue-timeout")));
    assert_eq!(reply.retry_after, Some(ms(2_000)));
    drop(waiting);
    // Who left makes room.
    assert!(matches!(ask(&*filter, &mut request(at(0))), Decision::Wait(_)));
}

#[test]
fn a_full_line_is_refused_by_that_name() {
    let states = StateRegistry::new();
    let filter = built(r#"{"max_concurrent": 1, "max_length": 0}"#, Mode::Enforce, &states);
    let mut first = request(at(0));
    assert!(matches!(ask(&*filter, &mut first), Decision::Continue));
    assert_eq!(first.held(), 1);
    let reply = refused(ask(&*filter, &mut request(at(0))));
    assert_eq!((reply.code(), reply.retry_after), (Some("queue-full"), Some(ms(500))));
    drop(first);
    assert!(matches!(ask(&*filter, &mut request(at(0))), Decision::Continue));
}

#[test]
fn a_shadow_holds_nobody_back_and_counts_what_would_wait() {
    let states = StateRegistry::new();
    let filter = built(r#"{"max_concurrent": 1, "max_length": 1}"#, Mode::Shadow, &states);
    let mut requests: Vec<_> = (0..3).map(|_| request(at(0))).collect();
    assert!(matches!(ask(&*filter, &mut requests[0]), Decision::Continue));
    let Decision::Wait(mut wait) = ask(&*filter, &mut requests[1]) else { panic!("would wait") };
    run(async {
        let resumed = tokio::time::timeout(Duration::ZERO, &mut wait.until).await;
        assert!(resumed.is_ok(), "the wait of a shadow is over at once");
    });
    assert_eq!(refused(ask(&*filter, &mut requests[2])).code(), Some("queue-full"));
    drop(requests);
    assert!(matches!(ask(&*filter, &mut request(at(1))), Decision::Continue));
}

#[test]
fn a_new_snapshot_finds_the_places_that_are_held() {
    let states = StateRegistry::new();
    let before = built(r#"{"max_concurrent": 1}"#, Mode::Enforce, &states);
    let mut first = request(at(0));
    assert!(matches!(ask(&*before, &mut first), Decision::Continue));
    let after = built(r#"{"max_concurrent": 2}"#, Mode::Enforce, &states);
    let (mut second, mut third) = (request(at(0)), request(at(0)));
    assert!(matches!(ask(&*after, &mut second), Decision::Continue));
    assert!(matches!(ask(&*after, &mut third), Decision::Wait(_)));
}
