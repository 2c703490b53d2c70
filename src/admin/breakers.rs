//! Breakers: how they stand, what happened to them, and an operator's hand on them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use tidegate_filters::circuit_breaker::{Event, Guarded, Held, Manual};
use tidegate_filters::engine::Nanos;

use super::problem::Problem;
use super::{AdminState, Peer};

/// All breakers of the running configuration.
pub(super) async fn show(State(state): State<AdminState>) -> Response {
    let now = state.gateway.shared.clock.now();
    let all: Vec<Value> = in_use(&state).iter().map(|guarded| view(guarded, now)).collect();
    Json(json!({ "breakers": all })).into_response()
}

/// Opens, closes or resets the breakers of a channel, in whichever filters it has one.
pub(super) async fn change(
    State(state): State<AdminState>,
    Extension(Peer(peer)): Extension<Peer>,
    Path((upstream, channel, what)): Path<(String, String, String)>,
) -> Response {
    let found: Vec<_> = in_use(&state)
        .into_iter()
        .filter(|guarded| {
            let [_, of, at] = guarded.names();
            of == upstream && at == channel
        })
        .collect();
    if found.is_empty() {
        let title = "No breaker stands before a channel of that name";
        return Problem::new(StatusCode::NOT_FOUND, "unknown-breaker", title).into_response();
    }
    let now = state.gateway.shared.clock.now();
    let (wall, by) = (state.gateway.shared.clock.unix(now), peer.to_string());
    for guarded in &found {
        match what.as_str() {
            "open" => guarded.breaker().hold(Held::Open, &by, wall),
            "close" => guarded.breaker().hold(Held::Closed, &by, wall),
            "reset" => guarded.breaker().reset(&by, wall),
            _ => {
                let title = "A breaker can be told `open`, `close` or `reset`";
                return Problem::new(StatusCode::NOT_FOUND, "not-found", title).into_response();
            }
        }
    }
    let changed: Vec<Value> = found.iter().map(|guarded| view(guarded, now)).collect();
    Json(json!({ "breakers": changed })).into_response()
}

/// Those of the running snapshot; what lingers after a change guards nothing.
pub(super) fn in_use(state: &AdminState) -> Vec<Arc<Guarded>> {
    let snapshot = state.gateway.snapshot();
    let all = state.gateway.shared.states.all::<Guarded>().into_iter();
    let used = all.filter(|(key, _)| {
        let mut acquired = snapshot.filters.iter().flat_map(|filter| &filter.acquired);
        acquired.any(|acquired| acquired.key == *key)
    });
    used.map(|(_, guarded)| guarded).collect()
}

fn view(guarded: &Guarded, now: Nanos) -> Value {
    let [filter, upstream, channel] = guarded.names();
    let view = guarded.view(now);
    json!({
        "filter": filter,
        "upstream": upstream,
        "channel": channel,
        "state": view.phase.as_str(),
        "manual": view.manual.as_ref().map(manual),
        "probed_in_ms": view.probed_in.map(milliseconds),
        "consecutive_failures": view.consecutive,
        "window": { "requests": view.counts.all, "failures": view.counts.failed, "slow": view.counts.slow },
        "probes": view.probes,
        "events": view.events.iter().map(event).collect::<Vec<_>>(),
    })
}

fn manual(manual: &Manual) -> Value {
    json!({ "by": &*manual.by, "at": manual.wall.as_secs_f64() })
}

fn event(event: &Event) -> Value {
    json!({
        "at": event.wall.as_secs_f64(),
        "from": event.from.as_str(),
        "to": event.to.as_str(),
        "why": event.why,
        "by": event.by.as_deref(),
    })
}

pub(super) fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
