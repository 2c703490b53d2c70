//! Who buys, over HTTP through the gateway.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use jsonwebtoken::{EncodingKey, Header, encode};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::processes::Processes;
use crate::{Args, Failure};

/// The bundled shop's own.
const SECRET: &str = "development-only-secret-of-the-bundled-shop";

/// What is bought.
const SKU: &str = "orders";

/// What everybody does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    Order,
    Purchase,
}

/// What was done within the time.
pub(crate) struct Done {
    pub(crate) count: u64,
    pub(crate) took: Duration,
    /// How long each took, the shortest first.
    times: Vec<Duration>,
}

impl Done {
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        self.times.get(self.times.len() * 99 / 100).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
    }
}

/// Buyers. Each order is the next one's.
#[derive(Clone)]
pub(crate) struct Crowd {
    pub(crate) client: Client,
    gateway: String,
    clients: u32,
    duration: Duration,
    key: Arc<EncodingKey>,
    number: Arc<AtomicU64>,
    /// How many there are; after the last one the first comes again.
    people: u64,
}

impl Crowd {
    pub(crate) fn new(processes: &Processes, args: &Args) -> Result<Self, Failure> {
        Ok(Self {
            client: Client::builder().no_proxy().pool_max_idle_per_host(args.clients as usize).build()?,
            gateway: processes.url("gateway"),
            clients: args.clients,
            duration: args.duration.0,
            key: Arc::new(EncodingKey::from_secret(SECRET.as_bytes())),
            number: Arc::default(),
            people: args.people,
        })
    }

    /// The next one.
    pub(crate) fn buyer(&self) -> Result<Buyer, Failure> {
        let number = self.number.fetch_add(1, Relaxed);
        let claims = json!({ "sub": format!("buyer-{}", number % self.people), "exp": 4_102_444_800_u64 });
        let token = encode(&Header::default(), &claims, &self.key)?;
        Ok(Buyer { client: self.client.clone(), gateway: self.gateway.clone(), token, key: number.to_string() })
    }

    /// Puts keys of these numbers on the shelf.
    pub(crate) async fn stock(&self, processes: &Processes, numbers: Range<u64>) -> Result<(), Failure> {
        let shelf = processes.url("card-key");
        let product = json!({ "sku": SKU, "name_zh": SKU, "name_en": SKU, "price": 4_900, "currency": "CNY" });
        let url = format!("{shelf}/admin/products");
        self.client.post(url).json(&product).send().await?.error_for_status()?.bytes().await?;
        let keys: String = numbers.map(|n| format!("K-{n:07}\n")).collect();
        let url = format!("{shelf}/admin/skus/{SKU}/keys:import");
        let report = self.client.post(url).body(keys).send().await?.text().await?;
        if report.contains("aborted") { Err(report.into()) } else { Ok(()) }
    }

    /// Everybody does it as often as possible.
    pub(crate) async fn rush(&self, errand: Errand) -> Result<Done, Failure> {
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            let (crowd, duration) = (self.clone(), self.duration);
            clients.spawn(async move {
                let mut times = Vec::new();
                while begun.elapsed() < duration {
                    let buyer = crowd.buyer()?;
                    let started = Instant::now();
                    buyer.order().await?.finish(errand).await?;
                    times.push(started.elapsed());
                }
                Ok::<_, Failure>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(ended) = clients.join_next().await {
            times.extend(ended??);
        }
        let took = begun.elapsed();
        times.sort_unstable();
        Ok(Done { count: times.len() as u64, took, times })
    }
}

/// One of them.
pub(crate) struct Buyer {
    client: Client,
    gateway: String,
    token: String,
    /// Another one for every request that may be repeated.
    key: String,
}

/// A buyer whose order was taken.
pub(crate) struct Ordered {
    buyer: Buyer,
    path: String,
}

impl Buyer {
    /// # Errors
    /// When the order was not taken.
    pub(crate) async fn order(self) -> Result<Ordered, Failure> {
        let wanted = json!({ "sku": SKU, "qty": 1, "query_password": "a-password" });
        let order = self.ask(Method::POST, "/api/orders", Some(wanted)).await?;
        let number = order["order_no"].as_str().ok_or_else(|| format!("not ordered: {order}"))?;
        Ok(Ordered { path: format!("/api/orders/{number}"), buyer: self })
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let mut request = self.client.request(method, format!("{}{path}", self.gateway)).bearer_auth(&self.token);
        request = request.header("idempotency-key", &self.key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Ok(request.send().await?.error_for_status()?.json().await?)
    }
}

impl Ordered {
    /// Pays and waits for the keys, if that is the errand.
    ///
    /// # Errors
    /// When the payment did not succeed.
    pub(crate) async fn finish(self, errand: Errand) -> Result<(), Failure> {
        if errand == Errand::Order {
            return Ok(());
        }
        let (buyer, path) = (&self.buyer, &self.path);
        let paid = buyer.ask(Method::POST, &format!("{path}/payments"), Some(json!({ "channel": "any" }))).await?;
        if paid["status"] != "SUCCESS" {
            return Err(format!("not paid: {paid}").into());
        }
        while buyer.ask(Method::GET, path, None).await?["status"] != "DELIVERED" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}
