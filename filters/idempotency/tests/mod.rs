//! Proofs of the filter: keys, identities, decisions, ends, and what is counted.

mod deciding;
mod keys;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Idempotency;
use crate::engine::{
    Attempt, BuildContext, Captured, ChannelSet, CheckContext, Decision, Filter, FilterSpec, HeaderEdit, Identity,
    IdentityId, KeyHasher, Known, Mode, Nanos, Outcome, Problems, Reply, RequestContext, RequestHead, StateRegistry,
    Verdict,
};
use crate::store::{StoreKind, Stores};

const USER: IdentityId = IdentityId(3);

fn settings(json: &str) -> Idempotency {
    serde_json::from_str(json).expect("settings")
}

fn registry() -> StateRegistry {
    let stores = Stores::default();
    stores.declare([("local".to_owned(), StoreKind::Memory)]).expect("memory");
    StateRegistry::with_stores(stores)
}

fn built(json: &str, mode: Mode, states: &StateRegistry) -> Arc<dyn Filter> {
    let (hasher, identities) = (KeyHasher::fixed(), BTreeMap::from([("user".to_owned(), USER)]));
    let mut cx = BuildContext {
        name: "once".into(),
        mode,
        states,
        hasher: &hasher,
        identities: &identities,
        upstreams: &[],
        acquired: Vec::new(),
    };
    settings(json).build(&mut cx).expect("builds")
}

/// The filter with a store in memory and, for the rest, these settings.
fn once(more: &str) -> Arc<dyn Filter> {
    built(&format!("{{\"store\": \"local\"{more}}}"), Mode::Enforce, &registry())
}

fn at(seconds: u64) -> Nanos {
    Nanos(seconds * 1_000_000_000)
}

fn request(user: &str, body: &'static str, now: Nanos) -> RequestContext {
    let mut cx = RequestContext::new(now, IpAddr::V4(Ipv4Addr::LOCALHOST));
    if !user.is_empty() {
        cx.set_identity(USER, Identity::new(&KeyHasher::fixed(), USER, user));
    }
    cx.set_identity(IdentityId::ROUTE, Identity::new(&KeyHasher::fixed(), IdentityId::ROUTE, "pay"));
    cx.body = Some(Bytes::from_static(body.as_bytes()));
    cx
}

fn ask(filter: &dyn Filter, key: &str, cx: &mut RequestContext) -> Decision {
    let headers: &[(&[u8], &[u8])] = &[(b"idempotency-key", key.as_bytes())];
    let head = RequestHead { method: "POST", target: "/pay", path: "/pay", host: "shop.test", secure: false, headers };
    filter.on_request(&head, cx)
}

fn goes_on(decision: Decision) {
    assert!(matches!(decision, Decision::Continue), "does not go on");
}

fn refused(decision: Decision) -> Box<Reply> {
    match decision {
        Decision::Respond(reply) => reply,
        _ => panic!("not answered"),
    }
}

/// The request goes on its way. Its fence.
fn sent(filter: &dyn Filter, cx: &mut RequestContext) -> u64 {
    let mut attempt = Attempt { number: 1, pinned: false, safe: false, candidates: ChannelSet::all(1), chosen: None };
    assert!(matches!(filter.on_attempt(&mut attempt, cx), Verdict::Continue));
    let fence = cx.to_upstream.iter().rev().find_map(|edit| match edit {
        HeaderEdit::Set(name, value) if name == "idempotency-fence" => value.to_str().ok()?.parse().ok(),
        _ => None,
    });
    fence.expect("a fence")
}

fn answered(filter: &dyn Filter, cx: &mut RequestContext, status: u16, body: &'static str) {
    let mut headers = HeaderMap::new();
    headers.insert("x-shop", HeaderValue::from_static("yes"));
    headers.insert("set-cookie", HeaderValue::from_static("session=1"));
    let status = StatusCode::from_u16(status).expect("a status");
    let answer = Captured { status, headers, body: Some(Bytes::from_static(body.as_bytes())) };
    assert!(filter.on_captured(&answer, cx).is_none(), "memory holds nothing back");
}

fn over(filter: &dyn Filter, cx: &mut RequestContext, known: Option<Known>) {
    let outcome = Outcome { status: None, client_gone: false, took: std::time::Duration::ZERO, known };
    filter.on_finish(&outcome, cx);
}
