//! The payment channels as seen from here, through the gateway's egress listener; those that speak a dialect of their own
//! are called in it ([`super::merchant`]).
//!
//! The one question that matters about an answer that is not one is whether the channel may have charged. Unless
//! something proves that it was not asked, the answer is "nobody knows": no second payment, ask until it is known.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Method as Verb, Response, StatusCode};
use serde_json::{Value, json};

use super::Settings;
use super::merchant::{self, Merchant};
use super::model::{Channel, Method, Payment};
use super::settle::{Report, Told};
use crate::support::{Secret, StartError, signature, unix_ms};

/// Pins a call to a channel; in an answer to a call that was not pinned it says which one it went to.
const CHANNEL: &str = "tidegate-channel";

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The channel says where the payment stands.
    Told(Report),
    /// The call certainly did not reach the channel, or was refused as a request; nothing was charged by it.
    NotSent(String),
    /// The channel does not know the number.
    NotFound,
    /// Nobody knows.
    Unknown(String),
}

/// An answer to a new payment.
pub(super) struct Heard {
    pub(super) reply: Reply,
    /// Where the payment is, as far as anybody has said.
    pub(super) from: Option<Channel>,
}

/// Talks to the channels.
pub(super) struct Channels {
    egress: String,
    public_url: String,
    client: Client,
    timeout: Duration,
    merchants: HashMap<Channel, Merchant>,
    secret: Secret,
}

/// Whose word an answer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Voice {
    /// The gateway's, which has looked at what the channel said and may speak from its own records.
    Gateway,
    /// The channel's, passed on as it is.
    Channel,
}

impl Channels {
    pub(super) fn new(settings: &Settings, client: Client) -> Result<Self, StartError> {
        let clean = |url: &str| url.trim_end_matches('/').to_owned();
        let timeout = settings.channel_timeout;
        let merchants = settings.merchants.as_deref().map(|file| merchant::read(file, &client, timeout)).transpose()?;
        Ok(Self {
            egress: clean(&settings.egress),
            public_url: clean(&settings.public_url),
            client,
            timeout,
            merchants: merchants.unwrap_or_default(),
            secret: settings.channel_secret.clone(),
        })
    }

    /// Who we are at a channel that speaks a dialect.
    pub(super) fn merchant(&self, channel: Channel) -> Option<&Merchant> {
        self.merchants.get(&channel)
    }

    /// The same for a payment there. Where the gateway chose the channel, it was made in plain JSON.
    fn merchant_of(&self, payment: &Payment, at: Channel) -> Option<&Merchant> {
        self.merchants.get(&at).filter(|_| payment.method != Method::Any)
    }

    /// Starts a payment, at its channel or where the gateway chooses. At its channel, doing it again with the same number
    /// is the same payment.
    pub(super) async fn create(&self, payment: &Payment) -> Heard {
        let notify_url = format!("{}/notify/{}", self.public_url, payment.method.as_str());
        if let Some((channel, merchant)) = payment.channel.and_then(|at| Some((at, self.merchant_of(payment, at)?))) {
            return Heard { reply: merchant.create(payment, &notify_url).await, from: Some(channel) };
        }
        let body = json!({
            "payment_no": payment.payment_no,
            "amount": payment.amount,
            "currency": payment.currency,
            "subject": format!("Order {}", payment.order_no),
            "notify_url": notify_url,
        });
        match self.send(Verb::POST, "", payment.channel, &payment.payment_no, Some(body)).await {
            Ok(answer) => {
                let header = answer.headers().get(CHANNEL).and_then(|value| value.to_str().ok());
                // Who was asked at a certain channel was asked there, whatever the answer says.
                let from = payment.channel.or_else(|| header.and_then(Channel::parse));
                Heard { reply: self.classify(answer, &payment.payment_no, Voice::Gateway).await, from }
            }
            Err(error) => Heard { reply: failed(&error), from: payment.channel },
        }
    }

    /// Asks a channel where a payment stands.
    pub(super) async fn query(&self, payment: &Payment, at: Channel) -> Reply {
        match self.merchant_of(payment, at) {
            Some(merchant) => merchant.query(&payment.payment_no).await,
            None => self.call(Verb::GET, (&payment.payment_no, ""), at, "", None).await,
        }
    }

    /// The simulated wallet: the payer agrees. A real channel has an app for that, whatever the shop speaks.
    pub(super) async fn confirm(&self, payment_no: &str, at: Channel) -> Reply {
        self.act(payment_no, at, "confirm").await
    }

    /// Asks a channel to accept no money for this payment any more.
    pub(super) async fn close(&self, payment: &Payment, at: Channel) -> Reply {
        match self.merchant_of(payment, at) {
            Some(merchant) => merchant.close(&payment.payment_no).await,
            None => self.act(&payment.payment_no, at, "close").await,
        }
    }

    /// Has a channel pay a payment back in full. Doing it again is the same refund.
    ///
    /// # Errors
    /// What came instead of an agreement; asking again is right.
    pub(super) async fn refund(&self, payment: &Payment, at: Channel) -> Result<(), String> {
        let refund_no = format!("{}-refund", payment.payment_no);
        if let Some(merchant) = self.merchant_of(payment, at) {
            return merchant.refund(payment, &refund_no).await;
        }
        let path = format!("/{}/refunds", payment.payment_no);
        let body = json!({ "refund_no": refund_no, "amount": payment.amount, "currency": payment.currency });
        let answer = self.send(Verb::POST, &path, Some(at), &refund_no, Some(body)).await;
        let answer = answer.map_err(|error| error.without_url().to_string())?;
        if !answer.status().is_success() {
            return Err(format!("status {}", answer.status().as_u16()));
        }
        let headers = answer.headers().clone();
        let body = answer.bytes().await.map_err(|error| error.without_url().to_string())?;
        self.check(&headers, &body, Voice::Channel)?;
        let body: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        // Channels have words for refunds that went wrong (WeChat Pay: ABNORMAL, CLOSED). Only a known agreement counts.
        match body["status"].as_str() {
            Some("SUCCESS" | "REFUNDED" | "PARTIALLY_REFUNDED") => Ok(()),
            other => Err(format!("the status {other:?}")),
        }
    }

    async fn act(&self, payment_no: &str, at: Channel, what: &str) -> Reply {
        let key = format!("{payment_no}-{what}");
        self.call(Verb::POST, (payment_no, &format!("/{what}")), at, &key, Some(json!({}))).await
    }

    async fn call(
        &self,
        method: Verb,
        (payment_no, act): (&str, &str),
        at: Channel,
        key: &str,
        body: Option<Value>,
    ) -> Reply {
        match self.send(method, &format!("/{payment_no}{act}"), Some(at), key, body).await {
            Ok(answer) => self.classify(answer, payment_no, Voice::Channel).await,
            Err(error) => failed(&error),
        }
    }

    /// Whether an answer is whose it should be: what is not signed by the channel may be anybody's.
    fn check(&self, headers: &HeaderMap, body: &[u8], voice: Voice) -> Result<(), String> {
        let signed = headers.get(signature::HEADER).and_then(|value| value.to_str().ok());
        let recorded = headers.contains_key("idempotent-replayed");
        if signed.is_none() && voice == Voice::Gateway && recorded {
            return Ok(());
        }
        let now = u64::try_from(unix_ms() / 1_000).unwrap_or(0);
        signature::verify(self.secret.bytes(), signed, now, body).map_err(|refusal| refusal.to_string())
    }

    async fn send(
        &self,
        method: Verb,
        path: &str,
        at: Option<Channel>,
        key: &str,
        body: Option<Value>,
    ) -> reqwest::Result<Response> {
        let url = format!("{}/pay/v1/payments{path}", self.egress);
        let mut request = self.client.request(method, url).timeout(self.timeout);
        // Pinned: while an outcome is open, no other channel may see this payment.
        if let Some(channel) = at {
            request = request.header(CHANNEL, channel.as_str());
        }
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await
    }

    /// What an answer about this payment means.
    async fn classify(&self, answer: Response, payment_no: &str, voice: Voice) -> Reply {
        let (status, headers) = (answer.status(), answer.headers().clone());
        // On an answer it made itself the gateway says what it knows about the call. Those are never successes, and a
        // channel can send the same header: an answer that speaks of a charge is read.
        let outcome = headers.get("tidegate-outcome").and_then(|value| value.to_str().ok()).unwrap_or("");
        let unknown = outcome == "unknown" && (!status.is_success() || status == StatusCode::ACCEPTED);
        if !status.is_success() && matches!(outcome, "not-sent" | "not-processed") {
            return Reply::NotSent(format!("{} {outcome}", status.as_u16()));
        }
        let body = match answer.bytes().await {
            Ok(_) if unknown && !status.is_success() => return Reply::Unknown(format!("{} unknown", status.as_u16())),
            Ok(body) => body,
            Err(error) => return Reply::Unknown(error.without_url().to_string()),
        };
        let about = || serde_json::from_slice::<Value>(&body).ok().and_then(|body| report(&body, payment_no));
        if unknown && about().is_none_or(|report| report.state == Told::Pending) {
            // The gateway does not know either, and goes on asking.
            return Reply::Unknown("202 unknown".to_owned());
        }
        // What the gateway has refused to believe it does not pass on as a success.
        if (status.is_success() || voice == Voice::Channel)
            && let Err(why) = self.check(&headers, &body, voice)
        {
            return Reply::Unknown(why);
        }
        match status {
            status if status.is_success() => {
                about().map_or_else(|| Reply::Unknown("an unknown status".to_owned()), Reply::Told)
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Reply::NotFound,
            // 408 and 409 can mean that an earlier call is still at work.
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => Reply::Unknown(format!("status {}", status.as_u16())),
            status if is_refusal(status) => Reply::NotSent(format!("status {}", status.as_u16())),
            status => Reply::Unknown(format!("status {}", status.as_u16())),
        }
    }
}

pub(super) fn failed(error: &reqwest::Error) -> Reply {
    if error.is_connect() {
        // No connection to the gateway: nothing has left this machine.
        return Reply::NotSent("no connection".to_owned());
    }
    // The text without the address: that is ours.
    Reply::Unknown(if error.is_timeout() { "no answer in time".to_owned() } else { "no whole answer".to_owned() })
}

/// Whether a channel says with this status that it did not take the request on. What is not listed proves nothing.
pub(super) fn is_refusal(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 401 | 403 | 405 | 413 | 415 | 422 | 425 | 429)
}

/// Reads an answer or a notification about this payment. A status that is not known here is no answer, and neither are
/// words about another payment.
pub(super) fn report(body: &Value, payment_no: &str) -> Option<Report> {
    // The gateway calls it by its own name.
    let about = body["payment_no"].as_str().or_else(|| body["payment_id"].as_str());
    if about != Some(payment_no) {
        return None;
    }
    let state = match body["status"].as_str()? {
        "PENDING" | "PROCESSING" => Told::Pending,
        // The gateway's own word for a payment that was decided earlier is the longer one. What was paid back was paid.
        "SUCCESS" | "SUCCEEDED" | "REFUNDED" | "PARTIALLY_REFUNDED" => Told::Success,
        "DECLINED" | "FAILED" => Told::Declined,
        "CLOSED" | "CANCELLED" => Told::Closed,
        _ => return None,
    };
    let text = |member: &str| body[member].as_str().map(str::to_owned);
    Some(Report { state, trade_no: text("trade_no"), amount: body["amount"].as_i64(), currency: text("currency") })
}
