//! The interface for tests and operators: the truth, the plan, a fresh start.
//!
//! Same listener, under `/sim`: the gateway has no route to it, so it is reached from the machine itself only. With
//! `--control` also on a listener of its own, which no fault of the plan reaches.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::channel::Channel;
use super::course::Course;
use super::dialects::keys::private_file;
use super::dialects::{APP_ID, APPID, MCHID, PID, SELLER_ID, json as plain};
use super::http::{Answer, Shared, parse};
use super::plan::Plan;
use super::{bill, metrics, truth};
use crate::support::Problem;

/// Entries of the ledger read at a time: a million of them go out with the memory of these.
const PAGE: u32 = 1_000;

/// The clock can be put a hundred years away.
const LARGEST_OFFSET_MS: i64 = 100 * 366 * 86_400_000;

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
        .route("/keys", get(keys))
        .route("/bill", get(bill::plain))
        .route("/clock", get(clock).post(set_clock))
        .route("/pay/{payment_no}", post(pay))
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
    let stats = json!({
        "channel": channel.name, "since_start": counters, "faults": metrics::faults(&channel), "callbacks": callbacks,
    });
    Ok(axum::Json(stats).into_response())
}

async fn plan(State(channel): Shared) -> Response {
    axum::Json(channel.plan()).into_response()
}

async fn put_plan(State(channel): Shared, body: Bytes) -> Answer {
    let plan = Plan::parse(&body).map_err(Problem::invalid)?;
    tracing::info!(channel = channel.name, "another plan is in force");
    channel.set_plan(plan);
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
    let deleted = channel.reset().await?;
    tracing::warn!(channel = channel.name, payments = deleted, "all payments were deleted on request");
    Ok(axum::Json(json!({ "deleted_payments": deleted })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockRequest {
    offset_ms: i64,
}

async fn clock(State(channel): Shared) -> Response {
    let now = channel.now();
    axum::Json(json!({ "offset_ms": now.clock_ms - now.ms, "now_ms": now.clock_ms })).into_response()
}

async fn set_clock(State(channel): Shared, body: Bytes) -> Answer {
    let ClockRequest { offset_ms } = parse(&body)?;
    if offset_ms.abs() > LARGEST_OFFSET_MS {
        return Err(Problem::invalid(format!("offset_ms must be at most {LARGEST_OFFSET_MS}, either way")));
    }
    channel.set_clock(offset_ms);
    Ok(clock(State(channel)).await)
}

/// Who the demo merchant is, what he checks answers with, and where his private key is. The key itself, and the secrets,
/// are not told.
async fn keys(State(channel): Shared) -> Answer {
    let keys = channel.keys().await?;
    let platform = keys.platform.public();
    Ok(axum::Json(json!({
        "alipay": { "app_id": APP_ID, "seller_id": SELLER_ID },
        "wechat": { "mchid": MCHID, "appid": APPID, "merchant_serial": keys.merchant.serial() },
        "epay": { "pid": PID },
        "platform": { "public_key": platform.to_pem(), "serial": platform.serial() },
        "merchant": { "public_key": keys.merchant.to_pem(), "private_key_file": private_file(&keys.folder, "merchant") },
    }))
    .into_response())
}

/// The buyer pays, whatever the plan says about calls.
async fn pay(State(channel): Shared, Path(payment_no): Path<String>) -> Answer {
    let course = Course::default();
    let (payment, _) = channel.confirm(payment_no, &course).await?;
    Ok(axum::Json(plain::view(&channel, &course, &payment)).into_response())
}

fn parameters<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let Query(parameters) = Query::try_from_uri(uri).map_err(|error| Problem::invalid(error.to_string()))?;
    Ok(parameters)
}
