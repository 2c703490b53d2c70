//! WeChat Pay, version 3: JSON, signed in headers both ways; notifications are encrypted as well.

use axum::http::{HeaderMap, Method, StatusCode};
use rand::Rng;
use rand::distr::Alphanumeric;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::channel::Reply;
use super::super::model::Payment;
use super::super::settle::{Report, Told};
use super::bill::Address;
use super::{Delivered, Notice, Untrue, Wire, json as read};
use crate::reconciliation::day::Day;
use crate::support::dialect::rsa::{SigningKey, VerifyingKey};
use crate::support::dialect::wechat::{self, Authorization};
use crate::support::unix_ms;

/// A merchant of WeChat Pay.
pub(in crate::order) struct Merchant {
    pub(super) wire: Wire,
    pub(super) appid: String,
    pub(super) mchid: String,
    pub(super) own: SigningKey,
    pub(super) platform: VerifyingKey,
    pub(super) api_v3_key: [u8; wechat::API_V3_KEY_BYTES],
}

#[derive(Deserialize)]
struct Amount {
    total: i64,
    #[serde(default = "renminbi")]
    currency: String,
}

fn renminbi() -> String {
    "CNY".to_owned()
}

/// A payment, as a query and a notification tell it.
#[derive(Deserialize)]
struct Transaction {
    appid: String,
    mchid: String,
    out_trade_no: String,
    transaction_id: Option<String>,
    trade_state: String,
    amount: Amount,
}

impl Transaction {
    fn report(self) -> Option<Report> {
        let state = match self.trade_state.as_str() {
            "NOTPAY" | "USERPAYING" | "ACCEPT" => Told::Pending,
            // What was paid back was paid.
            "SUCCESS" | "REFUND" => Told::Success,
            "CLOSED" | "REVOKED" => Told::Closed,
            "PAYERROR" => Told::Declined,
            _ => return None,
        };
        let Amount { total, currency } = self.amount;
        Some(Report { state, trade_no: self.transaction_id, amount: Some(total), currency: Some(currency) })
    }
}

/// What a notification is wrapped in.
#[derive(Deserialize)]
struct Envelope {
    id: String,
    event_type: String,
    resource: Resource,
}

#[derive(Deserialize)]
struct Resource {
    nonce: String,
    #[serde(default)]
    associated_data: String,
    ciphertext: String,
}

impl Merchant {
    /// The header that signs a call. `target` is path and query.
    fn authorization(&self, method: &Method, target: &str, body: &str) -> String {
        let authorization = Authorization {
            mchid: self.mchid.clone(),
            serial_no: self.own.public().serial(),
            nonce_str: rand::rng().sample_iter(Alphanumeric).take(32).map(char::from).collect(),
            timestamp: now_seconds(),
            signature: String::new(),
        };
        authorization.sign(method.as_str(), target, body, &self.own).to_header()
    }

    /// An answer that is genuine: its status and its text.
    async fn call(&self, method: Method, target: &str, body: Option<Value>) -> Result<(StatusCode, String), Reply> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let authorization = self.authorization(&method, target, &body);
        let call = self.wire.client.request(method, format!("{}{target}", self.wire.base));
        let call = call.header("authorization", authorization).header("accept", "application/json");
        let (status, headers, text) =
            self.wire.text(call.header("content-type", "application/json").body(body)).await?;
        if self.verify(&headers, &text, now_seconds()).is_err() {
            // A proxy's word about a call that it did not pass on, or nobody's.
            return Err(Reply::Unknown(format!("status {}, not genuine", status.as_u16())));
        }
        Ok((status, text))
    }

    fn verify(&self, headers: &HeaderMap, text: &str, now_seconds: u64) -> Result<(), Untrue> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).ok_or(Untrue::Forged);
        if header("wechatpay-serial")? != self.platform.serial() {
            return Err(Untrue::Forged);
        }
        let (timestamp, nonce) = (header("wechatpay-timestamp")?, header("wechatpay-nonce")?);
        wechat::verify_answer(timestamp, nonce, header("wechatpay-signature")?, text, &self.platform, now_seconds)
            .map_err(|_| Untrue::Forged)
    }

    pub(super) async fn create(&self, payment: &Payment, notify_url: &str) -> Reply {
        let body = json!({
            "appid": self.appid, "mchid": self.mchid, "description": format!("Order {}", payment.order_no),
            "out_trade_no": payment.payment_no, "notify_url": notify_url,
            "amount": { "total": payment.amount, "currency": payment.currency },
        });
        match self.call(Method::POST, "/v3/pay/transactions/native", Some(body)).await {
            Ok((StatusCode::OK, _)) => told(Told::Pending),
            // To this call it means that there is no such service.
            Ok((StatusCode::NOT_FOUND, text)) => Reply::NotSent(text),
            Ok((status, text)) => refusal(status, &text),
            Err(reply) => reply,
        }
    }

    pub(super) async fn query(&self, payment_no: &str) -> Reply {
        let target = format!("/v3/pay/transactions/out-trade-no/{payment_no}?mchid={}", self.mchid);
        match self.call(Method::GET, &target, None).await {
            Ok((StatusCode::OK, text)) => {
                let report = read::<Transaction>(&text).ok().and_then(Transaction::report);
                report.map_or_else(|| Reply::Unknown("an unknown status".to_owned()), Reply::Told)
            }
            Ok((status, text)) => refusal(status, &text),
            Err(reply) => reply,
        }
    }

    pub(super) async fn close(&self, payment_no: &str) -> Reply {
        let target = format!("/v3/pay/transactions/out-trade-no/{payment_no}/close");
        match self.call(Method::POST, &target, Some(json!({ "mchid": self.mchid }))).await {
            Ok((status, _)) if status.is_success() => told(Told::Closed),
            Ok((status, text)) => refusal(status, &text),
            Err(reply) => reply,
        }
    }

    pub(super) async fn refund(&self, payment: &Payment, refund_no: &str) -> Result<(), String> {
        let body = json!({
            "out_trade_no": payment.payment_no, "out_refund_no": refund_no,
            "amount": { "refund": payment.amount, "total": payment.amount, "currency": payment.currency },
        });
        let answer = self.call(Method::POST, "/v3/refund/domestic/refunds", Some(body)).await;
        let (status, text) = answer.map_err(|reply| format!("{reply:?}"))?;
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        // PROCESSING, ABNORMAL and CLOSED are asked for again: only a known agreement counts.
        match said["status"].as_str() {
            Some("SUCCESS") if status.is_success() => Ok(()),
            other => Err(format!("status {}: {other:?}", status.as_u16())),
        }
    }

    /// Where the bill of a day is. The call for it is signed, its answer is not: the hash stands for that.
    pub(super) async fn bill(&self, day: Day) -> Result<Address, String> {
        let target = format!("/v3/bill/tradebill?bill_date={day}&bill_type=ALL");
        let (status, text) = self.call(Method::GET, &target, None).await.map_err(|reply| format!("{reply:?}"))?;
        let said: Value = serde_json::from_str(&text).unwrap_or_default();
        let (Some(url), Some(hash), Some("SHA1")) =
            (said["download_url"].as_str(), said["hash_value"].as_str(), said["hash_type"].as_str())
        else {
            return Err(format!("status {}: {}", status.as_u16(), said["code"].as_str().unwrap_or("no address")));
        };
        let url = reqwest::Url::parse(url).map_err(|error| error.to_string())?;
        let target = format!("{}?{}", url.path(), url.query().unwrap_or(""));
        let call = self.wire.client.get(url).header("authorization", self.authorization(&Method::GET, &target, ""));
        Ok(Address { call, sha1: Some(hash.to_owned()) })
    }

    pub(super) fn notice(&self, delivered: &Delivered<'_>) -> Result<Option<Notice>, Untrue> {
        let text = std::str::from_utf8(delivered.body).map_err(|_| Untrue::Forged)?;
        self.verify(delivered.headers, text, delivered.now_seconds)?;
        let Envelope { id, event_type, resource } = read(text)?;
        if event_type != "TRANSACTION.SUCCESS" {
            return Ok(None);
        }
        let Resource { nonce, associated_data, ciphertext } = resource;
        let plain =
            wechat::open(&self.api_v3_key, &nonce, &associated_data, &ciphertext).map_err(|_| Untrue::Forged)?;
        let transaction: Transaction = read(&plain)?;
        if transaction.appid != self.appid || transaction.mchid != self.mchid {
            return Err(Untrue::NotOurs);
        }
        let payment_no = transaction.out_trade_no.clone();
        let report = transaction.report().ok_or(Untrue::Unreadable)?;
        Ok(Some(Notice { notify_id: id, payment_no, report }))
    }
}

fn now_seconds() -> u64 {
    u64::try_from(unix_ms() / 1_000).unwrap_or(0)
}

fn told(state: Told) -> Reply {
    Reply::Told(Report { state, trade_no: None, amount: None, currency: None })
}

/// What an answer means that is no success: the name in it says more than its status.
fn refusal(status: StatusCode, text: &str) -> Reply {
    let said: Value = serde_json::from_str(text).unwrap_or_default();
    let code = said["code"].as_str().unwrap_or("");
    match code {
        "ORDER_NOT_EXIST" | "ORDERNOTEXIST" => Reply::NotFound,
        "PARAM_ERROR" | "SIGN_ERROR" | "APPID_MCHID_NOT_MATCH" | "MCH_NOT_EXISTS" | "NO_AUTH" | "FREQUENCY_LIMITED" => {
            Reply::NotSent(format!("{} {code}", status.as_u16()))
        }
        // Paid, closed or another payment under this number: a query tells.
        _ => Reply::Unknown(format!("{} {code}", status.as_u16())),
    }
}
