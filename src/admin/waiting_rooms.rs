//! Waiting rooms for operators: how they stand, what other limits would do, and whether anything is left.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_filters::waiting_room::rules::Rules;
use tidegate_filters::waiting_room::{Level, Notice, Room, State as Doing};

use super::AdminState;
use super::extract::Asked;
use super::problem::Problem;

/// Limits that are asked about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    total_active_users: Option<u32>,
    new_users_per_minute: Option<u32>,
}

/// All rooms.
pub(super) async fn list(State(state): State<AdminState>) -> Response {
    let rooms: Vec<Value> = state.gateway.snapshot().rooms.iter().map(|room| standing(&room.room)).collect();
    Json(json!({ "waiting_rooms": rooms })).into_response()
}

/// One room.
pub(super) async fn show(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    match room(&state, &name) {
        Some(room) => Json(standing(&room)).into_response(),
        None => unknown(),
    }
}

/// What other limits would do to those who wait now. Changes nothing.
pub(super) async fn predict(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Asked(limits): Asked<Limits>,
) -> Response {
    let snapshot = state.gateway.snapshot();
    let spec = snapshot.config.rooms.iter().find(|spec| *spec.name == *name);
    let (Some(room), Some(spec)) = (room(&state, &name), spec) else { return unknown() };
    let mut rules = spec.rules.clone();
    rules.limits.total_active_users = limits.total_active_users.unwrap_or(rules.limits.total_active_users);
    rules.limits.new_users_per_minute = limits.new_users_per_minute.unwrap_or(rules.limits.new_users_per_minute);
    Json(json!({ "now": expectation(&room, &spec.rules), "then": expectation(&room, &rules) })).into_response()
}

/// How those who wait now would fare under these rules. Times are in seconds; unknown is `null`.
pub(super) fn expectation(room: &Room, rules: &Rules) -> Value {
    let prediction = room.predict(rules);
    let seconds = |wait: f64| wait.ceil() as u64;
    json!({
        "rate_per_minute": (prediction.rate * 60.0).round(),
        "last_in_line_waits_seconds": prediction.wait.map(|wait| seconds(wait.p50)),
        "last_in_line_waits_seconds_p90": prediction.wait.map(|wait| seconds(wait.p90)),
    })
}

/// Nothing is left: nobody is admitted any more.
pub(super) async fn sold_out(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    change(&state, &name, "sold out", |room| room.set_sold_out(true)).await
}

/// Something is left again, and nobody is sent away.
pub(super) async fn reopen(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    change(&state, &name, "reopened", |room| {
        room.set_sold_out(false);
        room.set_draining(false);
    })
    .await
}

/// Nobody is let in, and visits end when they would have without another request. Places are kept.
pub(super) async fn drain(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    change(&state, &name, "draining", |room| room.set_draining(true)).await
}

/// Begins anew: nobody waits, nobody is inside, tokens from before are good no more.
pub(super) async fn reset(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    let Some(room) = room(&state, &name) else { return unknown() };
    let clock = state.gateway.shared.clock;
    let written = in_time(&room, move |room| room.reset(|| room.time(clock.now()))).await;
    tracing::warn!(target: "tidegate::waiting_room", room = name, written, "reset by an operator");
    let status = if written { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, Json(standing(&room))).into_response()
}

/// What all who wait are told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    message: String,
    #[serde(default)]
    level: Level,
}

/// Tells all who wait something.
pub(super) async fn tell(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    told: Result<Json<Told>, JsonRejection>,
) -> Response {
    let bad = |why: &str| Problem::new(StatusCode::BAD_REQUEST, "bad-request", why).into_response();
    let Ok(Json(Told { message, level })) = told else {
        return bad("The body is {\"message\": \"…\", \"level\": \"info\" or \"warning\"}");
    };
    let text = message.trim().to_owned();
    if text.is_empty() || text.chars().count() > Notice::LONGEST {
        return bad("A message has 1 to 300 characters");
    }
    change(&state, &name, "message", |room| room.set_notice(Some(Notice { text, level }))).await
}

/// Takes it back.
pub(super) async fn hush(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    change(&state, &name, "message taken back", |room| room.set_notice(None)).await
}

/// Longest wait for a disk, so that who asks gets an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Has a room written down; false when that takes too long. This thread serves everybody who asks, and a disk may hang.
pub(super) async fn settled(state: &AdminState, room: &Arc<Room>) -> bool {
    let clock = state.gateway.shared.clock;
    in_time(room, move |room| room.settle(|| room.time(clock.now()))).await
}

async fn in_time(room: &Arc<Room>, write: impl FnOnce(&Room) -> bool + Send + 'static) -> bool {
    let room = room.clone();
    let writing = tokio::task::spawn_blocking(move || write(&room));
    matches!(tokio::time::timeout(PATIENCE, writing).await, Ok(Ok(true)))
}

/// Carries something out. 200: it is written down and holds; 202: it will as soon as it can be written.
pub(super) async fn change(state: &AdminState, name: &str, what: &'static str, act: impl FnOnce(&Room)) -> Response {
    let Some(room) = room(state, name) else { return unknown() };
    act(&room);
    let written = settled(state, &room).await;
    tracing::warn!(target: "tidegate::waiting_room", room = name, written, what, "changed by an operator");
    let status = if written { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, Json(standing(&room))).into_response()
}

pub(super) fn room(state: &AdminState, name: &str) -> Option<Arc<Room>> {
    let snapshot = state.gateway.snapshot();
    snapshot.rooms.iter().find(|room| **room.room.name() == *name).map(|room| room.room.clone())
}

pub(super) fn unknown() -> Response {
    Problem::new(StatusCode::NOT_FOUND, "unknown-waiting-room", "No waiting room is named so").into_response()
}

pub(super) fn standing(room: &Room) -> Value {
    let outlook = room.outlook();
    let control = room.backends().map(|(rate, health)| {
        json!({
            "rate_per_minute": rate,
            "p95_ms": health.p95,
            "error_ratio": health.error_ratio,
            "breaker_open": health.breaker_open,
        })
    });
    json!({
        "name": &**room.name(),
        "state": outlook.state.as_str(),
        "sold_out": outlook.state == Doing::SoldOut,
        "queueing_method": outlook.limits.method.as_str(),
        "total_active_users": outlook.limits.total_active_users,
        "new_users_per_minute": outlook.limits.new_users_per_minute,
        "queued": outlook.waiting,
        "active": outlook.active,
        "ready": outlook.ready,
        "frontier": outlook.frontier,
        "tail": outlook.tail,
        "admitted": outlook.admitted,
        "stock": outlook.stock,
        "admitted_last_minute": outlook.last_minute,
        "last_in_line_waits_seconds": outlook.estimate(outlook.waiting).map(|wait| wait.expected.ceil() as u64),
        "admission_control": control,
        "degraded": room.is_degraded(),
        "epoch": outlook.epoch,
        "listeners": room.listeners(),
        "long_polls": room.long_polls(),
        "fifo_inversions": outlook.proof.inversions,
        "overshoot": outlook.proof.overshoot,
        "no_show_ratio": outlook.proof.no_show_ratio(),
        "message": room.notice().map(|notice| notice.text.clone()),
    })
}
