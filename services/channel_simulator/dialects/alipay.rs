//! Alipay's open platform: one address, the method is a parameter, every answer is a signed node.
//!
//! Unlike there, a payment exists as soon as it was precreated and not only when its code was scanned.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::bill;
use super::super::channel::Channel;
use super::super::course::{Course, Stopped};
use super::super::http::{Came, Shared, check_amount, check_number, check_subject, check_url};
use super::super::outbox::Due;
use super::super::plan::{Request, Step};
use super::super::rows::{Payment, Status, Wanted};
use super::keys::Keys;
use super::notification::now_plain;
use super::{APP_ID, BUYER_ID, SELLER_ID};
use crate::support::Problem;
use crate::support::dialect::params::Params;
use crate::support::dialect::{Dialect, alipay, beijing, money};

/// The node of an answer to a method that is not known.
const ERROR_NODE: &str = "error_response";

/// The address.
pub(in crate::channel_simulator) fn routes() -> Router<Arc<Channel>> {
    Router::new().route("/gateway.do", post(gateway).get(gateway))
}

/// What the methods take; each takes some of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Business {
    out_trade_no: String,
    trade_no: String,
    total_amount: Number,
    subject: String,
    timeout_express: String,
    time_expire: String,
    auth_code: String,
    scene: Option<String>,
    refund_amount: Number,
    out_request_no: String,
    bill_type: String,
    bill_date: String,
}

/// Merchants send amounts as text and as numbers.
#[derive(Debug, Default, Deserialize)]
#[serde(from = "Value")]
struct Number(Option<i64>);

impl From<Value> for Number {
    fn from(value: Value) -> Self {
        Self(match value {
            Value::String(text) => money::fen(&text),
            Value::Number(number) => money::fen(&number.to_string()),
            _ => None,
        })
    }
}

async fn gateway(State(channel): Shared, came: Came, uri: Uri, body: Bytes) -> Response {
    let keys = match channel.keys().await {
        Ok(keys) => keys,
        Err(problem) => return problem.into_response(),
    };
    let mut params = Params::parse(uri.query().unwrap_or("").as_bytes());
    params.extend(Params::parse(&body));
    let method = params.text("method").to_owned();
    let refused = |node: &str, content: &Value| signed(&keys, node, content, false);
    let call = match read(&params, &keys) {
        Ok(call) => call,
        Err(content) => return refused(ERROR_NODE, &content),
    };
    let node = alipay::node(&method);
    let done = match carry_out(&channel, &came, &method, &params, call).await {
        Ok((content, course)) => course.after(signed(&keys, &node, &content, course.forges())).await,
        Err(stopped) => Err(stopped),
    };
    match done {
        Ok(response) => response,
        Err(Stopped::Ending(ending)) => ending.into_response(),
        Err(Stopped::SystemError) => {
            refused(&node, &failure("20000", "Service Currently Unavailable", "aop.ACQ.SYSTEM_ERROR"))
        }
        Err(Stopped::Problem(problem)) if problem.status.is_client_error() && sub_code(&problem).is_some() => {
            refused(&node, &failure("40004", "Business Failed", sub_code(&problem).unwrap_or_default()))
        }
        Err(Stopped::Problem(problem)) => problem.into_response(),
    }
}

/// Who calls and what for; else the content of the answer that says why not.
fn read(params: &Params, keys: &Keys) -> Result<Business, Value> {
    let invalid = |sub_code: &str| failure("40002", "Invalid Arguments", sub_code);
    if params.get("app_id") != Some(APP_ID) {
        return Err(invalid("isv.invalid-app-id"));
    }
    if !params.text("charset").eq_ignore_ascii_case("utf-8") {
        return Err(invalid("isv.invalid-charset"));
    }
    if params.get("sign_type") != Some(alipay::SIGN_TYPE) {
        return Err(invalid("isv.invalid-signature-type"));
    }
    alipay::verify_call(params, &keys.merchant).map_err(|_| invalid("isv.invalid-signature"))?;
    if beijing::parse(params.text("timestamp")).is_none() {
        return Err(invalid("isv.invalid-timestamp"));
    }
    serde_json::from_str(params.get("biz_content").unwrap_or("{}")).map_err(|_| invalid("isv.invalid-parameter"))
}

async fn carry_out(
    channel: &Channel,
    came: &Came,
    method: &str,
    params: &Params,
    call: Business,
) -> Result<(Value, Course), Stopped> {
    if method == bill::ALIPAY_METHOD {
        return Ok((bill::alipay(channel, &call.bill_type, &call.bill_date).await?, Course::default()));
    }
    let step = match method {
        "alipay.trade.precreate" | "alipay.trade.pay" => Step::Create,
        "alipay.trade.query" | "alipay.trade.fastpay.refund.query" => Step::Query,
        "alipay.trade.close" | "alipay.trade.cancel" => Step::Close,
        "alipay.trade.refund" => Step::Refund,
        _ => return Ok((failure("40002", "Invalid Arguments", "isv.invalid-method"), Course::default())),
    };
    let number = match step {
        Step::Create => call.out_trade_no.clone(),
        _ => channel.number_of(&call.out_trade_no, &call.trade_no).await?,
    };
    let pays = method == "alipay.trade.pay";
    let charges = step == Step::Create && (pays || channel.is_auto(None));
    let asked = Request { step, payment_no: &number, scene: call.scene.as_deref(), charges, http2: came.http2 };
    let course = channel.course(&asked, came.seen.clone()).await?;
    let content = match method {
        "alipay.trade.precreate" | "alipay.trade.pay" => create(channel, params, &call, charges, pays, &course).await?,
        "alipay.trade.query" => queried(&channel.find(number).await?, &course),
        "alipay.trade.close" => {
            let (payment, _) = channel.close(number).await?;
            success(json!({ "out_trade_no": payment.wanted.payment_no, "trade_no": payment.trade_no }))
        }
        "alipay.trade.cancel" => cancel(channel, number, &course).await?,
        "alipay.trade.refund" => refund(channel, number, &call, &course).await?,
        _ => refund_query(channel, number, &call).await?,
    };
    Ok((content, course))
}

async fn create(
    channel: &Channel,
    params: &Params,
    call: &Business,
    charges: bool,
    pays: bool,
    course: &Course,
) -> Result<Value, Stopped> {
    if pays && call.auth_code.is_empty() {
        return Err(Problem::invalid("auth_code is missing").into());
    }
    let wanted = wanted(channel, params, call)?;
    let key = wanted.payment_no.clone();
    let (payment, _) = channel.create(wanted, key, charges, course).await?;
    let number = &payment.wanted.payment_no;
    if !pays {
        let refusal = match payment.status {
            Status::Success if !charges => Some("ACQ.TRADE_HAS_SUCCESS"),
            Status::Closed | Status::Declined => Some("ACQ.TRADE_HAS_CLOSE"),
            Status::Success | Status::Pending => None,
        };
        let made = || success(json!({ "out_trade_no": number, "qr_code": channel.pay_url(number) }));
        return Ok(refusal.map_or_else(made, |sub_code| failure("40004", "Business Failed", sub_code)));
    }
    let amount = money::yuan(course.amount(payment.wanted.amount));
    let mut content = json!({
        "out_trade_no": number, "trade_no": payment.trade_no, "total_amount": amount, "receipt_amount": amount,
        "buyer_pay_amount": amount, "buyer_user_id": BUYER_ID,
    });
    Ok(match payment.status {
        Status::Success => {
            content["gmt_payment"] = beijing::plain(payment.decided_ms.unwrap_or(0)).into();
            success(content)
        }
        Status::Pending => with_code(content, "10003", "order success pay inprocess"),
        Status::Closed => failure("40004", "Business Failed", "ACQ.TRADE_HAS_CLOSE"),
        Status::Declined => failure("40004", "Business Failed", &declined(&payment)),
    })
}

fn wanted(channel: &Channel, params: &Params, call: &Business) -> Result<Wanted, Problem> {
    check_number("out_trade_no", &call.out_trade_no)?;
    let amount = call.total_amount.0.ok_or_else(|| Problem::invalid("total_amount must be yuan, as in 49.00"))?;
    check_amount(amount)?;
    check_subject(&call.subject)?;
    let notify_url = params.text("notify_url").to_owned();
    if !notify_url.is_empty() {
        check_url("notify_url", &notify_url)?;
    }
    let expires_ms = match (call.time_expire.as_str(), call.timeout_express.as_str()) {
        ("", "") => None,
        ("", after) => {
            let after = minutes(after).ok_or_else(|| Problem::invalid("timeout_express must be as in 90m"))?;
            Some(channel.now().clock_ms + after * 60_000)
        }
        (at, _) => Some(beijing::parse(at).ok_or_else(|| Problem::invalid("time_expire must be a time"))?),
    };
    Ok(Wanted {
        payment_no: call.out_trade_no.clone(),
        amount,
        currency: "CNY".to_owned(),
        subject: call.subject.clone(),
        notify_url,
        scene: None,
        expires_ms,
        dialect: Dialect::Alipay,
        extra: String::new(),
    })
}

/// `90m`, `2h`, `1d` in minutes; `1c`, the end of the day, counts as a day.
fn minutes(text: &str) -> Option<i64> {
    let unit = match text.bytes().last()? {
        b'm' => 1,
        b'h' => 60,
        b'd' | b'c' => 24 * 60,
        _ => return None,
    };
    let number: i64 = text[..text.len() - 1].parse().ok()?;
    Some(number * unit).filter(|minutes| (1..=15 * 24 * 60).contains(minutes))
}

fn queried(payment: &Payment, course: &Course) -> Value {
    let amount = money::yuan(course.amount(payment.wanted.amount));
    let mut content = json!({
        "out_trade_no": payment.wanted.payment_no, "trade_no": payment.trade_no, "trade_status": trade_status(payment),
        "total_amount": amount, "buyer_user_id": BUYER_ID,
    });
    if payment.status == Status::Success {
        content["send_pay_date"] = beijing::plain(payment.decided_ms.unwrap_or(0)).into();
    }
    success(content)
}

/// A payment that was declined, or paid back in full, is closed to Alipay.
fn trade_status(payment: &Payment) -> &'static str {
    match payment.status {
        Status::Pending => "WAIT_BUYER_PAY",
        Status::Success if payment.refunded < payment.wanted.amount => "TRADE_SUCCESS",
        Status::Success | Status::Declined | Status::Closed => "TRADE_CLOSED",
    }
}

/// Closes what is not paid and pays back what is: for those who do not know.
async fn cancel(channel: &Channel, number: String, course: &Course) -> Result<Value, Stopped> {
    let content = |payment: &Payment, action: &str| {
        success(json!({
            "out_trade_no": payment.wanted.payment_no, "trade_no": payment.trade_no, "retry_flag": "N",
            "action": action,
        }))
    };
    match channel.close(number.clone()).await {
        Ok((payment, _)) => Ok(content(&payment, "close")),
        Err(problem) if problem.code == "ALREADY_PAID" => {
            let left = channel.find(number.clone()).await?;
            let rest = left.wanted.amount - left.refunded;
            if rest > 0 {
                channel.refund(number.clone(), format!("cancel-{number}"), rest, course).await?;
            }
            Ok(content(&left, "refund"))
        }
        Err(problem) if problem.code == "PAYMENT_PROCESSING" => {
            Ok(success(json!({ "out_trade_no": number, "retry_flag": "Y" })))
        }
        // Nothing to cancel is no failure, and no action either.
        Err(problem) if problem.code == "PAYMENT_NOT_FOUND" => {
            Ok(success(json!({ "out_trade_no": number, "retry_flag": "N" })))
        }
        Err(problem) => Err(problem.into()),
    }
}

async fn refund(channel: &Channel, number: String, call: &Business, course: &Course) -> Result<Value, Stopped> {
    let amount = call.refund_amount.0.ok_or_else(|| Problem::invalid("refund_amount must be yuan, as in 49.00"))?;
    check_amount(amount)?;
    let refund_no = if call.out_request_no.is_empty() { number.clone() } else { call.out_request_no.clone() };
    check_number("out_request_no", &refund_no)?;
    let (payment, refund, now) = channel.refund(number, refund_no, amount, course).await?;
    Ok(success(json!({
        "out_trade_no": payment.wanted.payment_no, "trade_no": payment.trade_no, "buyer_user_id": BUYER_ID,
        "fund_change": if now { "Y" } else { "N" }, "refund_fee": money::yuan(course.amount(refund.refunded)),
        "gmt_refund_pay": beijing::plain(refund.at_ms),
    })))
}

/// No refund with this number is an answer without a status, not a failure.
async fn refund_query(channel: &Channel, number: String, call: &Business) -> Result<Value, Stopped> {
    let payment = channel.find(number.clone()).await?;
    let refund_no = if call.out_request_no.is_empty() { number } else { call.out_request_no.clone() };
    let mut content = json!({
        "out_trade_no": payment.wanted.payment_no, "trade_no": payment.trade_no, "out_request_no": refund_no,
        "total_amount": money::yuan(payment.wanted.amount),
    });
    if let Some(refund) = channel.find_refund(payment.wanted.payment_no, refund_no).await? {
        content["refund_status"] = "REFUND_SUCCESS".into();
        content["refund_amount"] = money::yuan(refund.amount).into();
        content["gmt_refund_pay"] = beijing::plain(refund.at_ms).into();
    }
    Ok(success(content))
}

pub(in crate::channel_simulator) fn success(content: Value) -> Value {
    with_code(content, "10000", "Success")
}

fn with_code(mut content: Value, code: &str, msg: &str) -> Value {
    content["code"] = code.into();
    content["msg"] = msg.into();
    content
}

pub(in crate::channel_simulator) fn failure(code: &str, msg: &str, sub_code: &str) -> Value {
    with_code(json!({ "sub_code": sub_code, "sub_msg": sub_code }), code, msg)
}

fn declined(payment: &Payment) -> String {
    match payment.code.as_deref().unwrap_or_default() {
        "INSUFFICIENT_FUNDS" => "ACQ.BUYER_BALANCE_NOT_ENOUGH".to_owned(),
        other => format!("ACQ.{other}"),
    }
}

/// Alipay's name of a refusal that is about the payment; absent when it is about the call as such.
fn sub_code(problem: &Problem) -> Option<&'static str> {
    Some(match problem.code {
        "INVALID_REQUEST" => "ACQ.INVALID_PARAMETER",
        "PAYMENT_NOT_FOUND" => "ACQ.TRADE_NOT_EXIST",
        "PAYMENT_CONFLICT" => "ACQ.CONTEXT_INCONSISTENT",
        "ALREADY_PAID" | "PAYMENT_PROCESSING" | "NOT_PAID" => "ACQ.TRADE_STATUS_ERROR",
        "PAYMENT_CLOSED" => "ACQ.TRADE_HAS_CLOSE",
        "REFUND_CONFLICT" => "ACQ.DISCORDANT_REPEAT_REQUEST",
        "REFUND_TOO_MUCH" => "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL",
        _ => return None,
    })
}

fn signed(keys: &Keys, node: &str, content: &Value, forged: bool) -> Response {
    let content = content.to_string();
    let sign = keys.platform.sign(if forged { b"something else" } else { content.as_bytes() });
    let body = alipay::answer(node, &content, &sign);
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json;charset=utf-8")], body).into_response()
}

/// What the shop is told about a payment.
pub(super) fn notification(due: &Due, keys: &Keys, probe: bool) -> Params {
    let payment = &due.payment;
    let amount = money::yuan(payment.wanted.amount);
    let paid_at = beijing::plain(payment.decided_ms.unwrap_or(0));
    let mut params: Params = [
        ("notify_id", due.notify_id.clone()),
        ("notify_type", "trade_status_sync".to_owned()),
        ("notify_time", now_plain()),
        ("charset", "utf-8".to_owned()),
        ("version", "1.0".to_owned()),
        ("app_id", APP_ID.to_owned()),
        ("seller_id", SELLER_ID.to_owned()),
        ("buyer_id", BUYER_ID.to_owned()),
        ("out_trade_no", payment.wanted.payment_no.clone()),
        ("trade_no", payment.trade_no.clone()),
        ("trade_status", "TRADE_SUCCESS".to_owned()),
        ("subject", payment.wanted.subject.clone()),
        ("total_amount", amount.clone()),
        ("receipt_amount", amount.clone()),
        ("buyer_pay_amount", amount),
        ("gmt_create", beijing::plain(payment.created_ms)),
        ("gmt_payment", paid_at),
    ]
    .into_iter()
    .collect();
    alipay::sign_notification(&mut params, &keys.platform);
    if probe {
        params.set("sign", keys.platform.sign(b"something else"));
    }
    params
}
