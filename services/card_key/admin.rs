//! The interface for sellers: products, coupons, keys in and out, stock, invariants, the log of operations.
//!
//! Same listener, under `/admin`; the gateway has no route to it. Who may use it is in `guard`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::catalogue::{Dedupe, Product, Shelf, Source};
use super::generate::{self, Made};
use super::guard::{self, Guard};
use super::http::{Answer, Page, Shared, check_name, parameters, parse};
use super::journal::{self, Sign};
use super::permutation::{Format, LETTERS};
use super::price::{self, Coupon};
use super::shop::Shop;
use super::{import, inspect, selling};
use crate::support::{Problem, unix_ms};

/// Reports that may wait for a slow reader; all but the last are then left out.
const WAITING_REPORTS: usize = 64;

/// Longest name of a batch, an operator and a reason in bytes.
const MAX_TEXT: usize = 200;

/// Most keys of one generated batch.
const MAX_GENERATED: u64 = 10_000_000;

/// Routes relative to `/admin`.
pub(super) fn routes(guard: Guard) -> Router<Arc<Shop>> {
    Router::new()
        .route("/products", post(put_product))
        .route("/coupons", post(put_coupon).get(coupons))
        .route("/skus/{sku}/keys:import", post(import_keys))
        .route("/skus/{sku}/keys:generate", post(generate_keys))
        .route("/stock", get(stocks))
        .route("/stock/{sku}", get(stock))
        .route("/invariants", get(invariants))
        .route("/operations", get(operations))
        .merge(selling::routes())
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::watch))
}

async fn put_product(State(shop): Shared, body: Bytes) -> Answer {
    let product: Product = parse(&body)?;
    check_name("sku", &product.sku)?;
    product.check().map_err(Problem::invalid)?;
    shop.put_product(product.clone()).await?;
    Ok(axum::Json(product).into_response())
}

async fn put_coupon(State(shop): Shared, body: Bytes) -> Answer {
    let coupon: Coupon = parse(&body)?;
    check_name("code", &coupon.code)?;
    coupon.check().map_err(Problem::invalid)?;
    let row = coupon.clone();
    shop.write(move |connection| price::put(connection, &row)).await?;
    Ok(axum::Json(coupon).into_response())
}

async fn coupons(State(shop): Shared) -> Answer {
    #[derive(Serialize)]
    struct Used {
        #[serde(flatten)]
        coupon: Coupon,
        used: u32,
    }
    let all = shop.store.read(price::all).await?;
    let all: Vec<_> = all.into_iter().map(|(coupon, used)| Used { coupon, used }).collect();
    Ok(axum::Json(json!({ "coupons": all })).into_response())
}

#[derive(Deserialize)]
struct ImportQuery {
    batch: Option<String>,
    dedupe: Option<Dedupe>,
}

/// Answers 200 at once and then one JSON object a line while the upload goes on; how it ended is in the last one.
async fn import_keys(State(shop): Shared, Path(sku): Path<String>, uri: Uri, body: Body) -> Answer {
    let query: ImportQuery = parameters(&uri)?;
    let shelf = shelf(&shop, sku, query.batch.unwrap_or_default(), Source::Import)?;
    let dedupe = query.dedupe.unwrap_or(Dedupe::Reject);
    let (reports, waiting) = mpsc::channel(WAITING_REPORTS);
    // A task of its own: a client that hangs up must not stop a chunk between its commit and the free list.
    tokio::spawn(import::run(shop, shelf, dedupe, body.into_data_stream(), reports));
    Ok(lines(waiting))
}

#[derive(Deserialize)]
struct GenerateRequest {
    /// `X` stands for a letter, everything else for itself.
    format: String,
    charset: Option<String>,
    /// Keys the batch has in the end.
    count: u64,
    /// The last letter is a check letter.
    #[serde(default)]
    checksum: bool,
    /// The same call for the same batch makes what is missing.
    batch: String,
    #[serde(flatten)]
    sign: Sign,
}

/// Answers like an import.
async fn generate_keys(State(shop): Shared, Path(sku): Path<String>, body: Bytes) -> Answer {
    let GenerateRequest { format, charset, count, checksum, batch, sign } = parse(&body)?;
    check_sign(&sign)?;
    let format = Format::new(&format, charset.as_deref().unwrap_or(LETTERS), checksum).map_err(Problem::invalid)?;
    if !(1..=MAX_GENERATED).contains(&count) {
        return Err(Problem::invalid(format!("count must be 1 to {MAX_GENERATED}")));
    }
    format.check_room(count).map_err(Problem::invalid)?;
    let shelf = shelf(&shop, sku, batch, Source::Generate)?;
    let Ok(alone) = Arc::clone(&shop.generating).try_lock_owned() else {
        let detail = "Keys are being generated. Please wait until that is done.";
        return Err(Problem::new(StatusCode::CONFLICT, "GENERATING", detail).retry_after(1));
    };
    let row = shelf.clone();
    let made = shop
        .write(move |connection| {
            let detail = json!({ "batch": row.batch, "count": count });
            journal::log(connection, &sign, "generate", &row.sku, &detail, unix_ms())?;
            generate::begin(connection, &row, count, unix_ms())
        })
        .await?;
    let progress = Made { made, count, ..Made::default() };
    let (reports, waiting) = mpsc::channel(WAITING_REPORTS);
    tokio::spawn(async move {
        generate::run(shop, shelf, format, progress, reports).await;
        drop(alone);
    });
    Ok(lines(waiting))
}

fn shelf(shop: &Shop, sku: String, batch: String, source: Source) -> Result<Shelf, Problem> {
    let state = shop.product(&sku)?.on_sale();
    check_length("batch", &batch)?;
    Ok(Shelf { sku, batch, source, state })
}

pub(super) fn check_length(member: &str, text: &str) -> Result<(), Problem> {
    if text.len() > MAX_TEXT {
        return Err(Problem::invalid(format!("{member} must be at most {MAX_TEXT} bytes")));
    }
    Ok(())
}

/// Whoever changes something says who he is and why.
pub(super) fn check_sign(sign: &Sign) -> Result<(), Problem> {
    for (member, text) in [("operator", &sign.operator), ("reason", &sign.reason)] {
        check_length(member, text)?;
        if text.trim().is_empty() {
            return Err(Problem::invalid(format!("{member} must not be empty")));
        }
    }
    Ok(())
}

/// Reports as they come, one JSON object a line.
fn lines<T: Serialize + Send + 'static>(waiting: mpsc::Receiver<T>) -> Response {
    let lines = futures_util::stream::unfold(waiting, async |mut waiting| {
        let report = waiting.recv().await?;
        Some((line(&report), waiting))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn line(report: &impl Serialize) -> Result<Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec(report)?;
    text.push(b'\n');
    Ok(text.into())
}

async fn stocks(State(shop): Shared) -> Answer {
    Ok(axum::Json(json!({ "stock": inspect::stocks(&shop).await? })).into_response())
}

async fn stock(State(shop): Shared, Path(sku): Path<String>) -> Answer {
    Ok(axum::Json(inspect::stock(&shop, &sku).await?).into_response())
}

async fn invariants(State(shop): Shared) -> Answer {
    let violations = inspect::violations(&shop).await?;
    let status = if violations.is_empty() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    if !violations.is_empty() {
        tracing::error!(?violations, "the books do not add up");
    }
    Ok((status, axum::Json(json!({ "violations": violations }))).into_response())
}

#[derive(Deserialize)]
struct OperationsQuery {
    /// An order number, `batch <id>` or a SKU; absent: everything.
    subject: Option<String>,
}

async fn operations(State(shop): Shared, uri: Uri) -> Answer {
    let page: Page = parameters(&uri)?;
    let OperationsQuery { subject } = parameters(&uri)?;
    let (after, limit) = (page.after(), page.limit());
    let read =
        move |connection: &rusqlite::Connection| journal::operations(connection, subject.as_deref(), after, limit);
    let operations: Vec<Value> = shop.store.read(read).await?.iter().map(|operation| json!(operation)).collect();
    Ok(axum::Json(json!({ "operations": operations })).into_response())
}
