//! Alipay: one address, signed forms, answers signed as raw text.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::channel::Reply;
use super::super::model::Payment;
use super::super::settle::{Report, Told};
use super::bill::Address;
use super::{Delivered, Notice, Untrue, Wire, by_status};
use crate::reconciliation::day::Day;
use crate::support::dialect::params::Params;
use crate::support::dialect::rsa::{SigningKey, VerifyingKey};
use crate::support::dialect::{alipay, beijing, money};
use crate::support::unix_ms;

/// The node of an answer to a call that was not even looked at.
const ERROR_NODE: &str = "error_response";

/// A merchant of Alipay.
pub(in crate::order) struct Merchant {
    pub(super) wire: Wire,
    pub(super) app_id: String,
    pub(super) seller_id: String,
    pub(super) own: SigningKey,
    pub(super) platform: VerifyingKey,
}

/// The members of an answer that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    code: String,
    sub_code: String,
    trade_no: Option<String>,
    trade_status: String,
    total_amount: String,
    bill_download_url: String,
}

impl Content {
    /// What an answer means that is no success, whatever was asked.
    fn refusal(&self) -> Reply {
        let said = format!("{} {}", self.code, self.sub_code);
        match (self.code.as_str(), self.sub_code.as_str()) {
            ("40004", "ACQ.TRADE_NOT_EXIST") => Reply::NotFound,
            // Refused as a call: missing or wrong parameters, a wrong signature.
            ("40001" | "40002" | "40006", _) | ("40004", "ACQ.INVALID_PARAMETER") => Reply::NotSent(said),
            // Paid, closed or another payment under this number: a query tells.
            _ => Reply::Unknown(said),
        }
    }
}

impl Merchant {
    async fn call(&self, method: &str, notify_url: &str, business: Value) -> Result<Content, Reply> {
        let mut params: Params = [
            ("app_id", self.app_id.clone()),
            ("method", method.to_owned()),
            ("charset", "utf-8".to_owned()),
            ("timestamp", beijing::plain(unix_ms())),
            ("version", "1.0".to_owned()),
            ("biz_content", business.to_string()),
        ]
        .into_iter()
        .collect();
        if !notify_url.is_empty() {
            params.set("notify_url", notify_url);
        }
        alipay::sign_call(&mut params, &self.own);
        let call = self.wire.client.post(format!("{}/gateway.do", self.wire.base));
        let call = call.header("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let (status, _, text) = self.wire.text(call.body(params.to_form())).await?;
        if !status.is_success() {
            return Err(by_status(status));
        }
        let content = [&*alipay::node(method), ERROR_NODE]
            .into_iter()
            .find_map(|node| alipay::verify_answer(&text, node, &self.platform).ok());
        let content = content.ok_or_else(|| Reply::Unknown("an answer that is not genuine".to_owned()))?;
        serde_json::from_str(content).map_err(|error| Reply::Unknown(error.to_string()))
    }

    pub(super) async fn create(&self, payment: &Payment, notify_url: &str) -> Reply {
        let business = json!({
            "out_trade_no": payment.payment_no, "total_amount": money::yuan(payment.amount),
            "subject": format!("Order {}", payment.order_no),
        });
        match self.call("alipay.trade.precreate", notify_url, business).await {
            Ok(content) if content.code == "10000" => told(Told::Pending, None, None),
            // To this call it only means that there is none.
            Ok(content) => match content.refusal() {
                Reply::NotFound => Reply::Unknown("an answer to another question".to_owned()),
                reply => reply,
            },
            Err(reply) => reply,
        }
    }

    pub(super) async fn query(&self, payment_no: &str) -> Reply {
        let content = match self.call("alipay.trade.query", "", json!({ "out_trade_no": payment_no })).await {
            Ok(content) if content.code == "10000" => content,
            Ok(content) => return content.refusal(),
            Err(reply) => return reply,
        };
        match state(&content.trade_status) {
            Some(state) => told(state, content.trade_no, money::fen(&content.total_amount)),
            None => Reply::Unknown("an unknown status".to_owned()),
        }
    }

    pub(super) async fn close(&self, payment_no: &str) -> Reply {
        match self.call("alipay.trade.close", "", json!({ "out_trade_no": payment_no })).await {
            Ok(content) if content.code == "10000" => told(Told::Closed, None, None),
            Ok(content) => content.refusal(),
            Err(reply) => reply,
        }
    }

    pub(super) async fn refund(&self, payment: &Payment, refund_no: &str) -> Result<(), String> {
        let business = json!({
            "out_trade_no": payment.payment_no, "refund_amount": money::yuan(payment.amount),
            "out_request_no": refund_no,
        });
        match self.call("alipay.trade.refund", "", business).await {
            Ok(content) if content.code == "10000" => Ok(()),
            Ok(content) => Err(format!("{} {}", content.code, content.sub_code)),
            Err(reply) => Err(format!("{reply:?}")),
        }
    }

    /// Where the bill of a day is.
    pub(super) async fn bill(&self, day: Day) -> Result<Address, String> {
        let business = json!({ "bill_type": "trade", "bill_date": day.to_string() });
        match self.call("alipay.data.dataservice.bill.downloadurl.query", "", business).await {
            Ok(content) if content.code == "10000" => {
                Ok(Address { call: self.wire.client.get(content.bill_download_url), sha1: None })
            }
            Ok(content) => Err(format!("{} {}", content.code, content.sub_code)),
            Err(reply) => Err(format!("{reply:?}")),
        }
    }

    pub(super) fn notice(&self, delivered: &Delivered<'_>) -> Result<Option<Notice>, Untrue> {
        let params = Params::parse(delivered.body);
        alipay::verify_notification(&params, &self.platform).map_err(|_| Untrue::Forged)?;
        if params.get("app_id") != Some(&self.app_id) || params.get("seller_id") != Some(&self.seller_id) {
            return Err(Untrue::NotOurs);
        }
        let text = |name: &str| params.get(name).map(str::to_owned).ok_or(Untrue::Unreadable);
        let amount = money::fen(params.text("total_amount")).ok_or(Untrue::Unreadable)?;
        let state = state(params.text("trade_status")).ok_or(Untrue::Unreadable)?;
        let report =
            Report { state, trade_no: Some(text("trade_no")?), amount: Some(amount), currency: Some("CNY".to_owned()) };
        Ok(Some(Notice { notify_id: text("notify_id")?, payment_no: text("out_trade_no")?, report }))
    }
}

fn told(state: Told, trade_no: Option<String>, amount: Option<i64>) -> Reply {
    Reply::Told(Report { state, trade_no, amount, currency: amount.map(|_| "CNY".to_owned()) })
}

/// A payment that was paid back in full is closed, too; whoever knows it as paid does not mind.
fn state(trade_status: &str) -> Option<Told> {
    match trade_status {
        "WAIT_BUYER_PAY" => Some(Told::Pending),
        "TRADE_SUCCESS" | "TRADE_FINISHED" => Some(Told::Success),
        "TRADE_CLOSED" => Some(Told::Closed),
        _ => None,
    }
}
