//! Waiting rooms made, changed and taken away by operators, with what that would do to those who wait.
//!
//! A change is written into the configuration file and taken over like one made by hand; `?dry_run=1` only says what it
//! would come to. Settings have the names and the forms that they have in the file.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidegate_filters::waiting_room::rules::Rules;

use super::AdminState;
use super::configuration::{blocking, refused};
use super::extract::Asked;
use super::problem::Problem;
use super::waiting_rooms::{expectation, room, settled, standing};
use crate::config::{Config, RoomEdit};
use crate::reload::Plan;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    dry_run: Option<String>,
}

type Body = Result<Json<Map<String, Value>>, JsonRejection>;

/// POST a room more, PUT all of its settings, PATCH some of them (`null` takes one away), DELETE it: its line is kept on disk.
pub(super) async fn edit(
    State(state): State<AdminState>,
    name: Option<Path<String>>,
    method: Method,
    headers: HeaderMap,
    Asked(how): Asked<How>,
    body: Body,
) -> Response {
    let settings = body.map(|Json(settings)| settings);
    let edit = match (name, settings) {
        (None, Ok(room)) => RoomEdit::Add(room),
        (Some(Path(name)), _) if method == Method::DELETE => RoomEdit::Remove(name),
        (Some(Path(name)), Ok(room)) if method == Method::PUT => RoomEdit::Replace(name, room),
        (Some(Path(name)), Ok(settings)) => RoomEdit::Change(name, settings),
        (_, Err(_)) => return no_settings(),
    };
    let name = match &edit {
        RoomEdit::Add(room) => room.get("name").and_then(Value::as_str).map(str::to_owned),
        RoomEdit::Replace(name, _) | RoomEdit::Change(name, _) | RoomEdit::Remove(name) => Some(name.clone()),
    };
    match name {
        Some(name) => change(&state, &headers, &how, name, edit).await,
        None => no_settings(),
    }
}

fn no_settings() -> Response {
    let title = "The body is an object with the settings of a room, as in the file; a new one has a name";
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", title).into_response()
}

async fn change(state: &AdminState, headers: &HeaderMap, how: &How, name: String, edit: RoomEdit) -> Response {
    let dry = how.dry_run.as_deref().is_some_and(|word| !matches!(word, "0" | "false"));
    let before = rules(&state.gateway.snapshot().config, &name);
    if dry {
        return match blocking(state, move |reloader| reloader.plan(&edit)).await {
            Ok(Ok(plan)) => Json(preview(state, &name, before.as_ref(), &plan)).into_response(),
            Ok(Err(error)) => refused(&error, headers),
            Err(problem) => problem.into_response(),
        };
    }
    let made = matches!(edit, RoomEdit::Add(_));
    match blocking(state, move |reloader| reloader.edit(&edit)).await {
        Ok(Ok(attempt)) => {
            tracing::warn!(target: "tidegate::waiting_room", room = name, "settings changed by an operator");
            let status = if made { StatusCode::CREATED } else { StatusCode::OK };
            let room = room(state, &name);
            if let Some(room) = &room {
                settled(state, room).await;
            }
            let room = room.map(|room| standing(&room));
            (status, Json(json!({ "reload": attempt, "waiting_room": room }))).into_response()
        }
        Ok(Err(error)) => refused(&error, headers),
        Err(problem) => problem.into_response(),
    }
}

fn rules(config: &Config, name: &str) -> Option<Rules> {
    config.rooms.iter().find(|spec| *spec.name == *name).map(|spec| spec.rules.clone())
}

/// What those who wait now would have of it.
fn preview(state: &AdminState, name: &str, before: Option<&Rules>, plan: &Plan) -> Value {
    let room = room(state, name);
    let told = |rules: Option<&Rules>| Some(expectation(room.as_deref()?, rules?));
    let after = rules(&plan.loaded.config, name);
    json!({
        "dry_run": true,
        "now": told(before),
        "then": told(after.as_ref()),
        "changes": plan.changes,
        "warnings": plan.loaded.warnings,
    })
}
