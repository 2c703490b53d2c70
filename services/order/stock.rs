//! The card-key service as seen from here: the catalogue, and keys reserved, issued, released and shown by order number.
//!
//! Every call is idempotent by the order number, so whatever is in doubt is simply done again.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::model::Order;
use super::near::{Found, Near};

/// How long one call may take. The service answers in milliseconds; what takes longer is in trouble.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How much longer than the order the reservation holds: time to close a payment at its channel.
const GRACE_SECONDS: i64 = 300;

/// The longest the card-key service holds a reservation, in seconds.
const MAX_TTL_SECONDS: i64 = 3_600;

/// The service could not be asked, or its answer made no sense. Asking again is right.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the card-key service did not answer: {0}")]
pub(super) struct Unreachable(pub(super) String);

impl From<reqwest::Error> for Unreachable {
    fn from(error: reqwest::Error) -> Self {
        Self(error.without_url().to_string())
    }
}

/// The answer to a call that can be refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Done, now or earlier.
    Done,
    /// Never: the code says why.
    Refused(String),
}

/// What of a product matters for an order.
#[derive(Debug, Deserialize)]
pub(super) struct Product {
    /// Minor units.
    pub(super) price: i64,
    pub(super) currency: String,
    /// Free keys when it was read.
    pub(super) stock: u64,
    /// As the card-key service sent it.
    #[serde(skip)]
    pub(super) body: Bytes,
}

/// What became of a list of products that were asked for before a sale.
#[derive(Debug, Default, Serialize)]
pub(super) struct Preheated {
    /// Near at hand now.
    pub(super) ready: Vec<String>,
    /// There is no such product.
    pub(super) unknown: Vec<String>,
    /// Nobody answered.
    pub(super) failed: Vec<String>,
}

/// Talks to one card-key service.
pub(super) struct Stock {
    base: String,
    client: Client,
    /// By SKU.
    pub(super) products: Near<Product>,
    /// The whole list as it was sent, under one name.
    catalogue: Near<Bytes>,
}

impl Stock {
    pub(super) fn new(base: &str, client: Client) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        Self { base, client, products: Near::new(), catalogue: Near::new() }
    }

    /// All products, as the card-key service sent them at most a second ago; the last known list when it cannot be asked.
    ///
    /// # Errors
    /// When it cannot be asked and never could.
    pub(super) async fn catalogue(&self, now_ms: i64) -> Result<Bytes, Unreachable> {
        let ask = async {
            let answer = self.call(Method::GET, "/v1/products", None).await?;
            Ok(Some(answer.error_for_status()?.bytes().await?))
        };
        let found = self.catalogue.get("", now_ms, ask).await?;
        Ok(found.value.map(|body| Bytes::clone(&body)).unwrap_or_default())
    }

    /// A product; it has a price of this moment and, if it is fresh, a stock figure to rely on.
    ///
    /// # Errors
    /// When the card-key service cannot be asked and the product is not known from before.
    pub(super) async fn product(&self, sku: &str, now_ms: i64) -> Result<Found<Product>, Unreachable> {
        self.products.get(sku, now_ms, self.read_product(sku)).await
    }

    /// Asks for products before they are wanted.
    pub(super) async fn preheat(&self, skus: &[String], now_ms: i64) -> Preheated {
        let mut done = Preheated::default();
        for sku in skus {
            let list = match self.products.warm(sku, now_ms, self.read_product(sku)).await {
                Ok(Found { value: Some(_), fresh: true }) => &mut done.ready,
                Ok(Found { value: None, .. }) => &mut done.unknown,
                Ok(_) | Err(_) => &mut done.failed,
            };
            list.push(sku.clone());
        }
        done
    }

    async fn read_product(&self, sku: &str) -> Result<Option<Product>, Unreachable> {
        let answer = self.call(Method::GET, &format!("/v1/products/{sku}"), None).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = answer.error_for_status()?.bytes().await?;
        let product: Product = serde_json::from_slice(&body).map_err(|error| Unreachable(error.to_string()))?;
        Ok(Some(Product { body, ..product }))
    }

    /// Reserves the keys of an order until after its end.
    pub(super) async fn reserve(
        &self,
        order: &Order,
        password: Option<&str>,
        now_ms: i64,
    ) -> Result<Answer, Unreachable> {
        let ttl_seconds = ((order.expires_ms - now_ms) / 1_000 + GRACE_SECONDS).clamp(1, MAX_TTL_SECONDS);
        let mut body = json!({
            "order_no": order.order_no, "sku": order.sku, "qty": order.qty, "ttl_seconds": ttl_seconds,
        });
        if let Some(password) = password {
            body["query_password"] = json!(password);
        }
        let answer = self.call(Method::POST, "/v1/reservations", Some(body)).await?;
        if !answer.status().is_success() {
            return refused(answer).await;
        }
        let state: Value = answer.json().await?;
        match state["status"].as_str() {
            Some("reserved" | "issued") => Ok(Answer::Done),
            // An earlier call reserved, and that has been given back since.
            Some("released" | "expired") => Ok(Answer::Refused("RESERVATION_LOST".to_owned())),
            other => Err(Unreachable(format!("it answered with the state {other:?}"))),
        }
    }

    /// Issues the keys of an order.
    pub(super) async fn allocate(&self, order: &Order) -> Result<Answer, Unreachable> {
        let body = json!({ "order_no": order.order_no, "sku": order.sku, "qty": order.qty });
        let answer = self.call(Method::POST, "/v1/allocations", Some(body)).await?;
        if answer.status().is_success() { Ok(Answer::Done) } else { refused(answer).await }
    }

    /// Gives the keys of an order back.
    pub(super) async fn release(&self, order_no: &str) -> Result<Answer, Unreachable> {
        let answer = self.call(Method::DELETE, &format!("/v1/reservations/{order_no}"), None).await?;
        if answer.status().is_success() { Ok(Answer::Done) } else { refused(answer).await }
    }

    /// The keys of an order for whoever knows the password: status, `Retry-After` and body as they came.
    pub(super) async fn query(
        &self,
        order_no: &str,
        password: &str,
    ) -> Result<(StatusCode, Option<u64>, Bytes), Unreachable> {
        let body = json!({ "query_password": password });
        let answer = self.call(Method::POST, &format!("/v1/orders/{order_no}/query"), Some(body)).await?;
        if answer.status().is_server_error() {
            return Err(Unreachable(format!("it answered {}", answer.status())));
        }
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        Ok((answer.status(), retry_after, answer.bytes().await?))
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Result<Response> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).timeout(TIMEOUT);
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await
    }
}

/// A 4xx is final, except for those that say "later".
async fn refused(answer: Response) -> Result<Answer, Unreachable> {
    let status = answer.status();
    let later = matches!(status.as_u16(), 408 | 425 | 429);
    if !status.is_client_error() || later {
        return Err(Unreachable(format!("it answered {status}")));
    }
    let problem: Value = answer.json().await?;
    let code = problem["code"].as_str().ok_or_else(|| Unreachable(format!("it answered {status} without a code")))?;
    Ok(Answer::Refused(code.to_owned()))
}
