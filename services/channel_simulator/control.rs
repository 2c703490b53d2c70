//! The interface for tests and operators: the truth, the plan, a fresh start.
//!
//! Same listener, under `/sim`: the gateway has no route to it, so it is reached from the machine itself only.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::channel::Channel;
use super::http::{Answer, Shared, parse};
use super::plan::Plan;
use super::{metrics, truth};
use crate::support::{Problem, unix_ms};

/// Entries of the ledger read at a time: a million of them go out with the memory of these.
const PAGE: u32 = 1_000;

/// The word that has to be sent to have everything deleted.
const RESET: &str = "reset";

/// Routes relative to `/sim`.
pub(super) fn routes() -> Router<Arc<Channel>> {
    Router::new()
        .route("/truth", get(truth))
        .route("/ledger.ndjson", get(ledger))
        .route("/stats", get(stats))
        .route("/plan", get(plan).put(put_plan))
        .route("/reset", post(reset))
}

#[derive(Deserialize)]
struct TruthQuery {
    payment_no: Option<String>,
}

async fn truth(State(channel): Shared, uri: Uri) -> Answer {
    let asked: TruthQuery = parameters(&uri)?;
    let mut answer = match asked.payment_no {
        None => channel.store.read(truth::summary).await?,
        Some(payment_no) => {
            let payment = channel.find(payment_no.clone()).await?;
            let entries = channel.store.read(move |connection| truth::of_payment(connection, &payment_no)).await?;
            truth::told(&payment, &entries)
        }
    };
    answer["channel"] = channel.name.clone().into();
    Ok(axum::Json(answer).into_response())
}

#[derive(Deserialize)]
struct LedgerQuery {
    after: Option<i64>,
}

/// All entries there are when the call comes in, the oldest first, one JSON object a line.
async fn ledger(State(channel): Shared, uri: Uri) -> Answer {
    let asked: LedgerQuery = parameters(&uri)?;
    // A bound, or under load the answer would never end.
    let last = channel.store.read(truth::last_seq).await?;
    let pages = futures_util::stream::try_unfold(asked.after.unwrap_or(0), move |after| {
        let channel = Arc::clone(&channel);
        async move {
            let page = channel.store.read(move |connection| truth::page(connection, after, last, PAGE)).await?;
            let next = page.last().map(|entry| entry.seq);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(match next {
                None => None,
                Some(next) => Some((truth::lines(&page)?, next)),
            })
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(pages)).into_response())
}

async fn stats(State(channel): Shared) -> Answer {
    let callbacks = channel.store.read(truth::callbacks).await?;
    let counters = Value::Object(metrics::json(&channel));
    Ok(axum::Json(json!({ "channel": channel.name, "since_start": counters, "callbacks": callbacks })).into_response())
}

async fn plan(State(channel): Shared) -> Response {
    axum::Json(channel.plan()).into_response()
}

async fn put_plan(State(channel): Shared, body: Bytes) -> Answer {
    let plan = Plan::parse(&body).map_err(Problem::invalid)?;
    tracing::info!(channel = channel.name, "another plan is in force");
    channel.set_plan(plan, unix_ms());
    Ok(axum::Json(channel.plan()).into_response())
}

#[derive(Deserialize)]
struct ResetRequest {
    confirm: Option<String>,
}

async fn reset(State(channel): Shared, body: Bytes) -> Answer {
    let request: ResetRequest = if body.is_empty() { ResetRequest { confirm: None } } else { parse(&body)? };
    if request.confirm.as_deref() != Some(RESET) {
        let detail = format!("all payments would be deleted; send {{\"confirm\":\"{RESET}\"}} if that is wanted");
        return Err(Problem::invalid(detail));
    }
    let deleted = channel.store.write(truth::reset).await.map_err(|error| match error {
        tidegate_durable::WriteError::Op(error) => tidegate_durable::StoreError::from(error),
        tidegate_durable::WriteError::Store(error) => error,
    })?;
    tracing::warn!(channel = channel.name, payments = deleted, "all payments were deleted on request");
    Ok(axum::Json(json!({ "deleted_payments": deleted })).into_response())
}

fn parameters<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let Query(parameters) = Query::try_from_uri(uri).map_err(|error| Problem::invalid(error.to_string()))?;
    Ok(parameters)
}
