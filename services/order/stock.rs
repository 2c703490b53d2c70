//! The card-key service as seen from here: the catalogue, and keys reserved, issued, released and shown by order number.
//!
//! Every call is idempotent by the order number, so whatever is in doubt is simply done again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::model::Order;

/// How long the catalogue is shown without asking again.
const CATALOGUE_FRESH_MS: i64 = 1_000;

/// How long one call may take. The service answers in milliseconds; what takes longer is in trouble.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How much longer than the order the reservation holds: time to close a payment at its channel.
const GRACE_SECONDS: i64 = 300;

/// The longest the card-key service holds a reservation, in seconds.
const MAX_TTL_SECONDS: i64 = 3_600;

/// The service could not be asked, or its answer made no sense. Asking again is right.
#[derive(Debug, thiserror::Error)]
#[error("the card-key service did not answer: {0}")]
pub(super) struct Unreachable(String);

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
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Product {
    sku: String,
    /// Minor units.
    pub(super) price: i64,
    pub(super) currency: String,
    /// Free keys when the catalogue was read.
    pub(super) stock: u64,
}

/// The catalogue at one moment.
#[derive(Debug)]
pub(super) struct Catalogue {
    /// As the card-key service sent it.
    pub(super) body: Bytes,
    products: HashMap<String, Product>,
    read_ms: i64,
}

impl Catalogue {
    /// The product with this SKU.
    pub(super) fn product(&self, sku: &str) -> Option<&Product> {
        self.products.get(sku)
    }

    /// Whether it was read after this moment.
    pub(super) fn was_read_after(&self, moment_ms: i64) -> bool {
        self.read_ms > moment_ms
    }

    /// Whether its stock figures can be relied on.
    pub(super) fn is_fresh(&self, now_ms: i64) -> bool {
        is_fresh(self.read_ms, now_ms)
    }
}

/// What was read after now was read before the clock was set back; it may be any age.
pub(super) fn is_fresh(read_ms: i64, now_ms: i64) -> bool {
    (0..CATALOGUE_FRESH_MS).contains(&now_ms.saturating_sub(read_ms))
}

/// Talks to one card-key service.
pub(super) struct Stock {
    base: String,
    client: Client,
    latest: RwLock<Option<Arc<Catalogue>>>,
    /// Held by the one who reads the catalogue; the others wait for his result.
    reading: Mutex<()>,
}

impl Stock {
    pub(super) fn new(base: &str, client: Client) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        Self { base, client, latest: RwLock::new(None), reading: Mutex::new(()) }
    }

    /// The catalogue, at most a second old; the last known one when the service cannot be asked.
    ///
    /// # Errors
    /// When it cannot be asked and never could.
    pub(super) async fn catalogue(&self, now_ms: i64) -> Result<Arc<Catalogue>, Unreachable> {
        if let Some(fresh) = self.latest(now_ms) {
            return Ok(fresh);
        }
        let _one_at_a_time = self.reading.lock().await;
        if let Some(fresh) = self.latest(now_ms) {
            return Ok(fresh);
        }
        match self.read_catalogue(now_ms).await {
            Ok(catalogue) => {
                let catalogue = Arc::new(catalogue);
                *self.latest.write() = Some(Arc::clone(&catalogue));
                Ok(catalogue)
            }
            // Names and prices hardly change; an old catalogue is better than an empty shop.
            Err(error) => self.latest.read().clone().ok_or(error),
        }
    }

    fn latest(&self, now_ms: i64) -> Option<Arc<Catalogue>> {
        self.latest.read().clone().filter(|catalogue| catalogue.is_fresh(now_ms))
    }

    async fn read_catalogue(&self, now_ms: i64) -> Result<Catalogue, Unreachable> {
        #[derive(Deserialize)]
        struct Products {
            products: Vec<Product>,
        }
        let answer = self.call(Method::GET, "/v1/products", None).await?;
        let body = answer.error_for_status()?.bytes().await?;
        let Products { products } = serde_json::from_slice(&body).map_err(|error| Unreachable(error.to_string()))?;
        let products = products.into_iter().map(|product| (product.sku.clone(), product)).collect();
        Ok(Catalogue { body, products, read_ms: now_ms })
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
