//! The interface for buyers: previews to choose by, their orders, and the keys themselves.
//!
//! Keys are shown to whoever has the password of the order, or a token made for him (see `token`); an address, a mail or
//! an order number alone opens nothing.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Answer, NO_STORE, Page, Shared, check_name, check_text, parameters, parse, state, text_file};
use super::policy::Pick;
use super::{catalogue, token};
use crate::support::{Problem, unix_ms};

/// Orders a look-up shows at most.
const MAX_LOOKED_UP: u32 = 20;

/// Where a buyer's program puts the password: unlike a query string it appears in no access log.
const PASSWORD_HEADER: HeaderName = HeaderName::from_static("x-query-password");

pub(super) async fn previews(State(shop): Shared, Path(sku): Path<String>, uri: Uri) -> Answer {
    let page: Page = parameters(&uri)?;
    let product = shop.product(&sku)?;
    let mut found = Vec::new();
    if product.policy.pick == Pick::Chosen {
        let (after, limit) = (page.after(), page.limit());
        found = shop.store.read(move |connection| catalogue::previews(connection, &sku, after, limit)).await?;
    }
    let found: Vec<Value> = found.into_iter().map(|(id, text)| json!({ "key_id": id, "preview": text })).collect();
    Ok(axum::Json(json!({ "previews": found, "surcharge": product.policy.surcharge })).into_response())
}

#[derive(Deserialize)]
struct QueryRequest {
    query_password: String,
}

pub(super) async fn query(State(shop): Shared, Path(order_no): Path<String>, body: Bytes) -> Answer {
    let request: QueryRequest = parse(&body)?;
    check_name("order_no", &order_no)?;
    check_text("query_password", &request.query_password)?;
    let now_ms = unix_ms();
    let (order, keys) = shop.query(&order_no, &request.query_password, now_ms).await?;
    let mut answer = state(&order);
    answer["product"] = order.product;
    if !keys.is_empty() {
        answer["download_token"] = json!(token::issue(&shop.keyring, &order_no, now_ms));
    }
    answer["keys"] = json!(keys);
    Ok(([NO_STORE], axum::Json(answer)).into_response())
}

#[derive(Deserialize)]
struct LookupRequest {
    contact: String,
    query_password: String,
}

/// The orders of somebody who remembers his contact and password but no number. Keys are not among it.
pub(super) async fn lookup(State(shop): Shared, body: Bytes) -> Answer {
    let LookupRequest { contact, query_password } = parse(&body)?;
    check_text("contact", &contact)?;
    check_text("query_password", &query_password)?;
    let orders = shop.lookup(&contact, &query_password, MAX_LOOKED_UP, unix_ms()).await?;
    let orders: Vec<Value> = orders.iter().map(state).collect();
    Ok(([NO_STORE], axum::Json(json!({ "orders": orders }))).into_response())
}

#[derive(Deserialize)]
struct DownloadQuery {
    password: Option<String>,
    token: Option<String>,
}

pub(super) async fn download(
    State(shop): Shared,
    Path(order_no): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    check_name("order_no", &order_no)?;
    let asked: DownloadQuery = parameters(&uri)?;
    let (_, keys) = match asked.token {
        Some(token) => shop.query_by_token(&order_no, &token, unix_ms()).await?,
        None => {
            let shown = headers.get(PASSWORD_HEADER).map(|value| String::from_utf8(value.as_bytes().to_vec()));
            let password = shown.map_or(asked.password, Result::ok);
            let password = password.ok_or_else(|| Problem::invalid("the header X-Query-Password is missing"))?;
            check_text("query_password", &password)?;
            shop.query(&order_no, &password, unix_ms()).await?
        }
    };
    if keys.is_empty() {
        let detail = "The keys of this order have not been issued.";
        return Err(Problem::new(StatusCode::CONFLICT, "NOT_ISSUED", detail));
    }
    text_file(&format!("keys-{order_no}.txt"), keys.join("\n") + "\n")
}
