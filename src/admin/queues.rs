//! The lines that requests wait in.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tidegate_filters::engine::StateKey;
use tidegate_filters::queue::{QueueState, QueueView};

use super::AdminState;

/// All lines of the running configuration, by name.
pub(super) async fn show(State(state): State<AdminState>) -> Response {
    let now = state.gateway.shared.clock.now();
    let snapshot = state.gateway.snapshot();
    // Those that linger after a change hold nobody back.
    let used = |key: &StateKey| {
        let mut acquired = snapshot.filters.iter().flat_map(|filter| &filter.acquired);
        acquired.any(|acquired| acquired.key == *key)
    };
    let all = state.gateway.shared.states.all::<QueueState>().into_iter().filter(|(key, _)| used(key));
    let queues: Vec<Value> = all.map(|(_, queue): (_, Arc<QueueState>)| view(&queue.view(now))).collect();
    Json(json!({ "queues": queues })).into_response()
}

fn view(queue: &QueueView) -> Value {
    let by_class: Map<String, Value> =
        queue.by_class.iter().map(|(class, waiting)| (class.as_str().to_owned(), json!(waiting))).collect();
    json!({
        "filter": &*queue.name,
        "depth": queue.waiting,
        "by_class": by_class,
        "oldest_ms": queue.oldest.as_secs_f64() * 1e3,
        "in_service": queue.in_service,
        "max_concurrent": queue.max_concurrent,
        "rate": queue.rate,
        "admitted_per_second": queue.admitted_per_second,
        "mean_hold_ms": queue.mean_hold.map(|hold| hold.as_secs_f64() * 1e3),
    })
}
