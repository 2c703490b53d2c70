//! The interface for sellers: products, import, stock, invariants.
//!
//! Same listener, under `/admin`: the gateway has no route to it, so it is reached from the machine itself only.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::catalogue::{Dedupe, Product};
use super::http::{check_name, parameters, parse};
use super::import::{self, Progress, Target};
use super::inspect;
use super::shop::Shop;
use crate::support::Problem;

/// Reports that may wait for a slow reader; all but the last are then left out.
const WAITING_REPORTS: usize = 64;

/// Longest name of a batch in bytes.
const MAX_BATCH_NAME: usize = 100;

type Shared = State<Arc<Shop>>;
type Answer = Result<Response, Problem>;

/// Routes relative to `/admin`.
pub(super) fn routes() -> Router<Arc<Shop>> {
    Router::new()
        .route("/products", post(put_product))
        .route("/skus/{sku}/keys:import", post(import_keys))
        .route("/stock/{sku}", get(stock))
        .route("/invariants", get(invariants))
}

async fn put_product(State(shop): Shared, body: Bytes) -> Answer {
    let product: Product = parse(&body)?;
    check_name("sku", &product.sku)?;
    if product.price < 0 {
        return Err(Problem::invalid("price must not be negative"));
    }
    if product.currency.len() != 3 || !product.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(Problem::invalid("currency must be three capital letters"));
    }
    shop.put_product(product.clone()).await?;
    Ok(axum::Json(product).into_response())
}

#[derive(Deserialize)]
struct ImportQuery {
    batch: Option<String>,
    dedupe: Option<Dedupe>,
}

/// Answers 200 at once and then one JSON object a line while the upload goes on; how it ended is in the last one.
async fn import_keys(State(shop): Shared, Path(sku): Path<String>, uri: Uri, body: Body) -> Answer {
    shop.product(&sku)?;
    let query: ImportQuery = parameters(&uri)?;
    let batch = query.batch.unwrap_or_default();
    if batch.len() > MAX_BATCH_NAME {
        return Err(Problem::invalid(format!("batch must be at most {MAX_BATCH_NAME} bytes")));
    }
    let target = Target { sku, batch, dedupe: query.dedupe.unwrap_or(Dedupe::Reject) };
    let (reports, waiting) = mpsc::channel(WAITING_REPORTS);
    // A task of its own: a client that hangs up must not stop a batch between its commit and the free list.
    tokio::spawn(import::run(shop, target, body.into_data_stream(), reports));
    let lines = futures_util::stream::unfold(waiting, async |mut waiting| {
        let report = waiting.recv().await?;
        Some((line(&report), waiting))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

fn line(report: &Progress) -> Result<Bytes, serde_json::Error> {
    let mut text = serde_json::to_vec(report)?;
    text.push(b'\n');
    Ok(text.into())
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
