//! What is left of a limit for one key, and forgetting what was used.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_filters::engine::{Key, Nanos};
use tidegate_filters::rate_limit::{Buckets, KeyRule};

use super::AdminState;
use super::problem::Problem;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    policy: Option<String>,
    filter: Option<String>,
    key: Option<String>,
}

/// Without a key: the policies. With one: how its buckets stand.
pub(super) async fn show(State(state): State<AdminState>, Query(wanted): Query<Wanted>) -> Response {
    let now = state.gateway.shared.clock.now();
    let found = policies(&state, &wanted);
    if found.is_empty() {
        return unknown();
    }
    let Some(text) = &wanted.key else {
        let all: Vec<Value> = found.iter().map(|buckets| policy(buckets)).collect();
        return Json(json!({ "policies": all })).into_response();
    };
    let one = |buckets: &Arc<Buckets>| Some(bucket(buckets, key(&state, buckets, text)?, text, now));
    match found.iter().map(one).collect::<Option<Vec<Value>>>() {
        Some(limits) => Json(json!({ "limits": limits })).into_response(),
        None => bad_key(),
    }
}

/// Forgets what the key has used of each policy asked for.
pub(super) async fn forget(State(state): State<AdminState>, Query(wanted): Query<Wanted>) -> Response {
    let (Some(_), Some(text)) = (&wanted.policy, &wanted.key) else {
        return Problem::new(StatusCode::BAD_REQUEST, "bad-request", "`policy` and `key` are required").into_response();
    };
    let found = policies(&state, &wanted);
    if found.is_empty() {
        return unknown();
    }
    let keys: Option<Vec<_>> = found.iter().map(|buckets| key(&state, buckets, text)).collect();
    let Some(keys) = keys else { return bad_key() };
    let forgotten = found.iter().zip(keys).filter(|(buckets, key)| buckets.forget(*key)).count();
    Json(json!({ "forgotten": forgotten })).into_response()
}

fn unknown() -> Response {
    Problem::new(StatusCode::NOT_FOUND, "unknown-policy", "No policy is named so").into_response()
}

fn bad_key() -> Response {
    let title = "The key is of the wrong kind: `client` wants an address";
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", title).into_response()
}

fn policies(state: &AdminState, wanted: &Wanted) -> Vec<Arc<Buckets>> {
    let matches = |asked: &Option<String>, name: &str| asked.as_deref().is_none_or(|asked| asked == name);
    let all = state.gateway.shared.states.all::<Buckets>().into_iter().map(|(_, buckets)| buckets);
    all.filter(|buckets| matches(&wanted.policy, buckets.policy()) && matches(&wanted.filter, buckets.filter()))
        .collect()
}

fn key(state: &AdminState, buckets: &Buckets, text: &str) -> Option<Key> {
    match buckets.rule() {
        KeyRule::Identity { id, .. } => state.gateway.snapshot().identities.key_of(*id, text),
        rule @ KeyRule::Header(_) => Some(rule.key(&state.gateway.shared.hasher, text)),
    }
}

fn policy(buckets: &Buckets) -> Value {
    let rate = buckets.rate();
    json!({
        "filter": buckets.filter(),
        "policy": buckets.policy(),
        "burst": rate.burst(),
        "interval_us": rate.interval().as_secs_f64() * 1e6,
        "keys": buckets.keys(),
        "max_keys": buckets.max_keys(),
    })
}

fn bucket(buckets: &Buckets, key: Key, text: &str, now: Nanos) -> Value {
    // What is not remembered is full.
    let view = buckets.peek(key, now);
    let burst = view.map_or(buckets.rate().burst(), |view| view.burst);
    json!({
        "filter": buckets.filter(),
        "policy": buckets.policy(),
        "key": text,
        "remaining": view.map_or(burst, |view| view.remaining),
        "burst": burst,
        "retry_after_ms": view.map_or(0.0, |view| view.retry_after.as_secs_f64() * 1e3),
        "full_in_ms": view.map_or(0.0, |view| view.full_at.since(now).as_secs_f64() * 1e3),
    })
}
