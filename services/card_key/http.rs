//! The interface for shops: products, quotes, orders before and after the payment, announcements.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::catalogue::Product;
use super::delivery::Outcome;
use super::guard::Guard;
use super::policy::{Kind, MAX_QTY, MAX_TTL_SECONDS, Pick};
use super::reserving::Placing;
use super::rows::{self, Order, Wanted};
use super::shop::{Credentials, Shop};
use super::{admin, buyer, hook, journal, metrics};
use crate::support::{Problem, unix_ms};

/// How long a reservation holds when neither the request nor the policy says: 15 minutes.
const DEFAULT_TTL_SECONDS: u32 = 900;

/// Stock that is told for a product without keys to count.
const UNCOUNTED_STOCK: usize = 1_000_000;

/// Rows of a list when the request does not say, and at most.
const DEFAULT_ROWS: u32 = 100;
const MAX_ROWS: u32 = 1_000;

/// Seconds after which a paid order that waits for the seller may have got its keys.
const LOOK_AGAIN_SECONDS: u64 = 30;

/// Longest order number and SKU in bytes.
const MAX_NAME: usize = 64;

/// Longest query password, contact, principal and address in bytes.
const MAX_PASSWORD: usize = 128;

/// Stock up to which a product counts as `few`.
const FEW: usize = 20;

/// Answers that hold keys are kept by nobody on the way.
pub(super) const NO_STORE: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

pub(super) type Shared = State<Arc<Shop>>;
pub(super) type Answer = Result<Response, Problem>;

/// All routes, those for sellers under `/admin` included.
pub(super) fn router(shop: Arc<Shop>, guard: Guard) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .route("/v1/products", get(products))
        .route("/v1/products/{sku}", get(product))
        .route("/v1/products/{sku}/previews", get(buyer::previews))
        .route("/v1/quotes", post(quote))
        .route("/v1/reservations", post(reserve))
        .route("/v1/reservations/{order_no}", delete(release))
        .route("/v1/allocations", post(allocate))
        .route("/v1/hooks/paid", post(hook::paid))
        .route("/v1/events", get(events))
        .route("/v1/orders/lookup", post(buyer::lookup))
        .route("/v1/orders/{order_no}/query", post(buyer::query))
        .route("/v1/orders/{order_no}/keys.txt", get(buyer::download))
        .nest("/admin", admin::routes(guard))
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

async fn figures(State(shop): Shared) -> Answer {
    let waiting = shop.store.read(rows::count_waiting).await?;
    let text = metrics::text(&shop, &waiting);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn products(State(shop): Shared) -> Response {
    let all: Vec<Value> = shop.products().into_iter().map(|product| view(&shop, &product)).collect();
    axum::Json(json!({ "products": all })).into_response()
}

async fn product(State(shop): Shared, Path(sku): Path<String>) -> Answer {
    let product = shop.product(&sku)?;
    Ok(axum::Json(view(&shop, &product)).into_response())
}

/// A product with its stock, which comes from the free list: no query, and never staler than the last commit.
fn view(shop: &Shop, product: &Product) -> Value {
    let listed = shop.stock.of(&product.sku).len();
    let stock = match product.policy.kind {
        Kind::Unique => listed,
        Kind::Shared if listed == 0 => 0,
        Kind::Shared | Kind::Manual => UNCOUNTED_STOCK,
    };
    let band = match stock {
        0 => "sold_out",
        1..=FEW => "few",
        _ => "plenty",
    };
    json!({
        "sku": product.sku, "name_zh": product.name_zh, "name_en": product.name_en,
        "description_zh": product.description_zh, "description_en": product.description_en, "price": product.price,
        "currency": product.currency, "tiers": product.tiers, "kind": product.policy.kind,
        "pick": product.policy.pick, "surcharge": product.policy.surcharge, "max_per_order": product.policy.most(),
        "stock": stock, "band": band,
    })
}

/// Where a list goes on, and how much of it is wanted.
#[derive(Deserialize)]
pub(super) struct Page {
    after: Option<i64>,
    limit: Option<u32>,
}

impl Page {
    /// Id behind which the list goes on.
    pub(super) fn after(&self) -> i64 {
        self.after.unwrap_or(0)
    }

    /// Rows that are wanted and allowed.
    pub(super) fn limit(&self) -> u32 {
        rows_allowed(self.limit)
    }
}

/// Rows of a list for a request that asked for so many.
pub(super) fn rows_allowed(limit: Option<u32>) -> u32 {
    limit.unwrap_or(DEFAULT_ROWS).min(MAX_ROWS)
}

#[derive(Deserialize)]
struct QuoteRequest {
    sku: String,
    qty: u32,
    coupon: Option<String>,
    /// Keys that are chosen by the buyer; none when absent.
    #[serde(default)]
    chosen: usize,
}

async fn quote(State(shop): Shared, body: Bytes) -> Answer {
    let QuoteRequest { sku, qty, coupon, chosen } = parse(&body)?;
    let product = shop.product(&sku)?;
    check_qty(&product, qty)?;
    if chosen > qty as usize {
        return Err(Problem::invalid("chosen must not be more than qty"));
    }
    let quote = shop.quote(&sku, qty, chosen, coupon, unix_ms()).await?;
    Ok(axum::Json(quote).into_response())
}

fn check_qty(product: &Product, qty: u32) -> Result<(), Problem> {
    let most = product.policy.most();
    if qty == 0 || qty > most { Err(Problem::invalid(format!("qty must be 1 to {most}"))) } else { Ok(()) }
}

#[derive(Deserialize)]
struct ReserveRequest {
    order_no: String,
    sku: String,
    qty: u32,
    ttl_seconds: Option<u32>,
    query_password: Option<String>,
    contact: Option<String>,
    /// Who buys, and from where; limits count by them, and do not apply without.
    principal: Option<String>,
    ip: Option<String>,
    coupon: Option<String>,
    /// Ids of keys the buyer has chosen.
    #[serde(default)]
    chosen: Vec<i64>,
}

async fn reserve(State(shop): Shared, body: Bytes) -> Answer {
    let request: ReserveRequest = parse(&body)?;
    let wanted = wanted(request.order_no, request.sku, request.qty)?;
    let product = shop.product(&wanted.sku)?;
    check_qty(&product, wanted.qty)?;
    let ttl = request.ttl_seconds.unwrap_or(DEFAULT_TTL_SECONDS);
    if !(1..=MAX_TTL_SECONDS).contains(&ttl) {
        return Err(Problem::invalid(format!("ttl_seconds must be 1 to {MAX_TTL_SECONDS}")));
    }
    let ttl = product.policy.ttl_seconds.map_or(ttl, |most| ttl.min(most));
    for (member, text) in [
        ("query_password", &request.query_password),
        ("contact", &request.contact),
        ("principal", &request.principal),
        ("ip", &request.ip),
    ] {
        text.as_ref().map_or(Ok(()), |text| check_text(member, text))?;
    }
    check_chosen(&product, wanted.qty, &request.chosen)?;
    let created_ms = unix_ms();
    let placing = Placing {
        wanted,
        created_ms,
        expires_ms: created_ms + i64::from(ttl) * 1_000,
        principal: request.principal,
        ip: request.ip,
        coupon: request.coupon,
        chosen: request.chosen,
        secrets: None,
    };
    let credentials = Credentials { password: request.query_password, contact: request.contact };
    let (now, order) = shop.reserve(placing, credentials).await?;
    let status = if now { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(state(&order))).into_response())
}

fn check_chosen(product: &Product, qty: u32, chosen: &[i64]) -> Result<(), Problem> {
    if chosen.is_empty() {
        return Ok(());
    }
    if product.policy.pick != Pick::Chosen {
        return Err(Problem::invalid("keys of this product cannot be chosen"));
    }
    if chosen.len() != qty as usize {
        return Err(Problem::invalid("chosen must name as many keys as qty says, or none"));
    }
    Ok(())
}

/// What an order's state looks like from outside.
pub(super) fn state(order: &Order) -> Value {
    let Wanted { order_no, sku, qty } = &order.wanted;
    json!({
        "order_no": order_no, "sku": sku, "qty": qty, "status": order.status, "held": order.held,
        "expires_at_ms": order.expires_ms, "amount": order.amount, "currency": order.product["currency"],
    })
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
    let (now, outcome) = shop.allocate(wanted, unix_ms()).await?;
    if outcome != Outcome::Delivered {
        // Not a refusal: the order is paid and gets its keys, and asking again later finds them.
        let detail = "The order is paid and waits for the seller.";
        let waiting = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "WAITS_FOR_SELLER", detail);
        return Err(waiting.retry_after(LOOK_AGAIN_SECONDS));
    }
    // A number, never a key: this answer may be stored by whoever makes calls idempotent on the way.
    Ok(axum::Json(json!({ "order_no": order_no, "allocated": qty, "replayed": !now })).into_response())
}

async fn events(State(shop): Shared, uri: Uri) -> Answer {
    let page: Page = parameters(&uri)?;
    let (after, limit) = (page.after(), page.limit());
    let events = shop.store.read(move |connection| journal::events(connection, after, limit)).await?;
    Ok(axum::Json(json!({ "events": events })).into_response())
}

/// Keys as a file to be saved. The name must be plain letters and digits.
pub(super) fn text_file(name: &str, text: impl Into<axum::body::Body>) -> Answer {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    let name = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")).map_err(|_| Problem::internal())?;
    let headers = [NO_STORE, (header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, text.into()).into_response())
}

/// What a request wants. What the product's policy allows is asked where an order is placed; what is paid is paid.
pub(super) fn wanted(order_no: String, sku: String, qty: u32) -> Result<Wanted, Problem> {
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

pub(super) fn check_text(member: &str, text: &str) -> Result<(), Problem> {
    if text.is_empty() || text.len() > MAX_PASSWORD {
        return Err(Problem::invalid(format!("{member} must be 1 to {MAX_PASSWORD} bytes")));
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
