//! The card-key service over HTTP: nothing sold twice, nothing lost in a crash, nothing in clear on disk.

mod batches;
mod buyer;
mod crash;
mod hook;
mod load;
mod seller;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_services::card_key::{self, KeySource, Settings};
use tidegate_services::support::{Running, Secret, signature, unix_ms};

/// Signs paid events in these tests.
const HOOK_SECRET: &str = "the hook of these tests";

/// A service inside the test process, and a client for it.
struct Shop {
    base: String,
    client: Client,
    running: Running,
}

impl Shop {
    async fn start(folder: &Path) -> Self {
        let settings = Settings {
            listen: "127.0.0.1:0".parse().expect("an address"),
            data_dir: folder.to_owned(),
            key: KeySource::DataDir,
            seed_demo: false,
            hook_secret: Some(Secret::new(HOOK_SECRET)),
            admin_token: None,
            sweep_every: Duration::from_millis(50),
        };
        let running = card_key::start(settings).await.expect("the service starts");
        Self { base: format!("http://{}", running.address), client: Client::new(), running }
    }

    fn caller(&self) -> Caller {
        Caller { base: self.base.clone(), client: self.client.clone() }
    }

    async fn stop(self) {
        drop(self.client);
        self.running.stop();
        self.running.wait().await;
    }
}

/// Talks to a service wherever it runs.
#[derive(Clone)]
struct Caller {
    base: String,
    client: Client,
}

impl Caller {
    async fn try_send(&self, method: Method, path: &str, body: Value) -> reqwest::Result<(StatusCode, Value)> {
        let answer = self.client.request(method, format!("{}{path}", self.base)).json(&body).send().await?;
        let status = answer.status();
        Ok((status, serde_json::from_slice(&answer.bytes().await?).unwrap_or(Value::Null)))
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        self.try_send(method, path, body).await.expect("the service answers")
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::POST, path, body).await
    }

    /// The same by a seller, who says who he is and why.
    async fn operate(&self, path: &str, mut body: Value) -> (StatusCode, Value) {
        body["operator"] = json!("olga");
        body["reason"] = json!("a test");
        self.post(path, body).await
    }

    async fn product(&self, sku: &str) {
        self.product_with(sku, json!({})).await;
    }

    async fn product_with(&self, sku: &str, policy: Value) {
        let product = json!({
            "sku": sku, "name_zh": "卡", "name_en": "card", "price": 100, "currency": "CNY", "policy": policy,
        });
        let answer = self.post("/admin/products", product).await;
        assert_eq!(answer.0, StatusCode::OK, "{answer:?}");
    }

    /// Sends a paid event as an order service does.
    async fn try_paid(&self, event: &str, order_no: &str, sku: &str, qty: u32) -> reqwest::Result<(StatusCode, Value)> {
        let body = json!({ "event_id": event, "order_no": order_no, "sku": sku, "qty": qty }).to_string();
        let seconds = u64::try_from(unix_ms() / 1_000).expect("after 1970");
        let signature = signature::sign(HOOK_SECRET.as_bytes(), seconds, body.as_bytes());
        let url = format!("{}/v1/hooks/paid", self.base);
        let answer = self.client.post(url).header("x-tidegate-signature", signature).body(body).send().await?;
        let status = answer.status();
        Ok((status, serde_json::from_slice(&answer.bytes().await?).unwrap_or(Value::Null)))
    }

    async fn paid(&self, event: &str, order_no: &str, sku: &str, qty: u32) -> (StatusCode, Value) {
        self.try_paid(event, order_no, sku, qty).await.expect("the service answers")
    }

    /// Keys of a product by state: free, reserved, sold, shared, paused, recycled.
    async fn stock(&self, sku: &str) -> [i64; 6] {
        let (status, stock) = self.get(&format!("/admin/stock/{sku}")).await;
        assert_eq!(status, StatusCode::OK);
        ["free", "reserved", "sold", "shared", "paused", "recycled"]
            .map(|state| stock[state].as_i64().expect("a figure"))
    }

    /// The id of the batch with this name.
    async fn batch(&self, sku: &str, name: &str) -> i64 {
        let (_, found) = self.get(&format!("/admin/batches?sku={sku}&name={name}")).await;
        found["batches"][0]["id"].as_i64().expect("there is such a batch")
    }

    /// Imports and returns all reports, the last one last.
    async fn import(&self, sku: &str, dedupe: &str, text: String) -> Vec<Value> {
        let url = format!("{}/admin/skus/{sku}/keys:import?batch=b&dedupe={dedupe}", self.base);
        let answer = self.client.post(url).body(text).send().await.expect("the service answers");
        assert_eq!(answer.status(), StatusCode::OK);
        let text = answer.text().await.expect("the reports arrive");
        text.lines().map(|line| serde_json::from_str(line).expect("a report is JSON")).collect()
    }

    async fn reserve(&self, order_no: &str, sku: &str, qty: u32) -> (StatusCode, Value) {
        let body = json!({ "order_no": order_no, "sku": sku, "qty": qty, "query_password": pass(order_no) });
        self.send(Method::POST, "/v1/reservations", body).await
    }

    async fn allocate(&self, order_no: &str, sku: &str, qty: u32) -> (StatusCode, Value) {
        let body = json!({ "order_no": order_no, "sku": sku, "qty": qty });
        self.send(Method::POST, "/v1/allocations", body).await
    }

    async fn query(&self, order_no: &str, password: &str) -> (StatusCode, Value) {
        let body = json!({ "query_password": password });
        self.send(Method::POST, &format!("/v1/orders/{order_no}/query"), body).await
    }

    async fn keys(&self, order_no: &str) -> Vec<String> {
        let (status, answer) = self.query(order_no, &pass(order_no)).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let keys = answer["keys"].as_array().expect("a list of keys");
        keys.iter().map(|key| key.as_str().expect("a key is text").to_owned()).collect()
    }

    async fn assert_sound(&self) {
        let (status, answer) = self.get("/admin/invariants").await;
        assert_eq!((status, answer), (StatusCode::OK, json!({ "violations": [] })));
    }
}

fn pass(order_no: &str) -> String {
    format!("password of {order_no}")
}

fn made_up(count: usize) -> String {
    (0..count).map(|n| format!("CARD-{n:06}\n")).collect()
}

fn code(answer: &(StatusCode, Value)) -> (u16, &str) {
    (answer.0.as_u16(), answer.1["code"].as_str().unwrap_or(""))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_buyers_get_exactly_the_hundred_keys_there_are() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("flash").await;
    caller.import("flash", "reject", made_up(100)).await;
    let buyers: Vec<_> = (0..1_000)
        .map(|n| {
            let caller = caller.clone();
            tokio::spawn(async move {
                let order_no = format!("order-{n}");
                let reserved = caller.reserve(&order_no, "flash", 1).await;
                if reserved.0 != StatusCode::CREATED {
                    assert_eq!(code(&reserved), (409, "OUT_OF_STOCK"));
                    return None;
                }
                // Twice at once, as an order service that lost the answer would.
                let (one, two) =
                    tokio::join!(caller.allocate(&order_no, "flash", 1), caller.allocate(&order_no, "flash", 1));
                assert_eq!((one.0, two.0), (StatusCode::OK, StatusCode::OK));
                assert_ne!(one.1["replayed"], two.1["replayed"]);
                Some(caller.keys(&order_no).await)
            })
        })
        .collect();
    let mut sold = Vec::new();
    for buyer in buyers {
        sold.extend(buyer.await.expect("no buyer panics").unwrap_or_default());
    }
    assert_eq!(sold.len(), 100);
    assert_eq!(sold.iter().collect::<HashSet<_>>().len(), 100);
    let (_, stock) = caller.get("/admin/stock/flash").await;
    assert_eq!(stock["sold"], 100);
    assert_eq!(stock["free"], 0);
    assert_eq!(caller.get("/v1/products/flash").await.1["band"], "sold_out");
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn a_reservation_is_repeatable_releasable_and_never_changes_its_meaning() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(3)).await;
    let first = caller.reserve("a", "card", 2).await;
    assert_eq!(first.0, StatusCode::CREATED);
    assert_eq!(caller.reserve("a", "card", 2).await, (StatusCode::OK, first.1));
    assert_eq!(code(&caller.reserve("a", "card", 1).await), (422, "RESERVATION_MISMATCH"));
    assert_eq!(code(&caller.reserve("b", "card", 2).await), (409, "OUT_OF_STOCK"));
    assert_eq!(code(&caller.reserve("b", "nothing", 1).await), (404, "UNKNOWN_SKU"));
    assert_eq!(code(&caller.reserve("b", "card", 11).await), (400, "INVALID_REQUEST"));
    for _ in 0..2 {
        assert_eq!(caller.send(Method::DELETE, "/v1/reservations/a", Value::Null).await.0, StatusCode::NO_CONTENT);
    }
    assert_eq!(caller.reserve("b", "card", 3).await.0, StatusCode::CREATED);
    assert_eq!(code(&caller.allocate("a", "card", 2).await), (409, "OUT_OF_STOCK"));
    assert_eq!(caller.allocate("b", "card", 3).await.1["allocated"], 3);
    assert_eq!(code(&caller.send(Method::DELETE, "/v1/reservations/b", Value::Null).await), (409, "ALREADY_ALLOCATED"));
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn a_reservation_that_runs_out_returns_its_stock() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(1)).await;
    let body = json!({ "order_no": "slow", "sku": "card", "qty": 1, "ttl_seconds": 1 });
    assert_eq!(caller.send(Method::POST, "/v1/reservations", body).await.0, StatusCode::CREATED);
    assert_eq!(caller.get("/v1/products/card").await.1["stock"], 0);
    let mut stock = Value::Null;
    for _ in 0..100 {
        stock = caller.get("/v1/products/card").await.1["stock"].clone();
        if stock == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stock, 1);
    // Paid late, and there is stock: delivered all the same.
    assert_eq!(caller.allocate("slow", "card", 1).await.0, StatusCode::OK);
    caller.assert_sound().await;
    shop.stop().await;
}

#[tokio::test]
async fn keys_are_shown_to_the_right_password_only_and_guessing_is_stopped() {
    let folder = TempDir::new().expect("a folder");
    let shop = Shop::start(folder.path()).await;
    let caller = shop.caller();
    caller.product("card").await;
    caller.import("card", "reject", made_up(2)).await;
    caller.reserve("a", "card", 2).await;
    assert!(caller.keys("a").await.is_empty());
    let issued = caller.allocate("a", "card", 2).await;
    assert!(!issued.1.to_string().contains("CARD-"), "the answer to the order service holds a key");
    assert_eq!(caller.keys("a").await, ["CARD-000000", "CARD-000001"]);

    let url = format!("{}/v1/orders/a/keys.txt", shop.base);
    let file = shop.client.get(&url).header("x-query-password", pass("a")).send().await.expect("an answer");
    assert_eq!(file.headers()["cache-control"], "no-store");
    assert_eq!(file.headers()["content-disposition"], "attachment; filename=\"keys-a.txt\"");
    assert_eq!(file.text().await.expect("text"), "CARD-000000\nCARD-000001\n");

    assert_eq!(code(&caller.query("unknown", "whatever").await), (403, "WRONG_PASSWORD"));
    for _ in 0..10 {
        assert_eq!(code(&caller.query("a", "guess").await), (403, "WRONG_PASSWORD"));
    }
    assert_eq!(code(&caller.query("a", &pass("a")).await), (429, "TOO_MANY_ATTEMPTS"));
    shop.stop().await;
}
