//! The paid event of an order service: one signed request, one transaction from "paid" to "delivered".
//!
//! Who can send it can have keys issued, so it is signed (see [`signature`]) and the way is closed while the service
//! has no secret. Senders repeat what was not answered, so an event has a number: the same one again gets the answer it
//! got the first time, whatever has happened to the order since, and the same number with another content is refused.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rusqlite::Connection;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::delivery::{self, Outcome, Paid};
use super::http::{check_name, parse, wanted};
use super::journal;
use super::refusal::Refusal;
use super::rows;
use super::shop::Shop;
use crate::support::{Problem, signature, unix_ms};

/// The header with `t=<unix seconds>,v1=<hex>`.
const HEADER: &str = "x-tidegate-signature";

#[derive(Deserialize)]
struct PaidEvent {
    event_id: String,
    order_no: String,
    sku: String,
    qty: u32,
    /// What was paid, in minor units; checked against what the order costs when it is there.
    amount: Option<i64>,
}

pub(super) async fn paid(State(shop): State<Arc<Shop>>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let now_ms = unix_ms();
    authenticate(&shop, &headers, &body, now_ms)?;
    let event: PaidEvent = parse(&body)?;
    check_name("event_id", &event.event_id)?;
    let wanted = wanted(event.order_no, event.sku, event.qty)?;
    let product = shop.product(&wanted.sku)?;
    let (order_no, list, digest) = (wanted.order_no.clone(), shop.stock.of(&wanted.sku), Sha256::digest(&body));
    let handle = move |connection: &Connection| {
        if let Some(outcome) = known(connection, &event.event_id, &digest)? {
            return Ok((wanted.qty, Paid { outcome, now: false, taken: None }));
        }
        let order = rows::find_same(connection, &wanted)?;
        if let (Some(order), Some(amount)) = (&order, event.amount)
            && order.amount != amount
        {
            return Err(Refusal::AmountMismatch);
        }
        let paid = delivery::pay(connection, &list, &product, &wanted, now_ms)?;
        journal::receive(connection, &event.event_id, &digest, &wanted.order_no, paid.outcome.as_str(), now_ms)?;
        Ok((wanted.qty, paid))
    };
    let (now, outcome) = shop.deliver(handle).await?;
    Ok(axum::Json(json!({ "order_no": order_no, "outcome": outcome, "replayed": !now })).into_response())
}

/// The outcome of an event that was received before.
fn known(connection: &Connection, event_id: &str, digest: &[u8]) -> Result<Option<Outcome>, Refusal> {
    match journal::received(connection, event_id)? {
        None => Ok(None),
        Some((stored, _)) if stored != digest => Err(Refusal::EventMismatch),
        Some((_, outcome)) => Ok(Outcome::parse(&outcome)),
    }
}

fn authenticate(shop: &Shop, headers: &HeaderMap, body: &[u8], now_ms: i64) -> Result<(), Problem> {
    let Some(secret) = &shop.hook_secret else {
        let detail = "This service has no secret for paid events.";
        return Err(Problem::new(StatusCode::FORBIDDEN, "HOOK_CLOSED", detail));
    };
    let header = headers.get(HEADER).and_then(|value| value.to_str().ok());
    let now = u64::try_from(now_ms / 1_000).unwrap_or(0);
    signature::verify(secret.bytes(), header, now, body).map_err(|refusal| {
        tracing::warn!(%refusal, "a paid event was refused");
        Problem::new(StatusCode::UNAUTHORIZED, "WRONG_SIGNATURE", "The signature is missing or wrong.")
    })
}
