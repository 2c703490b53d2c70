//! The routes, and which one a request would take.

use std::borrow::Cow;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_filters::engine::RequestHead;

use super::AdminState;
use super::problem::Problem;
use crate::config;
use crate::proxy::forward::host_of;
use crate::snapshot::routes::Found;
use crate::snapshot::{Snapshot, path};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    path: Option<String>,
    method: Option<String>,
    host: Option<String>,
    listener: Option<String>,
}

/// Without a path: all routes. With one: the route that such a request would take.
pub(super) async fn show(State(state): State<AdminState>, Query(asked): Query<Asked>) -> Response {
    let snapshot = state.gateway.snapshot();
    let Some(target) = &asked.path else {
        let routes: Vec<Value> = (0..snapshot.routes.len()).map(|at| view(&snapshot, at)).collect();
        return Json(json!({ "generation": snapshot.generation, "routes": routes })).into_response();
    };
    match path::normalise(target) {
        Ok(path) => explain(&snapshot, target, &path, &asked).into_response(),
        Err(error) => Problem::new(StatusCode::BAD_REQUEST, "bad-path", error.to_string()).into_response(),
    }
}

fn explain(snapshot: &Snapshot, target: &str, path: &str, asked: &Asked) -> Response {
    let listeners = &snapshot.config.server.listeners;
    let listener = match &asked.listener {
        None => Some(0),
        Some(name) => listeners.iter().position(|listener| listener.name == *name),
    };
    let Some(listener) = listener else {
        return Problem::new(StatusCode::BAD_REQUEST, "unknown-listener", "No listener is named so").into_response();
    };
    let host: Cow<'_, str> = asked.host.as_deref().map_or("".into(), host_of);
    let method = asked.method.as_deref().unwrap_or("GET");
    let head = RequestHead { method, target, path, host: &host, secure: false, headers: &[] };
    let found = match snapshot.table.find(listener, &head) {
        Found::Route(at) => json!({ "path": path, "status": "routed", "route": view(snapshot, at) }),
        Found::MethodNotAllowed(allowed) => {
            json!({ "path": path, "status": "method-not-allowed", "allow": allowed.to_string() })
        }
        Found::None => json!({ "path": path, "status": "no-route" }),
    };
    Json(found).into_response()
}

fn view(snapshot: &Snapshot, at: usize) -> Value {
    let (route, written) = (&snapshot.routes[at], &snapshot.config.routes[at]);
    let matches = &written.matches;
    let path = match &matches.path {
        config::PathMatch::Exact(path) => path.clone(),
        config::PathMatch::Prefix(path) => format!("{path}/**"),
    };
    let chain: Vec<Value> =
        route.chain.links().iter().map(|link| json!({ "filter": &*link.name, "mode": link.mode.as_str() })).collect();
    let channels: Vec<&str> = route.upstream.channels.iter().map(|channel| &*channel.name).collect();
    json!({
        "route": &*route.name,
        "listener": written.listener,
        "host": matches.host,
        "path": path,
        "methods": matches.methods.iter().map(http::Method::as_str).collect::<Vec<_>>(),
        "headers": matches.headers,
        "priority": route.priority.as_str(),
        "filters": chain,
        "upstream": &*route.upstream.name,
        "channels": channels,
    })
}
