//! The payment channels as seen from here, through the gateway's egress listener.
//!
//! The one question that matters about an answer that is not one is whether the channel may have charged. Unless
//! something proves that it was not asked, the answer is "nobody knows": no second payment, ask until it is known.

use std::time::Duration;

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::model::Payment;
use super::settle::{Report, Told};

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

/// Talks to the channels.
pub(super) struct Channels {
    egress: String,
    public_url: String,
    client: Client,
    timeout: Duration,
}

impl Channels {
    pub(super) fn new(egress: &str, public_url: &str, client: Client, timeout: Duration) -> Self {
        let clean = |url: &str| url.trim_end_matches('/').to_owned();
        Self { egress: clean(egress), public_url: clean(public_url), client, timeout }
    }

    /// Starts a payment. Doing it again with the same number is the same payment.
    pub(super) async fn create(&self, payment: &Payment) -> Reply {
        let body = json!({
            "payment_no": payment.payment_no,
            "amount": payment.amount,
            "currency": payment.currency,
            "subject": format!("Order {}", payment.order_no),
            "notify_url": format!("{}/notify/{}", self.public_url, payment.channel.as_str()),
        });
        self.call(Method::POST, "", payment, &payment.payment_no, Some(body)).await
    }

    /// Asks where a payment stands.
    pub(super) async fn query(&self, payment: &Payment) -> Reply {
        self.call(Method::GET, &format!("/{}", payment.payment_no), payment, "", None).await
    }

    /// The simulated wallet: the payer agrees. A real channel has an app for that.
    pub(super) async fn confirm(&self, payment: &Payment) -> Reply {
        self.act(payment, "confirm", json!({})).await
    }

    /// Asks the channel to accept no money for this payment any more.
    pub(super) async fn close(&self, payment: &Payment) -> Reply {
        self.act(payment, "close", json!({})).await
    }

    /// Pays a payment back in full. Doing it again is the same refund.
    ///
    /// # Errors
    /// What came instead of an agreement; asking again is right.
    pub(super) async fn refund(&self, payment: &Payment) -> Result<(), String> {
        let refund_no = format!("{}-refund", payment.payment_no);
        let path = format!("/{}/refunds", payment.payment_no);
        let body = json!({ "refund_no": refund_no, "amount": payment.amount, "currency": payment.currency });
        let answer = self.send(Method::POST, &path, payment, &refund_no, Some(body)).await;
        let answer = answer.map_err(|error| error.without_url().to_string())?;
        if !answer.status().is_success() {
            return Err(format!("status {}", answer.status().as_u16()));
        }
        let body: Value = answer.json().await.map_err(|error| error.without_url().to_string())?;
        // Channels have words for refunds that went wrong (WeChat Pay: ABNORMAL, CLOSED). Only a known agreement counts.
        match body["status"].as_str() {
            Some("SUCCESS" | "REFUNDED" | "PARTIALLY_REFUNDED") => Ok(()),
            other => Err(format!("the status {other:?}")),
        }
    }

    async fn act(&self, payment: &Payment, what: &str, body: Value) -> Reply {
        let key = format!("{}-{what}", payment.payment_no);
        self.call(Method::POST, &format!("/{}/{what}", payment.payment_no), payment, &key, Some(body)).await
    }

    async fn call(&self, method: Method, path: &str, payment: &Payment, key: &str, body: Option<Value>) -> Reply {
        match self.send(method, path, payment, key, body).await {
            Ok(answer) => classify(answer).await,
            // No connection to the gateway: nothing has left this machine.
            Err(error) if error.is_connect() => Reply::NotSent("no connection".to_owned()),
            Err(error) => Reply::Unknown(error.without_url().to_string()),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        payment: &Payment,
        key: &str,
        body: Option<Value>,
    ) -> reqwest::Result<Response> {
        let url = format!("{}/pay/v1/payments{path}", self.egress);
        let mut request = self.client.request(method, url).timeout(self.timeout);
        // Pinned: while an outcome is open, no other channel may see this payment.
        request = request.header("tidegate-channel", payment.channel.as_str());
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await
    }
}

async fn classify(answer: Response) -> Reply {
    let status = answer.status();
    // On an answer it made itself the gateway says what it knows about the call. Those are never successes, and a channel
    // can send the same header: an answer that speaks of a charge is read.
    let outcome = answer.headers().get("tidegate-outcome").and_then(|value| value.to_str().ok()).unwrap_or("");
    if !status.is_success() && matches!(outcome, "not-sent" | "not-processed") {
        return Reply::NotSent(format!("{} {outcome}", status.as_u16()));
    }
    match status {
        status if status.is_success() => match answer.json::<Value>().await {
            Ok(body) => report(&body).map_or_else(|| Reply::Unknown("an unknown status".to_owned()), Reply::Told),
            Err(error) => Reply::Unknown(error.without_url().to_string()),
        },
        StatusCode::NOT_FOUND | StatusCode::GONE => Reply::NotFound,
        // 408 and 409 can mean that an earlier call is still at work.
        StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => Reply::Unknown(format!("status {}", status.as_u16())),
        status if is_refusal(status) => Reply::NotSent(format!("status {}", status.as_u16())),
        status => Reply::Unknown(format!("status {}", status.as_u16())),
    }
}

/// Whether a channel says with this status that it did not take the request on. What is not listed proves nothing.
pub(super) fn is_refusal(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 401 | 403 | 405 | 413 | 415 | 422 | 425 | 429)
}

/// Reads an answer or a notification. A status that is not known here is no answer.
pub(super) fn report(body: &Value) -> Option<Report> {
    let state = match body["status"].as_str()? {
        "PENDING" | "PROCESSING" => Told::Pending,
        // What was paid back was paid.
        "SUCCESS" | "REFUNDED" | "PARTIALLY_REFUNDED" => Told::Success,
        "DECLINED" | "FAILED" => Told::Declined,
        "CLOSED" => Told::Closed,
        _ => return None,
    };
    let text = |member: &str| body[member].as_str().map(str::to_owned);
    Some(Report { state, trade_no: text("trade_no"), amount: body["amount"].as_i64(), currency: text("currency") })
}
