//! What operators ask about one waiting room, and what they do to one visitor of it.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_filters::engine::RequestHead;
use tidegate_filters::waiting_room::document::{Standing, status as document};
use tidegate_filters::waiting_room::rules::Event;
use tidegate_filters::waiting_room::settings::Page;
use tidegate_filters::waiting_room::{Reason, State as Doing};

use super::AdminState;
use super::extract::{Asked, Text};
use super::problem::Problem;
use super::waiting_rooms::{change, room, unknown};
use crate::config::RoomSpec;
use crate::waiting_room::page::{self, RoomPage};

/// Nothing of a page that is only looked at runs or asks for anything.
const STILL: HeaderValue = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; img-src data:");

/// The room in the words of Cloudflare's status endpoint.
pub(super) async fn status(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    let Some(room) = room(&state, &name) else { return unknown() };
    let outlook = room.outlook();
    let word = match outlook.state {
        Doing::Suspended => "suspended",
        Doing::EventPrequeueing => "event_prequeueing",
        Doing::NotQueueing | Doing::Passthrough => "not_queueing",
        Doing::Queueing | Doing::QueueAll | Doing::SoldOut | Doing::Draining => "queueing",
    };
    let wait = outlook.estimate(outlook.waiting).map(|wait| (wait.p90 / 60.0).ceil() as u64);
    Json(json!({
        "status": word,
        "event_id": spec(&state, &name).and_then(|spec| on(&spec, outlook.at).map(|event| event.name.clone())),
        "estimated_queued_users": outlook.waiting,
        "estimated_total_active_users": outlook.active + outlook.ready,
        "max_estimated_time_minutes": wait,
    }))
    .into_response()
}

/// Its events, in the order of their starts.
pub(super) async fn events(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    let (Some(room), Some(spec)) = (room(&state, &name), spec(&state, &name)) else { return unknown() };
    let now = room.outlook().at;
    let events: Vec<Value> = spec.rules.events.iter().map(|event| told(event, now)).collect();
    Json(json!({ "events": events })).into_response()
}

fn told(event: &Event, now: u64) -> Value {
    let begins = event.prequeue.unwrap_or(event.start);
    let phase = match now {
        now if now < begins => "coming",
        now if now < event.start => "prequeueing",
        now if now < event.end => "active",
        _ => "over",
    };
    let over = event.overrides;
    json!({
        "name": event.name,
        "phase": phase,
        "prequeue_start_time": event.prequeue.map(moment),
        "event_start_time": moment(event.start),
        "event_end_time": moment(event.end),
        "shuffle_at_event_start": event.shuffle,
        "queueing_method": over.method.map(|method| method.as_str()),
        "total_active_users": over.limits.map(|(total, _)| total),
        "new_users_per_minute": over.limits.map(|(_, rate)| rate),
        "session_duration_seconds": over.session.map(|session| session / 1_000),
        "disable_session_renewal": over.renewal.map(|renewal| !renewal),
        "queue_all": over.queue_all,
        "suspended": over.suspended,
    })
}

fn moment(millis: u64) -> String {
    let at = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    at.map(|at| at.to_string()).unwrap_or_default()
}

fn on(spec: &RoomSpec, now: u64) -> Option<&Event> {
    spec.rules.events.iter().find(|event| event.prequeue.unwrap_or(event.start) <= now && now < event.end)
}

/// The rules by which requests are let by, with how many were.
pub(super) async fn rules(State(state): State<AdminState>, Path(name): Path<String>) -> Response {
    let (Some(room), Some(spec)) = (room(&state, &name), spec(&state, &name)) else { return unknown() };
    let counts = room.let_by();
    let count = |name: &str| counts.iter().find(|(rule, _)| **rule == *name).map_or(0, |(_, count)| *count);
    let rules: Vec<Value> = spec
        .bypass
        .iter()
        .map(|(name, expression)| {
            json!({
                "description": name,
                "action": "bypass_waiting_room",
                "expression": expression,
                "requests": count(name),
            })
        })
        .collect();
    Json(json!({ "rules": rules, "eligibility": spec.eligible })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Looks {
    state: Option<String>,
    lang: Option<String>,
}

/// The room's page as a visitor would see it who stands so.
pub(super) async fn preview(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Asked(looks): Asked<Looks>,
) -> Response {
    let Some(spec) = spec(&state, &name) else { return unknown() };
    shown(&state, &name, &RoomPage::new(spec.page.template.as_ref(), spec.page.language), &looks)
}

/// A page of one's own, sent in the body, before it is put into a file.
pub(super) async fn preview_of(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    Asked(looks): Asked<Looks>,
    Text(body): Text,
) -> Response {
    let Some(spec) = spec(&state, &name) else { return unknown() };
    match page::read(&body) {
        Ok(template) => shown(&state, &name, &RoomPage::new(Some(&template), spec.page.language), &looks),
        Err(why) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-template", why).into_response(),
    }
}

fn shown(state: &AdminState, name: &str, page: &RoomPage, looks: &Looks) -> Response {
    let Some(room) = room(state, name) else { return unknown() };
    let outlook = room.outlook();
    let (number, soon) = (outlook.frontier + 42, outlook.at + 60_000);
    let standing = match looks.state.as_deref().unwrap_or("waiting") {
        "waiting" => Standing::Waiting(number),
        "pre" => Standing::Pre,
        "prequeued" => Standing::Registered(number),
        "ready" => Standing::Ready(number, soon),
        "sold_out" => Standing::Rejected(Reason::SoldOut),
        "queue_full" => Standing::Rejected(Reason::QueueFull),
        "ineligible" => Standing::Rejected(Reason::Ineligible),
        "left" => Standing::Left,
        "expired" => Standing::Expired,
        _ => {
            let title = "state is waiting, pre, prequeued, ready, sold_out, queue_full, ineligible, left or expired";
            return Problem::new(StatusCode::BAD_REQUEST, "bad-request", title).into_response();
        }
    };
    let language = looks.lang.as_deref().filter(|lang| lang.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
    let target = language.map_or_else(|| "/".to_owned(), |lang| format!("/?lang={lang}"));
    let head = RequestHead { method: "GET", target: &target, path: "/", host: "", secure: false, headers: &[] };
    let rendered = page.render(&head, &document(&room, standing, 0.0));
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    ([kind, (header::CONTENT_SECURITY_POLICY, STILL)], rendered.bytes).into_response()
}

/// Who is sent away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whom {
    number: Option<u64>,
    identity: Option<String>,
}

/// Ends a visit, or takes somebody out of the line.
pub(super) async fn revoke(
    State(state): State<AdminState>,
    Path(name): Path<String>,
    whom: Result<Json<Whom>, JsonRejection>,
) -> Response {
    let Some(room) = room(&state, &name) else { return unknown() };
    let number = match whom {
        Ok(Json(Whom { number: Some(number), identity: None })) => Some(number),
        Ok(Json(Whom { number: None, identity: Some(identity) })) => room.number_of(identity.as_bytes()),
        _ => {
            let title = "The body is {\"number\": 42}, or {\"identity\": \"…\"} where visitors are known by name";
            return Problem::new(StatusCode::BAD_REQUEST, "bad-request", title).into_response();
        }
    };
    let now = room.time(state.gateway.shared.clock.now());
    match number.filter(|number| room.send_away(now, *number)) {
        Some(_) => change(&state, &name, "revoked", |_| ()).await,
        None => {
            let title = "Nobody of that number or name is inside or in line";
            Problem::new(StatusCode::NOT_FOUND, "unknown-visitor", title).into_response()
        }
    }
}

fn spec(state: &AdminState, name: &str) -> Option<RoomSpec> {
    state.gateway.snapshot().config.rooms.iter().find(|spec| *spec.name == *name).cloned()
}
