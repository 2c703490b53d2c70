//! 易支付 (Epay), which aggregators for small shops speak: a form, an MD5, a page.
//!
//! A refund has no number of its own there; here a payment can be refunded once, in full or in part.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::super::channel::Channel;
use super::super::course::{Course, Stopped};
use super::super::http::{Came, Shared, check_amount, check_number, check_subject, check_url};
use super::super::outbox::Due;
use super::super::plan::{Request, Step};
use super::super::rows::{Payment, Status, Wanted};
use super::PID;
use crate::support::Problem;
use crate::support::dialect::params::Params;
use crate::support::dialect::{Dialect, beijing, epay, money};

/// Most orders in one answer.
const MAX_ORDERS: u32 = 50;

/// Ways to pay.
const TYPES: [&str; 4] = ["alipay", "wxpay", "qqpay", "bank"];

/// Paths of this dialect.
pub(in crate::channel_simulator) fn routes() -> Router<Arc<Channel>> {
    Router::new()
        .route("/submit.php", get(submit).post(submit))
        .route("/mapi.php", get(mapi).post(mapi))
        .route("/api.php", get(api).post(api))
}

/// What a call came to, and its course.
type Done = Result<(Value, Course), Stopped>;

fn params(uri: &Uri, body: &[u8]) -> Params {
    let mut params = Params::parse(uri.query().unwrap_or("").as_bytes());
    params.extend(Params::parse(body));
    params
}

/// The buyer's browser comes here and goes on to the page where he pays.
async fn submit(State(channel): Shared, came: Came, uri: Uri, body: Bytes) -> Response {
    let page =
        |status: StatusCode, text: &str| (status, Html(format!("<!doctype html><p>{text}</p>\n"))).into_response();
    let done = match create(&channel, &came, &params(&uri, &body)).await {
        Ok((payment, course)) => {
            course.after(Redirect::to(&channel.pay_url(&payment.wanted.payment_no)).into_response()).await
        }
        Err(stopped) => Err(stopped),
    };
    match done {
        Ok(response) => response,
        Err(Stopped::Ending(ending)) => ending.into_response(),
        Err(Stopped::SystemError) => page(StatusCode::OK, "系统繁忙"),
        Err(Stopped::Problem(problem)) if problem.status.is_server_error() => problem.into_response(),
        // What was sent is not repeated: it would be a page with somebody else's markup.
        Err(Stopped::Problem(problem)) => page(StatusCode::OK, problem.code),
    }
}

async fn mapi(State(channel): Shared, came: Came, uri: Uri, body: Bytes) -> Response {
    let done = create(&channel, &came, &params(&uri, &body)).await.map(|(payment, course)| {
        let url = channel.pay_url(&payment.wanted.payment_no);
        (json!({ "code": 1, "msg": "success", "trade_no": payment.trade_no, "payurl": url }), course)
    });
    answer(done).await
}

async fn api(State(channel): Shared, came: Came, uri: Uri, body: Bytes) -> Response {
    let params = params(&uri, &body);
    answer(carry_out(&channel, &came, &params).await).await
}

async fn answer(done: Done) -> Response {
    let done = match done {
        Ok((content, course)) => course.after(axum::Json(content).into_response()).await,
        Err(stopped) => Err(stopped),
    };
    let failure = |msg: &str| axum::Json(json!({ "code": -1, "msg": msg })).into_response();
    match done {
        Ok(response) => response,
        Err(Stopped::Ending(ending)) => ending.into_response(),
        Err(Stopped::SystemError) => failure("系统繁忙"),
        // Every refusal has status 200 here.
        Err(Stopped::Problem(problem)) if problem.code == "PAYMENT_NOT_FOUND" => failure("订单号不存在"),
        Err(Stopped::Problem(problem)) if matches!(problem.status.as_u16(), 400 | 401 | 404 | 409) => {
            failure(&problem.detail)
        }
        Err(Stopped::Problem(problem)) => problem.into_response(),
    }
}

async fn create(channel: &Channel, came: &Came, params: &Params) -> Result<(Payment, Course), Stopped> {
    if params.get("pid") != Some(PID) {
        return Err(unauthorized().into());
    }
    let key = std::str::from_utf8(channel.epay_key.bytes()).unwrap_or("");
    epay::verify(params, key).map_err(|_| unauthorized())?;
    let wanted = wanted(params)?;
    let (number, kind) = (wanted.payment_no.clone(), params.text("type").to_owned());
    let charges = channel.is_auto(None);
    let asked = Request { step: Step::Create, payment_no: &number, scene: Some(&kind), charges, http2: came.http2 };
    let course = channel.course(&asked, came.seen.clone()).await?;
    let (payment, _) = channel.create(wanted, number.clone(), charges, &course).await?;
    Ok((payment, course))
}

fn unauthorized() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "SIGN_ERROR", "签名校验失败")
}

fn wanted(params: &Params) -> Result<Wanted, Problem> {
    check_number("out_trade_no", params.text("out_trade_no"))?;
    let amount = money::fen(params.text("money")).ok_or_else(|| Problem::invalid("money must be yuan, as in 49.00"))?;
    check_amount(amount)?;
    check_subject(params.text("name"))?;
    check_url("notify_url", params.text("notify_url"))?;
    let kind = params.text("type");
    if !TYPES.contains(&kind) {
        return Err(Problem::invalid(format!("type must be one of {}", TYPES.join(", "))));
    }
    let extra = json!({ "type": kind, "param": params.text("param"), "return_url": params.text("return_url") });
    Ok(Wanted {
        payment_no: params.text("out_trade_no").to_owned(),
        amount,
        currency: "CNY".to_owned(),
        subject: params.text("name").to_owned(),
        notify_url: params.text("notify_url").to_owned(),
        scene: None,
        expires_ms: None,
        dialect: Dialect::Epay,
        extra: extra.to_string(),
    })
}

async fn carry_out(channel: &Channel, came: &Came, params: &Params) -> Done {
    // These calls bring the key itself, as this protocol has it.
    let known = channel.epay_key.bytes().ct_eq(params.text("key").as_bytes());
    if params.get("pid") != Some(PID) || !bool::from(known) {
        return Err(unauthorized().into());
    }
    let act = params.text("act");
    if act == "orders" {
        let limit = params.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(20).min(MAX_ORDERS);
        let orders: Vec<Value> = channel.latest(Dialect::Epay, limit).await?.iter().map(order).collect();
        return Ok((json!({ "code": 1, "count": orders.len(), "data": orders }), Course::default()));
    }
    let step = match act {
        "order" => Step::Query,
        "refund" => Step::Refund,
        _ => return Err(Problem::invalid("act must be order, orders or refund").into()),
    };
    let number = channel.number_of(params.text("out_trade_no"), params.text("trade_no")).await?;
    let asked = Request { step, payment_no: &number, scene: None, charges: false, http2: came.http2 };
    let course = channel.course(&asked, came.seen.clone()).await?;
    if step == Step::Query {
        let payment = channel.find(number.clone()).await?;
        let mut content = order(&payment);
        content["code"] = 1.into();
        content["msg"] = "查询订单号成功！".into();
        content["money"] = money::yuan(course.amount(payment.wanted.amount)).into();
        return Ok((content, course));
    }
    let amount = money::fen(params.text("money")).ok_or_else(|| Problem::invalid("money must be yuan, as in 49.00"))?;
    check_amount(amount)?;
    channel.refund(number.clone(), "epay".to_owned(), amount, &course).await?;
    Ok((json!({ "code": 1, "msg": "退款成功" }), course))
}

fn order(payment: &Payment) -> Value {
    let extra: Value = serde_json::from_str(&payment.wanted.extra).unwrap_or_default();
    let paid = payment.status == Status::Success;
    json!({
        "trade_no": payment.trade_no, "out_trade_no": payment.wanted.payment_no, "type": extra["type"], "pid": PID,
        "addtime": beijing::plain(payment.created_ms), "endtime": payment.decided_ms.map(beijing::plain),
        "name": payment.wanted.subject, "money": money::yuan(payment.wanted.amount), "status": i32::from(paid),
        "param": extra["param"],
    })
}

/// What the shop is told about a payment.
pub(super) fn notification(channel: &Channel, due: &Due, probe: bool) -> Params {
    let payment = &due.payment;
    let extra: Value = serde_json::from_str(&payment.wanted.extra).unwrap_or_default();
    let text = |member: &str| extra[member].as_str().unwrap_or("").to_owned();
    let mut params: Params = [
        ("pid", PID.to_owned()),
        ("trade_no", payment.trade_no.clone()),
        ("out_trade_no", payment.wanted.payment_no.clone()),
        ("type", text("type")),
        ("name", payment.wanted.subject.clone()),
        ("money", money::yuan(payment.wanted.amount)),
        ("trade_status", "TRADE_SUCCESS".to_owned()),
        ("param", text("param")),
    ]
    .into_iter()
    .collect();
    let key = std::str::from_utf8(channel.epay_key.bytes()).unwrap_or("");
    epay::sign(&mut params, if probe { "another key" } else { key });
    params
}
