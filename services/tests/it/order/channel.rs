//! A payment channel made to order: it keeps the truth about money and misbehaves as told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// How calls that start a payment are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mood {
    /// Waits for the payer.
    #[default]
    Well,
    /// Charges at once and never answers.
    ChargeThenHang,
    /// Forgets the call and never answers.
    ForgetThenHang,
    /// Refuses to charge.
    Decline,
    /// Charges and says so, with a header that only a gateway may write and that says the contrary.
    ChargeAndDenyIt,
    /// The call is a third of a second on its way before it is charged.
    Late,
}

#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(super) mood: Mood,
    /// Status by payment number.
    pub(crate) payments: HashMap<String, Value>,
    /// Channel and key of every call that started a payment.
    pub(super) started: Vec<(String, String)>,
    /// Payment numbers that were paid back, once per refund number.
    pub(super) refunds: HashMap<String, i64>,
    /// Answers are signed by somebody else.
    pub(super) forged: bool,
    /// What refunds are answered with instead of an agreement.
    pub(super) refund_word: Option<&'static str>,
}

#[derive(Clone, Default)]
pub(crate) struct Bank(Arc<Mutex<Truth>>);

impl Bank {
    /// Starts the channel; answers it with its base URL.
    pub(super) async fn start() -> (Self, String) {
        let bank = Self::default();
        let router = Router::new()
            .route("/pay/v1/payments", post(create))
            .route("/pay/v1/payments/{no}", get(query))
            .route("/pay/v1/payments/{no}/{act}", post(act))
            .layer(axum::middleware::from_fn_with_state(bank.clone(), sign))
            .with_state(bank.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (bank, base)
    }

    pub(crate) fn truth(&self) -> MutexGuard<'_, Truth> {
        self.0.lock().expect("nobody panicked with it")
    }

    /// The payer pays, whatever the channel promised before.
    pub(crate) fn charge(&self, payment_no: &str) {
        self.truth().payments.get_mut(payment_no).expect("a known payment")["status"] = json!("SUCCESS");
    }

    pub(super) fn charged(&self) -> usize {
        self.truth().payments.values().filter(|payment| payment["status"] == "SUCCESS").count()
    }
}

/// Signs every answer as a channel does.
async fn sign(State(bank): State<Bank>, request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let (mut parts, body) = next.run(request).await.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let text = std::str::from_utf8(&body).expect("text");
    let mut signature = signature(now.cast_signed(), text);
    if bank.truth().forged {
        signature = signature.replacen("v1=", "v1=00", 1);
    }
    parts.headers.insert("x-channel-signature", signature.parse().expect("a value"));
    Response::from_parts(parts, body.into())
}

async fn create(State(bank): State<Bank>, headers: HeaderMap, body: Bytes) -> Response {
    let mut payment: Value = serde_json::from_slice(&body).expect("JSON");
    let header = |name: &str| headers[name].to_str().expect("text").to_owned();
    let no = payment["payment_no"].as_str().expect("a number").to_owned();
    let mood = {
        let mut truth = bank.truth();
        truth.started.push((header("tidegate-channel"), header("idempotency-key")));
        let mood = truth.mood;
        if mood == Mood::Late {
            // The caller may have given up by then; the call arrives all the same.
            payment["trade_no"] = json!(format!("T-{no}"));
            payment["status"] = json!("SUCCESS");
            let (bank, payment) = (bank.clone(), payment.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(330)).await;
                bank.truth().payments.insert(no, payment);
            });
        } else if mood != Mood::ForgetThenHang {
            payment["trade_no"] = json!(format!("T-{no}"));
            payment["status"] = json!(match mood {
                Mood::ChargeThenHang | Mood::ChargeAndDenyIt => "SUCCESS",
                Mood::Decline => "DECLINED",
                _ => "PENDING",
            });
            payment = truth.payments.entry(no).or_insert(payment).clone();
        }
        mood
    };
    if matches!(mood, Mood::ChargeThenHang | Mood::ForgetThenHang) {
        std::future::pending::<()>().await;
    }
    match mood {
        Mood::Late => tokio::time::sleep(Duration::from_millis(340)).await,
        Mood::ChargeAndDenyIt => return ([("tidegate-outcome", "not-sent")], axum::Json(payment)).into_response(),
        _ => {}
    }
    axum::Json(payment).into_response()
}

async fn query(State(bank): State<Bank>, Path(no): Path<String>) -> Response {
    let found = bank.truth().payments.get(&no).cloned();
    found.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |payment| axum::Json(payment).into_response())
}

async fn act(State(bank): State<Bank>, Path((no, act)): Path<(String, String)>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let mut truth = bank.truth();
    let Some(payment) = truth.payments.get_mut(&no) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match (act.as_str(), payment["status"].as_str()) {
        ("confirm", Some("PENDING")) => payment["status"] = json!("SUCCESS"),
        ("close", Some("PENDING")) => payment["status"] = json!("CLOSED"),
        ("close", Some("SUCCESS")) => return StatusCode::CONFLICT.into_response(),
        ("refunds", Some("SUCCESS")) => {
            if let Some(word) = truth.refund_word {
                return axum::Json(json!({ "status": word })).into_response();
            }
            let amount = body["amount"].as_i64().expect("an amount");
            truth.refunds.insert(body["refund_no"].as_str().expect("a number").to_owned(), amount);
            return axum::Json(json!({ "status": "SUCCESS" })).into_response();
        }
        _ => {}
    }
    axum::Json(payment.clone()).into_response()
}

/// A notification and its signature at `seconds`.
pub(super) fn notice(notify_id: &str, payment: &Value, seconds: i64) -> (String, String) {
    let body = json!({
        "notify_id": notify_id, "payment_no": payment["payment_no"], "trade_no": payment["trade_no"],
        "amount": payment["amount"], "currency": payment["currency"], "status": "SUCCESS",
    })
    .to_string();
    let signature = signature(seconds, &body);
    (body, signature)
}

fn signature(seconds: i64, body: &str) -> String {
    let secret = tidegate_services::support::signature::DEVELOPMENT_SECRET;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key will do");
    mac.update(format!("{seconds}.{body}").as_bytes());
    let tag = mac.finalize().into_bytes();
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}
