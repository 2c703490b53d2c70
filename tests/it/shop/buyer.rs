//! A buyer who does not give up: every step is repeated, with the same key, until it has an answer that is final.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

const SECRET: &str = "development-only-secret-of-the-bundled-shop";
/// What is sold behind the waiting room.
const SALE: &str = "flash-100";
const PASSWORD: &str = "a-password";
/// Longest a buyer tries.
const PATIENCE: Duration = Duration::from_secs(300);

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The key that was delivered, and for which order.
    Key {
        order: String,
        key: String,
    },
    SoldOut,
}

pub(super) struct Buyer {
    client: Client,
    base: String,
    token: String,
    name: String,
}

/// A client with as many connections as buyers need at once.
pub(super) fn client() -> Client {
    Client::builder().timeout(Duration::from_secs(20)).pool_max_idle_per_host(200).build().expect("a client")
}

impl Buyer {
    pub(super) fn new(client: &Client, base: &str, name: &str) -> Self {
        let claims = json!({ "sub": name, "exp": 4_102_444_800_u64 });
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token");
        Self { client: client.clone(), base: base.to_owned(), token, name: name.to_owned() }
    }

    /// What it signs in with.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The key of its order.
    pub(super) fn key(&self) -> String {
        format!("{}-order", self.name)
    }

    /// One request; `None` when it may have had an effect or was asked to come back: try the same again.
    pub(super) async fn once(&self, method: Method, path: &str, body: Option<Value>) -> Option<(StatusCode, Value)> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        request = request.header("idempotency-key", self.key());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status();
        let body: Value = answer.json().await.ok()?;
        let told = body["waitingRoom"]["soldOut"] == true;
        let again = !told && (status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS);
        (!again).then_some((status, body))
    }

    async fn until_answered(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let (status, body, _) = self.until_answered_in_tries(method, path, body).await;
        (status, body)
    }

    /// The answer, and whether it is that to the first try.
    async fn until_answered_in_tries(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value, bool) {
        let begun = Instant::now();
        let mut pause = 50;
        for tries in 1.. {
            if let Some((status, answer)) = self.once(method.clone(), path, body.clone()).await {
                return (status, answer, tries == 1);
            }
            assert!(begun.elapsed() < PATIENCE, "{} never got an answer to {method} {path}", self.name);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            pause = (pause * 2).min(1_000);
        }
        unreachable!("a buyer tries until the patience is over")
    }

    /// The order of this buyer for a product, if there is one that is not given up.
    async fn order_of(&self, sku: &str) -> Option<Value> {
        let (status, seen) = self.until_answered(Method::GET, "/api/orders", None).await;
        assert_eq!(status, StatusCode::OK, "{seen}");
        let given_up = ["FAILED", "CANCELLED", "EXPIRED"];
        let mut orders = seen["orders"].as_array().expect("orders").iter();
        orders.find(|order| order["sku"] == sku && !given_up.iter().any(|end| order["status"] == *end)).cloned()
    }

    /// Buys one key.
    pub(super) async fn buy(&self, sku: &str, channel: &str) -> Ending {
        let wanted = json!({ "sku": sku, "qty": 1, "query_password": PASSWORD });
        let path = if sku == SALE { "/api/sale/orders" } else { "/api/orders" };
        let (mut status, mut order, first) = self.until_answered_in_tries(Method::POST, path, Some(wanted)).await;
        if order["waitingRoom"]["soldOut"] == true {
            // The room speaks to newcomers. Whether an earlier try was carried out, whose answer was lost, the shop knows.
            let placed = if first { None } else { self.order_of(sku).await };
            let Some(placed) = placed else { return Ending::SoldOut };
            (status, order) = (StatusCode::CREATED, placed);
        }
        if status == StatusCode::CONFLICT {
            assert_eq!(order["code"], "SOLD_OUT", "{order}");
            return Ending::SoldOut;
        }
        assert_eq!(status, StatusCode::CREATED, "{}: {order}", self.name);
        let number = order["order_no"].as_str().expect("a number").to_owned();
        self.pay(&number, channel).await;
        let path = format!("/api/orders/{number}/keys");
        let (status, keys) =
            self.until_answered(Method::POST, &path, Some(json!({ "query_password": PASSWORD }))).await;
        assert_eq!(status, StatusCode::OK, "{keys}");
        let keys = keys["keys"].as_array().expect("keys").clone();
        assert_eq!(keys.len(), 1, "{keys:?}");
        Ending::Key { order: number, key: keys[0].as_str().expect("a text").to_owned() }
    }

    /// Pays, whatever it takes: an acknowledged order must end as delivered.
    async fn pay(&self, order: &str, channel: &str) {
        let begun = Instant::now();
        loop {
            let path = format!("/api/orders/{order}");
            let (status, seen) = self.until_answered(Method::GET, &path, None).await;
            assert_eq!(status, StatusCode::OK, "an acknowledged order is gone: {order} {seen}");
            match seen["status"].as_str() {
                Some("DELIVERED") => return,
                Some("PENDING_PAYMENT") => self.push_payment(order, channel, &seen).await,
                Some("PAID" | "CREATING") => (),
                other => panic!("order {order} ended as {other:?}: {seen}"),
            }
            assert!(begun.elapsed() < PATIENCE, "order {order} is stuck: {seen}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn push_payment(&self, order: &str, channel: &str, seen: &Value) {
        let payments = seen["payments"].as_array().cloned().unwrap_or_default();
        let live = payments
            .iter()
            .rev()
            .find(|payment| matches!(payment["status"].as_str(), Some("CREATED" | "PENDING" | "UNKNOWN" | "SUCCESS")));
        let Some(payment) = live else {
            let wanted = Some(json!({ "channel": channel }));
            let _ = self.once(Method::POST, &format!("/api/orders/{order}/payments"), wanted).await;
            return;
        };
        if payment["status"] == "PENDING" {
            let number = payment["payment_no"].as_str().expect("a number");
            let _ = self.once(Method::POST, &format!("/api/orders/{order}/payments/{number}/confirm"), None).await;
        }
    }
}
