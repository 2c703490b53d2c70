//! 易支付 (Epay): a form with an MD5, answers without any signature.
//!
//! Its answers are as good as the connection to it. It cannot close a payment: one that is not paid when the shop wants
//! it closed is given up here, and money that comes all the same is a late payment.

use serde::Deserialize;
use serde_json::Value;

use super::super::channel::Reply;
use super::super::model::Payment;
use super::super::settle::{Report, Told};
use super::{Delivered, Notice, Untrue, Wire, by_status};
use crate::support::dialect::params::Params;
use crate::support::dialect::{epay, money};

/// A merchant of an aggregator.
pub(in crate::order) struct Merchant {
    pub(super) wire: Wire,
    pub(super) pid: String,
    pub(super) key: String,
}

/// The members of an answer that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    code: i64,
    msg: String,
    trade_no: Option<String>,
    /// 1: paid. Some write it as text.
    status: Value,
    money: String,
}

impl Merchant {
    async fn call(&self, path: &str, params: Params) -> Result<Answer, Reply> {
        let call = self.wire.client.post(format!("{}/{path}", self.wire.base));
        let call = call.header("content-type", "application/x-www-form-urlencoded");
        let (status, _, text) = self.wire.text(call.body(params.to_form())).await?;
        if !status.is_success() {
            return Err(by_status(status));
        }
        serde_json::from_str(&text).map_err(|_| Reply::Unknown("an answer that is none".to_owned()))
    }

    fn keyed(&self, act: &str, payment_no: &str) -> Params {
        [("act", act), ("pid", &self.pid), ("key", &self.key), ("out_trade_no", payment_no)].into_iter().collect()
    }

    pub(super) async fn create(&self, payment: &Payment, notify_url: &str) -> Reply {
        let (name, amount) = (format!("Order {}", payment.order_no), money::yuan(payment.amount));
        let mut params: Params = [
            ("pid", self.pid.as_str()),
            ("type", "alipay"),
            ("out_trade_no", &payment.payment_no),
            ("notify_url", notify_url),
            ("name", &name),
            ("money", &amount),
        ]
        .into_iter()
        .collect();
        epay::sign(&mut params, &self.key);
        match self.call("mapi.php", params).await {
            Ok(answer) if answer.code == 1 => told(Told::Pending, answer.trade_no, None),
            // One code for every refusal, and words that differ: a query tells whether there is a payment.
            Ok(answer) => Reply::Unknown(answer.msg),
            Err(reply) => reply,
        }
    }

    pub(super) async fn query(&self, payment_no: &str) -> Reply {
        match self.call("api.php", self.keyed("order", payment_no)).await {
            Ok(answer) if answer.code == 1 => {
                let paid = answer.status == 1 || answer.status == "1";
                let state = if paid { Told::Success } else { Told::Pending };
                told(state, answer.trade_no, money::fen(&answer.money))
            }
            Ok(answer) if answer.msg.contains("不存在") => Reply::NotFound,
            Ok(answer) => Reply::Unknown(answer.msg),
            Err(reply) => reply,
        }
    }

    pub(super) async fn close(&self, payment_no: &str) -> Reply {
        match self.query(payment_no).await {
            Reply::Told(report) if report.state == Told::Pending => {
                Reply::Told(Report { state: Told::Closed, ..report })
            }
            other => other,
        }
    }

    pub(super) async fn refund(&self, payment: &Payment, _: &str) -> Result<(), String> {
        let mut params = self.keyed("refund", &payment.payment_no);
        params.set("money", money::yuan(payment.amount));
        match self.call("api.php", params).await {
            Ok(answer) if answer.code == 1 => Ok(()),
            Ok(answer) => Err(answer.msg),
            Err(reply) => Err(format!("{reply:?}")),
        }
    }

    pub(super) fn notice(&self, delivered: &Delivered<'_>) -> Result<Option<Notice>, Untrue> {
        let mut params = Params::parse(delivered.uri.query().unwrap_or("").as_bytes());
        params.extend(Params::parse(delivered.body));
        epay::verify(&params, &self.key).map_err(|_| Untrue::Forged)?;
        if params.get("pid") != Some(&self.pid) {
            return Err(Untrue::NotOurs);
        }
        // A good signature says who speaks; only this word says that it is paid.
        if params.get("trade_status") != Some("TRADE_SUCCESS") {
            return Ok(None);
        }
        let text = |name: &str| params.get(name).map(str::to_owned).ok_or(Untrue::Unreadable);
        let amount = money::fen(params.text("money")).ok_or(Untrue::Unreadable)?;
        let (trade_no, payment_no) = (text("trade_no")?, text("out_trade_no")?);
        let report = Report {
            state: Told::Success,
            trade_no: Some(trade_no.clone()),
            amount: Some(amount),
            currency: Some("CNY".to_owned()),
        };
        Ok(Some(Notice { notify_id: format!("{trade_no}/TRADE_SUCCESS"), payment_no, report }))
    }
}

fn told(state: Told, trade_no: Option<String>, amount: Option<i64>) -> Reply {
    Reply::Told(Report { state, trade_no, amount, currency: amount.map(|_| "CNY".to_owned()) })
}
