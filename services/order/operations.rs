//! The interface for operators and other programs of the machine: figures, checks, and hands on what is stuck. The gateway
//! leads nobody here.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::desk::Desk;
use super::http::{check_sku, parse};
use super::{events, inspect, metrics, redrive};
use crate::check;
use crate::outbox::{self, Parked};
use crate::support::{Problem, rfc3339, unix_ms};

/// Parked events shown of each file.
const LISTED: u32 = 100;

type Shared = State<Arc<Desk>>;
type Answer = Result<Response, Problem>;

/// The routes.
pub(super) fn routes() -> Router<Arc<Desk>> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .route("/admin/check", get(check))
        .route("/admin/invariants", get(invariants))
        .route("/admin/preheat", post(preheat))
        .route("/admin/sales", get(sales))
        .route("/admin/outbox", get(parked))
        .route("/admin/outbox/requeue", post(requeue))
        .route("/admin/payments/{payment_no}/resolve", post(redrive::handle))
}

async fn ready(State(desk): Shared) -> Answer {
    for file in desk.files.all() {
        file.store.read(|connection| connection.query_row("SELECT 1", [], |_| Ok(()))).await?;
    }
    Ok("ready\n".into_response())
}

async fn figures(State(desk): Shared) -> Answer {
    let text = metrics::text(&desk).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// 200 when everything adds up, 500 with the violations when not.
async fn check(State(desk): Shared) -> Answer {
    let now_ms = unix_ms();
    let figures = inspect::of_all(&desk.files, now_ms).await?;
    let mut violations = Vec::new();
    for file in desk.files.all() {
        violations.extend(file.store.read(move |connection| inspect::violations(connection, now_ms)).await?);
    }
    let status = if violations.is_empty() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    let mut answer = json!(figures);
    answer["violations"] = json!(violations);
    Ok((status, axum::Json(answer)).into_response())
}

/// All invariants over all files of the data folder, those of other services in it included: 200 when they hold, 500
/// with the violations when not.
async fn invariants(State(desk): Shared) -> Answer {
    let found = check::check_in_use(&desk.settings.data_dir).await.map_err(|error| {
        tracing::error!(%error, "the files could not be looked into");
        Problem::internal()
    })?;
    let status = if found.violations.is_empty() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    let answer = json!({ "violations": found.violations, "files": found.seen });
    Ok((status, axum::Json(answer)).into_response())
}

#[derive(Deserialize)]
struct PreheatRequest {
    skus: Vec<String>,
}

/// Asks for the products of a sale before it begins.
async fn preheat(State(desk): Shared, body: Bytes) -> Answer {
    let request: PreheatRequest = parse(&body)?;
    request.skus.iter().try_for_each(|sku| check_sku(sku))?;
    Ok(axum::Json(desk.stock.preheat(&request.skus, unix_ms()).await).into_response())
}

/// Keys by product and by what became of them, as far as events have been taken in.
async fn sales(State(desk): Shared) -> Answer {
    let mut all: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for file in desk.files.all() {
        for (sku, what, keys) in file.store.read(events::sales).await? {
            *all.entry(sku).or_default().entry(what).or_default() += keys;
        }
    }
    Ok(axum::Json(json!({ "sales": all })).into_response())
}

/// Events that nobody took in, and that wait for a person.
async fn parked(State(desk): Shared) -> Answer {
    let mut all: Vec<Value> = Vec::new();
    for file in desk.files.all() {
        let here = file.store.read(|connection| outbox::parked(connection, LISTED)).await?;
        all.extend(here.into_iter().map(|Parked { id, topic, key, created_ms }| {
            json!({ "id": id, "topic": topic, "key": key, "created_at": rfc3339(created_ms) })
        }));
    }
    Ok(axum::Json(json!({ "parked": all })).into_response())
}

#[derive(Deserialize)]
struct RequeueRequest {
    id: String,
}

/// A person has looked at an event and wants it tried again.
async fn requeue(State(desk): Shared, body: Bytes) -> Answer {
    let RequeueRequest { id } = parse(&body)?;
    for file in desk.files.all() {
        let (id, now_ms) = (id.clone(), unix_ms());
        if file.write(move |connection| Ok(outbox::unpark(connection, &id, now_ms)?)).await? {
            file.ring();
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    Err(Problem::new(StatusCode::NOT_FOUND, "UNKNOWN_EVENT", "No parked event has this id."))
}
