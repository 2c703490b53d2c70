//! The interface for shops: products, reservations, allocations, and the buyer's query.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::catalogue::Product;
use super::rows::{Reservation, Wanted};
use super::shop::Shop;
use super::{admin, metrics};
use crate::support::{Problem, unix_ms};

/// Most keys in one order.
const MAX_QTY: u32 = 10;

/// How long a reservation holds when the request does not say, and the longest it may: 15 minutes and an hour.
const DEFAULT_TTL_SECONDS: u32 = 900;
const MAX_TTL_SECONDS: u32 = 3_600;

/// Longest order number and SKU in bytes.
const MAX_NAME: usize = 64;

/// Longest query password in bytes.
const MAX_PASSWORD: usize = 128;

/// Stock up to which a product counts as `few`.
const FEW: usize = 20;

/// Where a buyer's program puts the password: unlike a query string it appears in no access log.
const PASSWORD_HEADER: HeaderName = HeaderName::from_static("x-query-password");

/// Answers that hold keys are kept by nobody on the way.
const NO_STORE: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

type Shared = State<Arc<Shop>>;
type Answer = Result<Response, Problem>;

/// All routes, those for sellers under `/admin` included.
pub(super) fn router(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .route("/v1/products", get(products))
        .route("/v1/products/{sku}", get(product))
        .route("/v1/reservations", post(reserve))
        .route("/v1/reservations/{order_no}", delete(release))
        .route("/v1/allocations", post(allocate))
        .route("/v1/orders/{order_no}/query", post(query))
        .route("/v1/orders/{order_no}/keys.txt", get(download))
        .nest("/admin", admin::routes())
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "There is nothing at this path."))
        .method_not_allowed_fallback(async || {
            let detail = "This path does not know that method.";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
        })
        .with_state(shop)
}

async fn ready(State(shop): Shared) -> Answer {
    shop.store.read(|connection| connection.query_row("SELECT 1", [], |_| Ok(()))).await?;
    Ok("ready\n".into_response())
}

async fn figures(State(shop): Shared) -> Response {
    let text = metrics::text(&shop);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn products(State(shop): Shared) -> Response {
    let all: Vec<Value> = shop.products().into_iter().map(|product| view(&shop, product)).collect();
    axum::Json(json!({ "products": all })).into_response()
}

async fn product(State(shop): Shared, Path(sku): Path<String>) -> Answer {
    let product = shop.product(&sku)?;
    Ok(axum::Json(view(&shop, product)).into_response())
}

/// A product with its stock, which comes from the free list: no query, and never staler than the last commit.
fn view(shop: &Shop, product: Product) -> Value {
    let stock = shop.stock.of(&product.sku).len();
    let band = match stock {
        0 => "sold_out",
        1..=FEW => "few",
        _ => "plenty",
    };
    let Product { sku, name_zh, name_en, description_zh, description_en, price, currency } = product;
    json!({
        "sku": sku, "name_zh": name_zh, "name_en": name_en, "description_zh": description_zh,
        "description_en": description_en, "price": price, "currency": currency, "stock": stock, "band": band,
    })
}

#[derive(Deserialize)]
struct ReserveRequest {
    order_no: String,
    sku: String,
    qty: u32,
    ttl_seconds: Option<u32>,
    query_password: Option<String>,
}

async fn reserve(State(shop): Shared, body: Bytes) -> Answer {
    let request: ReserveRequest = parse(&body)?;
    let wanted = wanted(request.order_no, request.sku, request.qty)?;
    let ttl = request.ttl_seconds.unwrap_or(DEFAULT_TTL_SECONDS);
    if !(1..=MAX_TTL_SECONDS).contains(&ttl) {
        return Err(Problem::invalid(format!("ttl_seconds must be 1 to {MAX_TTL_SECONDS}")));
    }
    if let Some(password) = &request.query_password {
        check_password(password)?;
    }
    let expires_ms = unix_ms() + i64::from(ttl) * 1_000;
    let (now, reservation) = shop.reserve(wanted, expires_ms, request.query_password).await?;
    let status = if now { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(state(&reservation))).into_response())
}

/// What an order's state looks like from outside.
fn state(order: &Reservation) -> serde_json::Map<String, Value> {
    let Wanted { order_no, sku, qty } = &order.wanted;
    let members = BTreeMap::from([
        ("order_no", json!(order_no)),
        ("sku", json!(sku)),
        ("qty", json!(qty)),
        ("status", json!(order.status)),
        ("expires_at_ms", json!(order.expires_ms)),
    ]);
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn release(State(shop): Shared, Path(order_no): Path<String>) -> Answer {
    check_name("order_no", &order_no)?;
    shop.release(order_no).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
struct AllocateRequest {
    order_no: String,
    sku: String,
    qty: u32,
}

async fn allocate(State(shop): Shared, body: Bytes) -> Answer {
    let request: AllocateRequest = parse(&body)?;
    let wanted = wanted(request.order_no, request.sku, request.qty)?;
    let (order_no, qty) = (wanted.order_no.clone(), wanted.qty);
    let now = shop.allocate(wanted, unix_ms()).await?;
    // A number, never a key: this answer may be stored by whoever makes calls idempotent on the way.
    Ok(axum::Json(json!({ "order_no": order_no, "allocated": qty, "replayed": !now })).into_response())
}

#[derive(Deserialize)]
struct QueryRequest {
    query_password: String,
}

async fn query(State(shop): Shared, Path(order_no): Path<String>, body: Bytes) -> Answer {
    let request: QueryRequest = parse(&body)?;
    check_name("order_no", &order_no)?;
    check_password(&request.query_password)?;
    let (order, keys) = shop.query(&order_no, &request.query_password, unix_ms()).await?;
    let mut answer = state(&order);
    answer.insert("keys".to_owned(), json!(keys));
    Ok(([NO_STORE], axum::Json(answer)).into_response())
}

#[derive(Deserialize)]
struct DownloadQuery {
    password: Option<String>,
}

async fn download(State(shop): Shared, Path(order_no): Path<String>, uri: Uri, headers: HeaderMap) -> Answer {
    check_name("order_no", &order_no)?;
    let asked: DownloadQuery = parameters(&uri)?;
    let password = match headers.get(PASSWORD_HEADER) {
        Some(value) => String::from_utf8(value.as_bytes().to_vec()).ok(),
        None => asked.password,
    };
    let password = password.ok_or_else(|| Problem::invalid("the header X-Query-Password is missing"))?;
    check_password(&password)?;
    let (_, keys) = shop.query(&order_no, &password, unix_ms()).await?;
    if keys.is_empty() {
        let detail = "The keys of this order have not been issued.";
        return Err(Problem::new(StatusCode::CONFLICT, "NOT_ISSUED", detail));
    }
    let name = format!("attachment; filename=\"keys-{order_no}.txt\"");
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    // The number was checked to be plain letters and digits.
    let name = HeaderValue::try_from(name).map_err(|_| Problem::internal())?;
    let headers = [NO_STORE, (header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, keys.join("\n") + "\n").into_response())
}

fn wanted(order_no: String, sku: String, qty: u32) -> Result<Wanted, Problem> {
    check_name("order_no", &order_no)?;
    check_name("sku", &sku)?;
    if !(1..=MAX_QTY).contains(&qty) {
        return Err(Problem::invalid(format!("qty must be 1 to {MAX_QTY}")));
    }
    Ok(Wanted { order_no, sku, qty })
}

/// Order numbers and SKUs appear in paths, file names and metrics: letters, digits, `-` and `_` only.
pub(super) fn check_name(member: &str, text: &str) -> Result<(), Problem> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(plain) {
        return Err(Problem::invalid(format!("{member} must be 1 to {MAX_NAME} of A-Z, a-z, 0-9, - and _")));
    }
    Ok(())
}

fn check_password(password: &str) -> Result<(), Problem> {
    if password.is_empty() || password.len() > MAX_PASSWORD {
        return Err(Problem::invalid(format!("query_password must be 1 to {MAX_PASSWORD} bytes")));
    }
    Ok(())
}

/// The body as JSON. What the parser says names members and positions, not values of ours.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))
}

/// The query string.
pub(super) fn parameters<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let Query(parameters) = Query::try_from_uri(uri).map_err(|error| Problem::invalid(error.to_string()))?;
    Ok(parameters)
}
