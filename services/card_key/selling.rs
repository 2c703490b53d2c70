//! The interface for sellers, second half: what is done to single orders and to batches. Every request that changes
//! something or takes keys out names an `operator` and a `reason`.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::admin::{check_length, check_sign};
use super::batches::{self, Filter, Shift};
use super::catalogue::{Shelf, Source};
use super::delivery::Outcome;
use super::http::{Answer, Page, Shared, check_name, parameters, parse, rows_allowed, text_file};
use super::import::MAX_KEY;
use super::journal::Sign;
use super::policy::MAX_QTY;
use super::rows::{self, State as KeyState, Status};
use super::shop::Shop;
use crate::support::Problem;

/// Routes relative to `/admin`.
pub(super) fn routes() -> Router<Arc<Shop>> {
    Router::new()
        .route("/orders", get(waiting))
        .route("/orders:redeliver", post(redeliver_all))
        .route("/orders/{order_no}/redeliver", post(redeliver))
        .route("/orders/{order_no}/confirm-paid", post(confirm_paid))
        .route("/orders/{order_no}/deliver", post(deliver))
        .route("/orders/{order_no}/refund", post(refund))
        .route("/batches", get(list))
        .route("/batches/{id}/keys", get(keys))
        .route("/batches/{id}/export", post(export))
        .route("/batches/{id}/move", post(relocate))
        .route("/batches/{id}/{shift}", post(shift))
}

fn signed(body: &[u8]) -> Result<Sign, Problem> {
    let sign: Sign = parse(body)?;
    check_sign(&sign)?;
    Ok(sign)
}

#[derive(Deserialize)]
struct WaitingQuery {
    /// `short`, `awaiting`, `refund_due` or `refunded`.
    status: Status,
    sku: Option<String>,
    limit: Option<u32>,
}

/// Paid orders without keys, those paid first at the front.
async fn waiting(State(shop): Shared, uri: Uri) -> Answer {
    let WaitingQuery { status, sku, limit } = parameters(&uri)?;
    let limit = rows_allowed(limit);
    let read = move |connection: &rusqlite::Connection| rows::waiting(connection, status, sku.as_deref(), limit);
    let found: Vec<Value> = shop.store.read(read).await?.iter().map(|order| json!(order)).collect();
    Ok(axum::Json(json!({ "orders": found })).into_response())
}

#[derive(Deserialize)]
struct RedeliverRequest {
    /// Only orders of this product; absent: all.
    sku: Option<String>,
    #[serde(flatten)]
    sign: Sign,
}

async fn redeliver_all(State(shop): Shared, body: Bytes) -> Answer {
    let RedeliverRequest { sku, sign } = parse(&body)?;
    check_sign(&sign)?;
    Ok(axum::Json(shop.redeliver_all(sku, sign).await?).into_response())
}

async fn redeliver(State(shop): Shared, Path(order_no): Path<String>, body: Bytes) -> Answer {
    pay(&shop, order_no, "redeliver", &body).await
}

async fn confirm_paid(State(shop): Shared, Path(order_no): Path<String>, body: Bytes) -> Answer {
    pay(&shop, order_no, "confirm-paid", &body).await
}

async fn pay(shop: &Arc<Shop>, order_no: String, action: &'static str, body: &[u8]) -> Answer {
    check_name("order_no", &order_no)?;
    let (now, outcome) = shop.pay_by_hand(order_no.clone(), action, signed(body)?).await?;
    Ok(axum::Json(json!({ "order_no": order_no, "outcome": outcome, "replayed": !now })).into_response())
}

#[derive(Deserialize)]
struct DeliverRequest {
    /// What the buyer gets, as many as he ordered.
    keys: Vec<String>,
    #[serde(flatten)]
    sign: Sign,
}

async fn deliver(State(shop): Shared, Path(order_no): Path<String>, body: Bytes) -> Answer {
    let DeliverRequest { keys, sign } = parse(&body)?;
    check_name("order_no", &order_no)?;
    check_sign(&sign)?;
    let sound = |key: &String| (1..=MAX_KEY).contains(&key.len());
    if keys.len() > MAX_QTY as usize || !keys.iter().all(sound) {
        return Err(Problem::invalid(format!("keys must be at most {MAX_QTY}, each 1 to {MAX_KEY} bytes")));
    }
    let now = shop.deliver_by_hand(order_no.clone(), keys, sign).await?;
    let outcome = Outcome::Delivered;
    Ok(axum::Json(json!({ "order_no": order_no, "outcome": outcome, "replayed": !now })).into_response())
}

async fn refund(State(shop): Shared, Path(order_no): Path<String>, body: Bytes) -> Answer {
    check_name("order_no", &order_no)?;
    let now = shop.refund(order_no.clone(), signed(&body)?).await?;
    Ok(axum::Json(json!({ "order_no": order_no, "status": "refunded", "replayed": !now })).into_response())
}

async fn list(State(shop): Shared, uri: Uri) -> Answer {
    let filter: Filter = parameters(&uri)?;
    let limit = rows_allowed(filter.limit);
    let found = shop.store.read(move |connection| batches::list(connection, &filter, limit)).await?;
    Ok(axum::Json(json!({ "batches": found })).into_response())
}

#[derive(Deserialize)]
struct KeysQuery {
    state: Option<KeyState>,
}

async fn keys(State(shop): Shared, Path(id): Path<i64>, uri: Uri) -> Answer {
    let page: Page = parameters(&uri)?;
    let KeysQuery { state } = parameters(&uri)?;
    shop.batch(id).await?;
    let (after, limit) = (page.after(), page.limit());
    let found = shop.store.read(move |connection| batches::keys(connection, id, state, after, limit)).await?;
    let found: Vec<Value> = found.iter().map(|key| json!(key)).collect();
    Ok(axum::Json(json!({ "keys": found })).into_response())
}

/// The unsold keys of a batch as text. The entry in the log is durable before the first of them leaves.
async fn export(State(shop): Shared, Path(id): Path<i64>, body: Bytes) -> Answer {
    let on_sale = shop.begin_export(id, signed(&body)?).await?;
    let chunks = futures_util::stream::try_unfold((shop, 0), move |(shop, after)| async move {
        let chunk = shop.export(id, on_sale, after).await.map_err(|problem| std::io::Error::other(problem.detail))?;
        Ok::<_, std::io::Error>(chunk.map(|(last, text)| (text, (shop, last))))
    });
    text_file(&format!("batch-{id}.txt"), Body::from_stream(chunks))
}

#[derive(Deserialize)]
struct MoveRequest {
    /// The product the keys go to.
    to: String,
    /// Name of the batch there; default: the name they have.
    batch: Option<String>,
    #[serde(flatten)]
    sign: Sign,
}

async fn relocate(State(shop): Shared, Path(id): Path<i64>, body: Bytes) -> Answer {
    let MoveRequest { to, batch, sign } = parse(&body)?;
    check_sign(&sign)?;
    let (from, state) = shop.batch(id).await?;
    let batch = batch.unwrap_or(from.name);
    check_length("batch", &batch)?;
    let shelf = Shelf { sku: to, batch, source: Source::Move, state };
    Ok(axum::Json(shop.relocate(id, shelf, sign).await?).into_response())
}

async fn shift(State(shop): Shared, Path((id, word)): Path<(i64, String)>, body: Bytes) -> Answer {
    let change = Shift::parse(&word)
        .ok_or_else(|| Problem::invalid("a batch can be paused, resumed, recycled, restored, moved and exported"))?;
    Ok(axum::Json(shop.shift(id, (change, word), signed(&body)?).await?).into_response())
}
