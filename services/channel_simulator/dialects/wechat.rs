//! WeChat Pay, version 3: paths and JSON, calls and answers signed in their headers.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use rand::Rng;
use rand::distr::Alphanumeric;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::bill;
use super::super::channel::Channel;
use super::super::course::{Course, Stopped};
use super::super::http::{Came, Shared, check_amount, check_currency, check_number, check_subject, check_url, parse};
use super::super::outbox::Due;
use super::super::plan::{Request, Step};
use super::super::rows::{Payment, Status, Wanted};
use super::keys::Keys;
use super::{APPID, MCHID, OPENID};
use crate::support::dialect::wechat::{self, Authorization};
use crate::support::dialect::{Dialect, Forged, beijing};
use crate::support::{Problem, unix_ms};

/// Paths of this dialect.
pub(in crate::channel_simulator) fn routes() -> Router<Arc<Channel>> {
    Router::new().route("/v3/{*rest}", any(call))
}

/// What a call came to: status and body, and its course.
type Done = Result<(StatusCode, Value, Course), Stopped>;

async fn call(
    State(channel): Shared,
    came: Came,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let keys = match channel.keys().await {
        Ok(keys) => keys,
        Err(problem) => return problem.into_response(),
    };
    if let Err(forged) = authorized(&keys, &method, &uri, &headers, &body) {
        return failure(&keys, StatusCode::UNAUTHORIZED, "SIGN_ERROR", &forged.to_string());
    }
    let segments: Vec<&str> = uri.path().trim_start_matches("/v3/").split('/').collect();
    let done = match (method.as_str(), segments.as_slice()) {
        ("POST", ["pay", "transactions", kind @ ("native" | "jsapi" | "h5")]) => {
            create(&channel, &came, kind, &body).await
        }
        ("GET", ["pay", "transactions", "out-trade-no", number]) => query(&channel, &came, number, "").await,
        ("GET", ["pay", "transactions", "id", trade_no]) => query(&channel, &came, "", trade_no).await,
        ("POST", ["pay", "transactions", "out-trade-no", number, "close"]) => close(&channel, &came, number).await,
        ("POST", ["refund", "domestic", "refunds"]) => refund(&channel, &came, &body).await,
        ("GET", ["bill", "tradebill"]) => {
            let bill = bill::wechat(&channel, uri.query().unwrap_or("")).await;
            bill.map(|content| (StatusCode::OK, content, Course::default())).map_err(Stopped::from)
        }
        ("GET", ["certificates"]) => Ok((StatusCode::OK, certificates(&channel, &keys), Course::default())),
        _ => Err(Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", "There is nothing at this path.").into()),
    };
    let done = match done {
        Ok((status, content, course)) => course.after(answer(&keys, status, &content, course.forges())).await,
        Err(stopped) => Err(stopped),
    };
    match done {
        Ok(response) => response,
        Err(Stopped::Ending(ending)) => ending.into_response(),
        Err(Stopped::SystemError) => {
            failure(&keys, StatusCode::INTERNAL_SERVER_ERROR, "SYSTEM_ERROR", "系统异常，请稍后重试")
        }
        Err(Stopped::Problem(problem)) => {
            let (status, code) = named(&problem);
            failure(&keys, status, code, &problem.detail)
        }
    }
}

pub(in crate::channel_simulator) fn authorized(
    keys: &Keys,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), Forged> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or(Forged::Malformed)?;
    let authorization = Authorization::parse(header)?;
    if authorization.mchid != MCHID || authorization.serial_no != keys.merchant.serial() {
        return Err(Forged::UnknownKey);
    }
    let body = std::str::from_utf8(body).map_err(|_| Forged::Malformed)?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let now = u64::try_from(unix_ms() / 1_000).unwrap_or(0);
    authorization.verify(method.as_str(), target, body, &keys.merchant, now)
}

#[derive(Deserialize)]
struct Amount {
    #[serde(default)]
    total: i64,
    #[serde(default)]
    refund: i64,
    currency: Option<String>,
}

#[derive(Deserialize)]
struct Payer {
    openid: String,
}

#[derive(Deserialize)]
struct CreateRequest {
    appid: String,
    mchid: String,
    description: String,
    out_trade_no: String,
    notify_url: String,
    amount: Amount,
    time_expire: Option<String>,
    attach: Option<String>,
    payer: Option<Payer>,
    scene_info: Option<Value>,
}

async fn create(channel: &Channel, came: &Came, kind: &str, body: &[u8]) -> Done {
    let wanted = wanted(kind, parse(body)?)?;
    let charges = channel.is_auto(None);
    let number = wanted.payment_no.clone();
    let asked = Request { step: Step::Create, payment_no: &number, scene: Some(kind), charges, http2: came.http2 };
    let course = channel.course(&asked, came.seen.clone()).await?;
    let (payment, now) = channel.create(wanted, number.clone(), charges, &course).await?;
    let refusal = match payment.status {
        Status::Success if !now => Some(("ORDERPAID", "该订单已支付")),
        Status::Closed | Status::Declined if !now => Some(("ORDER_CLOSED", "订单已关闭")),
        _ => None,
    };
    if let Some((code, message)) = refusal {
        return Ok((StatusCode::BAD_REQUEST, json!({ "code": code, "message": message }), course));
    }
    let url = channel.pay_url(&number);
    let content = match kind {
        "native" => json!({ "code_url": url }),
        "h5" => json!({ "h5_url": url }),
        _ => json!({ "prepay_id": format!("wx{}", payment.trade_no) }),
    };
    Ok((StatusCode::OK, content, course))
}

fn wanted(kind: &str, request: CreateRequest) -> Result<Wanted, Problem> {
    let CreateRequest { appid, mchid, description, out_trade_no, notify_url, amount, .. } = request;
    if appid != APPID || mchid != MCHID {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "APPID_MCHID_NOT_MATCH", "appid和mch_id不匹配"));
    }
    check_number("out_trade_no", &out_trade_no)?;
    check_subject(&description)?;
    check_url("notify_url", &notify_url)?;
    check_amount(amount.total)?;
    let currency = amount.currency.unwrap_or_else(|| "CNY".to_owned());
    check_currency(&currency)?;
    let needs = [("jsapi", "payer", request.payer.is_some()), ("h5", "scene_info", request.scene_info.is_some())];
    if let Some((_, member, _)) = needs.into_iter().find(|(of, _, given)| *of == kind && !given) {
        return Err(Problem::invalid(format!("{member} is missing")));
    }
    let expires = request.time_expire.map(|at| {
        beijing::parse(&at)
            .ok_or_else(|| Problem::invalid("time_expire must be a time as in 2025-01-31T23:59:59+08:00"))
    });
    let openid = request.payer.map_or_else(|| OPENID.to_owned(), |payer| payer.openid);
    let extra = json!({ "trade_type": kind.to_uppercase(), "openid": openid, "attach": request.attach });
    Ok(Wanted {
        payment_no: out_trade_no,
        amount: amount.total,
        currency,
        subject: description,
        notify_url,
        scene: None,
        expires_ms: expires.transpose()?,
        dialect: Dialect::Wechat,
        extra: extra.to_string(),
    })
}

async fn query(channel: &Channel, came: &Came, number: &str, trade_no: &str) -> Done {
    let number = channel.number_of(number, trade_no).await?;
    let asked = Request { charges: false, ..step(Step::Query, &number, came) };
    let course = channel.course(&asked, came.seen.clone()).await?;
    let payment = channel.find(number.clone()).await?;
    Ok((StatusCode::OK, transaction(&payment, course.amount(payment.wanted.amount)), course))
}

async fn close(channel: &Channel, came: &Came, number: &str) -> Done {
    let course = channel.course(&step(Step::Close, number, came), came.seen.clone()).await?;
    channel.close(number.to_owned()).await?;
    Ok((StatusCode::NO_CONTENT, Value::Null, course))
}

#[derive(Deserialize)]
struct RefundRequest {
    #[serde(default)]
    out_trade_no: String,
    #[serde(default)]
    transaction_id: String,
    out_refund_no: String,
    amount: Amount,
}

async fn refund(channel: &Channel, came: &Came, body: &[u8]) -> Done {
    let RefundRequest { out_trade_no, transaction_id, out_refund_no, amount } = parse(body)?;
    check_number("out_refund_no", &out_refund_no)?;
    check_amount(amount.refund)?;
    let number = channel.number_of(&out_trade_no, &transaction_id).await?;
    let course = channel.course(&step(Step::Refund, &number, came), came.seen.clone()).await?;
    let paid = channel.find(number.clone()).await?;
    if paid.wanted.amount != amount.total {
        return Err(Problem::invalid("amount.total is not that of the payment").into());
    }
    let (payment, refund, _) = channel.refund(number.clone(), out_refund_no.clone(), amount.refund, &course).await?;
    let at = beijing::rfc3339(refund.at_ms);
    let content = json!({
        "refund_id": format!("5{}", payment.trade_no), "out_refund_no": out_refund_no,
        "transaction_id": payment.trade_no, "out_trade_no": number, "channel": "ORIGINAL",
        "user_received_account": "支付用户零钱", "create_time": at, "success_time": at, "status": "SUCCESS",
        "amount": {
            "total": payment.wanted.amount, "refund": course.amount(refund.amount), "currency": "CNY",
            "payer_total": payment.wanted.amount, "payer_refund": refund.amount,
        },
    });
    Ok((StatusCode::OK, content, course))
}

fn step<'a>(step: Step, payment_no: &'a str, came: &Came) -> Request<'a> {
    Request { step, payment_no, scene: None, charges: false, http2: came.http2 }
}

/// The payment as it stands, as in the answer to a query and inside a notification.
fn transaction(payment: &Payment, amount: i64) -> Value {
    let extra: Value = serde_json::from_str(&payment.wanted.extra).unwrap_or_default();
    let (state, words) = match payment.status {
        Status::Pending if payment.due.is_some() => ("USERPAYING", "用户支付中"),
        Status::Pending => ("NOTPAY", "订单未支付"),
        Status::Success if payment.refunded > 0 => ("REFUND", "订单发生过退款"),
        Status::Success => ("SUCCESS", "支付成功"),
        Status::Declined => ("PAYERROR", "支付失败"),
        Status::Closed => ("CLOSED", "订单已关闭"),
    };
    let mut content = json!({
        "appid": APPID, "mchid": MCHID, "out_trade_no": payment.wanted.payment_no, "trade_state": state,
        "trade_state_desc": words, "attach": extra["attach"].as_str().unwrap_or(""),
        "amount": { "total": amount, "payer_total": amount, "currency": "CNY", "payer_currency": "CNY" },
    });
    if payment.status == Status::Success {
        content["transaction_id"] = payment.trade_no.clone().into();
        content["trade_type"] = extra["trade_type"].clone();
        content["bank_type"] = "OTHERS".into();
        content["success_time"] = beijing::rfc3339(payment.decided_ms.unwrap_or(0)).into();
        content["payer"] = json!({ "openid": extra["openid"] });
    }
    content
}

fn certificates(channel: &Channel, keys: &Keys) -> Value {
    json!({ "data": [{
        "serial_no": keys.platform.public().serial(), "effective_time": "2020-01-01T08:00:00+08:00",
        "expire_time": "2049-12-31T08:00:00+08:00",
        "encrypt_certificate": sealed(channel, "certificate", &keys.certificate),
    }] })
}

fn sealed(channel: &Channel, associated: &str, plain: &str) -> Value {
    let nonce = random(wechat::NONCE_BYTES);
    let bytes: [u8; wechat::NONCE_BYTES] = nonce.as_bytes().try_into().expect("invariant: a letter is a byte");
    json!({
        "algorithm": "AEAD_AES_256_GCM", "nonce": nonce, "associated_data": associated,
        "ciphertext": wechat::seal(&channel.api_v3_key, &bytes, associated, plain),
    })
}

fn random(length: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(length).map(char::from).collect()
}

/// What the shop is told about a payment.
pub(super) fn notification(channel: &Channel, due: &Due) -> String {
    let payment = &due.payment;
    let told = transaction(payment, payment.wanted.amount).to_string();
    let mut resource = sealed(channel, "transaction", &told);
    resource["original_type"] = "transaction".into();
    json!({
        "id": due.notify_id, "create_time": beijing::rfc3339(payment.decided_ms.unwrap_or(0)),
        "resource_type": "encrypt-resource", "event_type": "TRANSACTION.SUCCESS", "summary": "支付成功",
        "resource": resource,
    })
    .to_string()
}

/// The headers that sign a body; a forged signature looks like the probes that WeChat Pay sends.
pub(super) fn signed(keys: &Keys, body: &str, forged: bool) -> Vec<(HeaderName, String)> {
    let (timestamp, nonce) = ((unix_ms() / 1_000).to_string(), random(32));
    let mut signature = keys.platform.sign(wechat::answer_text(&timestamp, &nonce, body).as_bytes());
    if forged {
        signature.insert_str(0, wechat::SIGNTEST);
    }
    [
        ("wechatpay-timestamp", timestamp),
        ("wechatpay-nonce", nonce),
        ("wechatpay-signature", signature),
        ("wechatpay-serial", keys.platform.public().serial()),
    ]
    .map(|(name, value)| (HeaderName::from_static(name), value))
    .into()
}

fn answer(keys: &Keys, status: StatusCode, content: &Value, forged: bool) -> Response {
    let body = if content.is_null() { String::new() } else { content.to_string() };
    let headers = signed(keys, &body, forged);
    let mut response = (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body).into_response();
    for (name, value) in headers {
        response.headers_mut().extend(value.parse().ok().map(|value| (name, value)));
    }
    response
}

fn failure(keys: &Keys, status: StatusCode, code: &str, message: &str) -> Response {
    answer(keys, status, &json!({ "code": code, "message": message }), false)
}

/// WeChat Pay's status and name of a refusal.
fn named(problem: &Problem) -> (StatusCode, &'static str) {
    match problem.code {
        "INVALID_REQUEST" => (StatusCode::BAD_REQUEST, "PARAM_ERROR"),
        "PAYMENT_NOT_FOUND" => (StatusCode::NOT_FOUND, "ORDER_NOT_EXIST"),
        "PAYMENT_CONFLICT" => (StatusCode::FORBIDDEN, "OUT_TRADE_NO_USED"),
        "ALREADY_PAID" => (StatusCode::BAD_REQUEST, "ORDERPAID"),
        "PAYMENT_PROCESSING" => (StatusCode::ACCEPTED, "USERPAYING"),
        "PAYMENT_CLOSED" => (StatusCode::BAD_REQUEST, "ORDER_CLOSED"),
        "NOT_PAID" | "REFUND_CONFLICT" | "REFUND_TOO_MUCH" => (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
        "CHANNEL_THROTTLED" => (problem.status, "FREQUENCY_LIMITED"),
        other => (problem.status, other),
    }
}
