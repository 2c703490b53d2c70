//! The interface for shops and their buyers: create, confirm, query, close, refund.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::channel::Channel;
use super::rows::{Payment, Status, Wanted};
use super::{cashier, control, metrics};
use crate::support::{Problem, unix_ms};

/// Longest payment number, refund number, scene in bytes.
const MAX_NUMBER: usize = 64;

/// Longest subject, URL and idempotency key in bytes.
const MAX_SUBJECT: usize = 256;
const MAX_URL: usize = 2_048;
const MAX_KEY: usize = 255;

/// Dearest payment, in fen: a hundred million yuan. Far below what an i64 holds, so that no sum overflows.
const MAX_AMOUNT: i64 = 10_000_000_000;

/// The one currency of these channels.
const CURRENCY: &str = "CNY";

/// Largest body of a request.
const MAX_BODY: usize = 64 * 1024;

/// Says that an answer is that of an earlier call.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

pub(super) type Shared = State<Arc<Channel>>;
pub(super) type Answer = Result<Response, Problem>;

/// All routes, those for tests under `/sim` included.
pub(super) fn router(channel: Arc<Channel>) -> Router {
    let pay = Router::new()
        .route("/pay/v1/payments", post(create))
        .route("/pay/v1/payments/{payment_no}", get(query))
        .route("/pay/v1/payments/{payment_no}/confirm", post(confirm))
        .route("/pay/v1/payments/{payment_no}/close", post(close))
        .route("/pay/v1/payments/{payment_no}/refunds", post(refund))
        .route_layer(from_fn_with_state(Arc::clone(&channel), gate));
    Router::new()
        .merge(pay)
        .merge(cashier::routes())
        .nest("/sim", control::routes())
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "There is nothing at this path."))
        .method_not_allowed_fallback(async || {
            let detail = "This path does not know that method.";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail)
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(channel)
}

/// What the channel takes is decided before it looks at a call, and a call counts until it is answered.
async fn gate(State(channel): Shared, request: Request, next: Next) -> Answer {
    channel.counters.calls.add(1);
    let _place = channel.enter(unix_ms())?;
    Ok(next.run(request).await)
}

async fn ready(State(channel): Shared) -> Answer {
    channel.store.read(|connection| connection.query_row("SELECT 1", [], |_| Ok(()))).await?;
    Ok("ready\n".into_response())
}

async fn figures(State(channel): Shared) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::text(&channel)).into_response()
}

/// Members that are not listed are tolerated, as real channels do.
#[derive(Deserialize)]
struct CreateRequest {
    payment_no: String,
    amount: i64,
    currency: String,
    #[serde(default)]
    subject: String,
    notify_url: String,
    scene: Option<String>,
}

async fn create(State(channel): Shared, headers: HeaderMap, body: Bytes) -> Answer {
    let wanted = wanted(parse(&body)?)?;
    let key = idempotency_key(&headers)?.unwrap_or_else(|| wanted.payment_no.clone());
    channel.think("create", &wanted.payment_no).await;
    let (payment, now) = channel.create(wanted, key, unix_ms()).await?;
    let status = if now { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(&channel, status, now, created(&channel, &payment)))
}

async fn confirm(State(channel): Shared, Path(payment_no): Path<String>) -> Answer {
    channel.think("confirm", &payment_no).await;
    let (payment, now) = channel.confirm(payment_no, unix_ms()).await?;
    Ok(answer(&channel, StatusCode::OK, now, view(&channel, &payment)))
}

async fn query(State(channel): Shared, Path(payment_no): Path<String>) -> Answer {
    channel.think("query", &payment_no).await;
    let payment = channel.find(payment_no).await?;
    Ok(axum::Json(view(&channel, &payment)).into_response())
}

async fn close(State(channel): Shared, Path(payment_no): Path<String>) -> Answer {
    channel.think("close", &payment_no).await;
    let (payment, now) = channel.close(payment_no, unix_ms()).await?;
    Ok(answer(&channel, StatusCode::OK, now, view(&channel, &payment)))
}

#[derive(Deserialize)]
struct RefundRequest {
    refund_no: String,
    amount: i64,
}

async fn refund(State(channel): Shared, Path(payment_no): Path<String>, body: Bytes) -> Answer {
    let RefundRequest { refund_no, amount } = parse(&body)?;
    check_number("refund_no", &refund_no)?;
    check_amount(amount)?;
    channel.think("refund", &payment_no).await;
    let (payment, refund, now) = channel.refund(payment_no, refund_no.clone(), amount, unix_ms()).await?;
    let status = if now { StatusCode::CREATED } else { StatusCode::OK };
    let body = json!({
        "payment_no": payment.wanted.payment_no, "trade_no": payment.trade_no, "refund_no": refund_no,
        "amount": refund.amount, "currency": payment.wanted.currency, "status": Status::Success,
        "refunded": refund.refunded, "created_at": refund.at_ms,
    });
    Ok(answer(&channel, status, now, body))
}

fn answer(channel: &Channel, status: StatusCode, now: bool, body: Value) -> Response {
    let mut response = (status, axum::Json(body)).into_response();
    if !now {
        channel.counters.replayed.add(1);
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// What the caller of `create` was told the first time, whatever has become of the payment since.
fn created(channel: &Channel, payment: &Payment) -> Value {
    let Payment { wanted, trade_no, status, code, created_ms, .. } = payment;
    // A payment that was confirmed when it was created cannot have changed since.
    let (status, code) = if payment.auto { (*status, code.as_deref()) } else { (Status::Pending, None) };
    let mut body = json!({
        "payment_no": wanted.payment_no, "trade_no": trade_no, "status": status,
        "pay_url": channel.pay_url(&wanted.payment_no), "amount": wanted.amount, "currency": wanted.currency,
        "created_at": created_ms,
    });
    if let Some(code) = code {
        body["code"] = code.into();
    }
    body
}

/// The payment as it stands.
pub(super) fn view(channel: &Channel, payment: &Payment) -> Value {
    let Payment { wanted, trade_no, auto: _, status, code, refunded, created_ms, decided_ms } = payment;
    json!({
        "payment_no": wanted.payment_no, "trade_no": trade_no, "status": status, "code": code,
        "pay_url": channel.pay_url(&wanted.payment_no), "amount": wanted.amount, "currency": wanted.currency,
        "refunded": refunded, "created_at": created_ms, "decided_at": decided_ms,
    })
}

fn wanted(request: CreateRequest) -> Result<Wanted, Problem> {
    let CreateRequest { payment_no, amount, currency, subject, notify_url, scene } = request;
    check_number("payment_no", &payment_no)?;
    check_amount(amount)?;
    if currency != CURRENCY {
        return Err(Problem::invalid(format!("currency must be {CURRENCY}")));
    }
    if subject.len() > MAX_SUBJECT {
        return Err(Problem::invalid(format!("subject must be at most {MAX_SUBJECT} bytes")));
    }
    let usable = |url: reqwest::Url| url.scheme() == "http" && url.has_host();
    if notify_url.len() > MAX_URL || !reqwest::Url::parse(&notify_url).is_ok_and(usable) {
        return Err(Problem::invalid(format!("notify_url must be an http:// URL of at most {MAX_URL} bytes")));
    }
    if let Some(scene) = &scene {
        check_number("scene", scene)?;
    }
    Ok(Wanted { payment_no, amount, currency, subject, notify_url, scene })
}

fn check_amount(amount: i64) -> Result<(), Problem> {
    if !(1..=MAX_AMOUNT).contains(&amount) {
        return Err(Problem::invalid(format!("amount must be 1 to {MAX_AMOUNT} fen")));
    }
    Ok(())
}

/// Numbers appear in paths and logs: letters, digits, `-` and `_` only.
fn check_number(member: &str, text: &str) -> Result<(), Problem> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.is_empty() || text.len() > MAX_NUMBER || !text.bytes().all(plain) {
        return Err(Problem::invalid(format!("{member} must be 1 to {MAX_NUMBER} of A-Z, a-z, 0-9, - and _")));
    }
    Ok(())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(key) if (1..=MAX_KEY).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Problem::invalid(format!("Idempotency-Key must be 1 to {MAX_KEY} visible characters"))),
    }
}

/// The body as JSON. What the parser says names members and positions, not values of ours.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))
}
