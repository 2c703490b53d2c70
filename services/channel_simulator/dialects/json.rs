//! The plain dialect for shops and their buyers: create, confirm, query, close, refund, in JSON.
//!
//! Answers carry the same signature as callbacks.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::channel::Channel;
use super::super::course::{Course, Stopped};
use super::super::http::{Came, Shared, check_amount, check_currency, check_number, check_subject, check_url, parse};
use super::super::outbox::Due;
use super::super::plan::{Request, Step};
use super::super::rows::{Payment, Status, Wanted};
use super::super::wire::Ending;
use crate::support::dialect::Dialect;
use crate::support::{Problem, signature, unix_ms};

/// Longest idempotency key in bytes.
const MAX_KEY: usize = 255;

/// Says that an answer is that of an earlier call.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

type Answer = Result<Response, Stopped>;

impl IntoResponse for Stopped {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Ending(ending) => ending.into_response(),
            // As real channels do: the call worked, only its outcome is not known.
            Self::SystemError => axum::Json(json!({ "status": "SYSTEM_ERROR" })).into_response(),
        }
    }
}

/// Routes of this dialect.
pub(in crate::channel_simulator) fn routes() -> Router<Arc<Channel>> {
    Router::new()
        .route("/pay/v1/payments", post(create))
        .route("/pay/v1/payments/{payment_no}", get(query))
        .route("/pay/v1/payments/{payment_no}/confirm", post(confirm))
        .route("/pay/v1/payments/{payment_no}/close", post(close))
        .route("/pay/v1/payments/{payment_no}/refunds", post(refund))
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
    /// Charge at once, without a buyer.
    #[serde(default)]
    capture: bool,
    /// The other way to say it: `direct`.
    method: Option<String>,
    /// Milliseconds since 1970 after which the payment is closed.
    expires_at: Option<i64>,
}

async fn create(State(channel): Shared, came: Came, headers: HeaderMap, body: Bytes) -> Answer {
    let request: CreateRequest = parse(&body)?;
    let direct = request.capture || request.method.as_deref() == Some("direct");
    let wanted = wanted(request)?;
    let key = idempotency_key(&headers)?.unwrap_or_else(|| wanted.payment_no.clone());
    let charges = direct || channel.is_auto(wanted.scene.as_deref());
    let asked = Request {
        step: Step::Create,
        payment_no: &wanted.payment_no,
        scene: wanted.scene.as_deref(),
        charges,
        http2: came.http2,
    };
    let course = channel.course(&asked, came.seen).await?;
    let (payment, now) = channel.create(wanted, key, charges, &course).await?;
    let status = if now { StatusCode::CREATED } else { StatusCode::OK };
    answer(&channel, &course, status, now, &created(&channel, &course, &payment)).await
}

async fn confirm(State(channel): Shared, came: Came, Path(payment_no): Path<String>) -> Answer {
    let course = channel.course(&asked(Step::Confirm, &payment_no, &came), came.seen.clone()).await?;
    let (payment, now) = channel.confirm(payment_no, &course).await?;
    answer(&channel, &course, StatusCode::OK, now, &view(&channel, &course, &payment)).await
}

async fn query(State(channel): Shared, came: Came, Path(payment_no): Path<String>) -> Answer {
    let course = channel.course(&asked(Step::Query, &payment_no, &came), came.seen.clone()).await?;
    let payment = channel.find(payment_no).await?;
    answer(&channel, &course, StatusCode::OK, true, &view(&channel, &course, &payment)).await
}

async fn close(State(channel): Shared, came: Came, Path(payment_no): Path<String>) -> Answer {
    let course = channel.course(&asked(Step::Close, &payment_no, &came), came.seen.clone()).await?;
    let (payment, now) = channel.close(payment_no).await?;
    answer(&channel, &course, StatusCode::OK, now, &view(&channel, &course, &payment)).await
}

#[derive(Deserialize)]
struct RefundRequest {
    refund_no: String,
    amount: i64,
}

async fn refund(State(channel): Shared, came: Came, Path(payment_no): Path<String>, body: Bytes) -> Answer {
    let RefundRequest { refund_no, amount } = parse(&body)?;
    check_number("refund_no", &refund_no)?;
    check_amount(amount)?;
    let course = channel.course(&asked(Step::Refund, &payment_no, &came), came.seen.clone()).await?;
    let (payment, refund, now) = channel.refund(payment_no, refund_no.clone(), amount, &course).await?;
    let status = if now { StatusCode::CREATED } else { StatusCode::OK };
    let body = json!({
        "payment_no": payment.wanted.payment_no, "trade_no": payment.trade_no, "refund_no": refund_no,
        "amount": course.amount(refund.amount), "currency": payment.wanted.currency, "status": Status::Success,
        "refunded": refund.refunded, "created_at": refund.at_ms,
    });
    answer(&channel, &course, status, now, &body).await
}

fn asked<'a>(step: Step, payment_no: &'a str, came: &Came) -> Request<'a> {
    Request { step, payment_no, scene: None, charges: step == Step::Confirm, http2: came.http2 }
}

/// Signs what was not signed where it was made: refusals speak for the channel, too.
pub(in crate::channel_simulator) async fn sign(
    State(channel): Shared,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let made = response.extensions().get::<Ending>().is_some() || response.headers().contains_key(signature::HEADER);
    if made {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    // It is whole and in memory, so this neither fails nor waits.
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.insert(signature::HEADER, signature_of(channel.secret.bytes(), &body));
    Response::from_parts(parts, body.into())
}

fn signature_of(secret: &[u8], body: &[u8]) -> HeaderValue {
    let seconds = u64::try_from(unix_ms() / 1_000).unwrap_or(0);
    let value = HeaderValue::from_str(&signature::sign(secret, seconds, body));
    value.expect("invariant: digits, letters and two signs")
}

async fn answer(channel: &Channel, course: &Course, status: StatusCode, now: bool, body: &Value) -> Answer {
    let body = body.to_string();
    let secret = if course.forges() { b"another secret" } else { channel.secret.bytes() };
    let signature = signature_of(secret, body.as_bytes());
    let kind = HeaderValue::from_static("application/json");
    let headers = [(header::CONTENT_TYPE, kind), (signature::HEADER, signature)];
    let mut response = (status, headers, body).into_response();
    if !now {
        channel.counters.replayed.add(1);
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    course.after(response).await
}

/// What the caller of `create` was told the first time, whatever has become of the payment since.
fn created(channel: &Channel, course: &Course, payment: &Payment) -> Value {
    let Payment { wanted, trade_no, code, created_ms, .. } = payment;
    // One that was confirmed when it was created has not changed since, but for one that was being processed.
    let (status, code) = if payment.auto { (payment.shown(), code.as_deref()) } else { ("PENDING", None) };
    let mut body = json!({
        "payment_no": wanted.payment_no, "trade_no": trade_no, "status": status,
        "pay_url": channel.pay_url(&wanted.payment_no), "amount": course.amount(wanted.amount), "currency": wanted.currency,
        "created_at": created_ms,
    });
    if let Some(code) = code {
        body["code"] = code.into();
    }
    body
}

/// The payment as it stands.
pub(in crate::channel_simulator) fn view(channel: &Channel, course: &Course, payment: &Payment) -> Value {
    let Payment { wanted, trade_no, code, refunded, created_ms, decided_ms, .. } = payment;
    let status = payment.shown();
    json!({
        "payment_no": wanted.payment_no, "trade_no": trade_no, "status": status, "code": code,
        "pay_url": channel.pay_url(&wanted.payment_no), "amount": course.amount(wanted.amount), "currency": wanted.currency,
        "refunded": refunded, "created_at": created_ms, "decided_at": decided_ms,
    })
}

fn wanted(request: CreateRequest) -> Result<Wanted, Problem> {
    let CreateRequest { payment_no, amount, currency, subject, notify_url, scene, method, expires_at, .. } = request;
    if method.is_some_and(|method| method != "direct" && method != "wallet") {
        return Err(Problem::invalid("method must be direct or wallet"));
    }
    check_number("payment_no", &payment_no)?;
    check_amount(amount)?;
    check_currency(&currency)?;
    check_subject(&subject)?;
    check_url("notify_url", &notify_url)?;
    if let Some(scene) = &scene {
        check_number("scene", scene)?;
    }
    Ok(Wanted {
        payment_no,
        amount,
        currency,
        subject,
        notify_url,
        scene,
        expires_ms: expires_at,
        dialect: Dialect::Json,
        extra: String::new(),
    })
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

/// What the shop is told about a payment.
pub(super) fn notification(due: &Due) -> Value {
    let Payment { wanted, trade_no, status, code, .. } = &due.payment;
    let mut body = json!({
        "notify_id": due.notify_id, "payment_no": wanted.payment_no, "trade_no": trade_no, "amount": wanted.amount,
        "currency": wanted.currency, "status": status,
    });
    if let Some(code) = code {
        body["code"] = code.as_str().into();
    }
    body
}
