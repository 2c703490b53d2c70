//! The running configuration: shown, checked against a text, reloaded, gone back to.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::AdminState;
use super::extract::{Asked, Text};
use super::problem::Problem;
use crate::config::EditError;
use crate::reload::{Attempt, Preview, ReloadError, Reloader, Source, Status};

/// The file that serves, without secrets.
pub(super) async fn show(State(state): State<AdminState>) -> Response {
    let text = state.gateway.snapshot().redacted.to_string();
    ([(header::CONTENT_TYPE, "application/yaml; charset=utf-8")], text).into_response()
}

#[derive(Serialize)]
struct Standing {
    #[serde(flatten)]
    status: Status,
    listeners: Vec<Listening>,
}

#[derive(Serialize)]
struct Listening {
    name: String,
    address: SocketAddr,
}

/// Generation, hash, how the last reload went, and where the gateway listens.
pub(super) async fn status(State(state): State<AdminState>) -> Response {
    let listeners = state.addresses.iter().map(|(name, address)| Listening { name: name.clone(), address: *address });
    Json(Standing { status: state.reloader.status(), listeners: listeners.collect() }).into_response()
}

/// What can be gone back to.
pub(super) async fn versions(State(state): State<AdminState>) -> Response {
    Json(json!({ "versions": state.reloader.versions() })).into_response()
}

#[derive(Serialize)]
struct Fine {
    ok: bool,
    #[serde(flatten)]
    preview: Preview,
}

/// What the text in the body would change, if it would be accepted.
pub(super) async fn check(State(state): State<AdminState>, headers: HeaderMap, Text(body): Text) -> Response {
    let checked = blocking(&state, move |reloader| reloader.check(&body)).await;
    match checked {
        Ok(Ok(preview)) => Json(Fine { ok: true, preview }).into_response(),
        Ok(Err(error)) => refused(&error, &headers),
        Err(problem) => problem.into_response(),
    }
}

/// Reads the file again.
pub(super) async fn reload(State(state): State<AdminState>, headers: HeaderMap) -> Response {
    let done = blocking(&state, |reloader| reloader.reload(Source::Admin)).await;
    answer(done, &headers)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    generation: Option<u64>,
}

/// Goes back to a generation: `?generation=3`, or `{"generation": 3}` in the body.
pub(super) async fn rollback(
    State(state): State<AdminState>,
    headers: HeaderMap,
    Asked(asked): Asked<Rollback>,
    Text(body): Text,
) -> Response {
    let told = || serde_json::from_str::<Rollback>(&body).ok()?.generation;
    let Some(generation) = asked.generation.or_else(told) else {
        let title = "Say which generation, as in {\"generation\": 3}";
        return Problem::new(StatusCode::BAD_REQUEST, "bad-request", title).into_response();
    };
    let done = blocking(&state, move |reloader| reloader.rollback(generation)).await;
    answer(done, &headers)
}

pub(super) async fn blocking<T: Send + 'static>(
    state: &AdminState,
    work: impl FnOnce(&Reloader) -> T + Send + 'static,
) -> Result<T, Problem> {
    let reloader = state.reloader.clone();
    let failed = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal-error", "The reload failed");
    tokio::task::spawn_blocking(move || work(&reloader)).await.map_err(failed)
}

fn answer(done: Result<Result<Attempt, ReloadError>, Problem>, headers: &HeaderMap) -> Response {
    match done {
        Ok(Ok(attempt)) if wants_text(headers) => text(&attempt).into_response(),
        Ok(Ok(attempt)) => Json(attempt).into_response(),
        Ok(Err(error)) => refused(&error, headers),
        Err(problem) => problem.into_response(),
    }
}

pub(super) fn refused(error: &ReloadError, headers: &HeaderMap) -> Response {
    let (status, code) = match error {
        ReloadError::Problems(_) => (StatusCode::UNPROCESSABLE_ENTITY, "configuration-refused"),
        ReloadError::RestartRequired(_) => (StatusCode::UNPROCESSABLE_ENTITY, "restart-required"),
        ReloadError::Build(_) => (StatusCode::UNPROCESSABLE_ENTITY, "configuration-refused"),
        ReloadError::UnknownVersion(_) => (StatusCode::NOT_FOUND, "unknown-version"),
        ReloadError::Edit(EditError::Unknown) => (StatusCode::NOT_FOUND, "unknown-waiting-room"),
        ReloadError::Edit(EditError::Exists | EditError::Renamed) => (StatusCode::CONFLICT, "waiting-room-name"),
        ReloadError::Edit(EditError::Form) | ReloadError::NotWritten(_) => (StatusCode::CONFLICT, "file-not-changed"),
    };
    if wants_text(headers) {
        return (status, format!("{error}\n")).into_response();
    }
    let title = match error {
        ReloadError::Problems(report) if report.problems.len() == 1 => "The configuration has 1 problem".to_owned(),
        ReloadError::Problems(report) => format!("The configuration has {} problems", report.problems.len()),
        other => other.to_string(),
    };
    Problem::new(status, code, title).with("problems", json!(error.problems())).into_response()
}

fn wants_text(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.starts_with("text/plain"))
}

fn text(attempt: &Attempt) -> String {
    let mut out = format!("{}: generation {}\n", attempt.result, attempt.generation);
    for change in &attempt.changes {
        let why = change.why.as_deref().map_or_else(String::new, |why| format!(": {why}"));
        out.push_str(&format!("  {:9} {} ({}){why}\n", change.fate.as_str(), change.filter, change.kind));
    }
    out
}
