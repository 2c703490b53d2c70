//! The order service over HTTP, with a real card-key service behind it and a scripted payment channel.

pub(crate) mod abroad;
mod anywhere;
mod bills;
mod channel;
mod crash;
mod dialects;
mod doubts;
mod engine;
mod events;
mod ordering;
mod paying;
mod waiting;

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_services::accounts;
use tidegate_services::card_key::{self, KeySource};
use tidegate_services::order::{self, DEFAULT_JWT_SECRET, Settings};
use tidegate_services::support::signature::DEVELOPMENT_SECRET;
use tidegate_services::support::{Files, Running, Secret, unix_ms};

use channel::{Bank, notice};

/// How the tests run an order service: four files, and no patience.
fn settings(folder: &Path, card_key: &str, egress: &str) -> Settings {
    let shards = Files::new(4).expect("allowed");
    Settings {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: folder.to_owned(),
        card_key: card_key.to_owned(),
        egress: egress.to_owned(),
        public_url: "http://127.0.0.1:1".to_owned(),
        jwt_secret: Secret::new(DEFAULT_JWT_SECRET),
        channel_secret: Secret::new(DEVELOPMENT_SECRET),
        sale: "not-here".to_owned(),
        merchants: None,
        pay_within: Duration::from_secs(60),
        channel_timeout: Duration::from_millis(400),
        answer_within: Duration::from_millis(200),
        not_found_min_age: Duration::from_millis(500),
        retry_unit: Duration::from_millis(30),
        preheat: Vec::new(),
        sweep_every: Duration::from_millis(25),
        shards,
        max_batch: 512,
        accounts: accounts::Settings::new(shards),
    }
}

/// An answer: status, the header that marks a repetition, body.
pub(crate) type Answer = (u16, bool, Value);

/// Everything a test needs, inside its process.
pub(crate) struct Street {
    pub(crate) folder: TempDir,
    keys: String,
    bank: Bank,
    pub(crate) caller: Caller,
    services: Vec<Running>,
}

impl Street {
    /// A card-key service with `stock` keys of `card`, a channel, and an order service changed by `change`.
    pub(crate) async fn open(stock: usize, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (card_key, keys) = sell_keys(folder.path(), stock).await;
        let (bank, egress) = Bank::start().await;
        let mut settings = settings(folder.path(), &keys, &egress);
        change(&mut settings);
        let order = order::start(settings).await.expect("the service starts");
        let caller = Caller::new(&format!("http://{}", order.address)).await;
        Self { folder, keys, bank, caller, services: vec![card_key, order] }
    }

    /// Free, reserved and sold keys.
    async fn stock(&self) -> [u64; 3] {
        let (_, _, stock) = ask(&Client::new(), Method::GET, &format!("{}/admin/stock/card", self.keys)).await;
        ["free", "reserved", "sold"].map(|state| stock[state].as_u64().expect("a number"))
    }

    /// Sends a notification about a payment of the bank as the channel would.
    async fn notify(&self, notify_id: &str, payment_no: &str) -> Answer {
        let payment = self.bank.truth().payments[payment_no].clone();
        let (body, signature) = notice(notify_id, &payment, unix_ms() / 1_000);
        self.caller.notify("alipay", body, &signature).await
    }

    /// The payer pays and the channel says so, which must be taken in.
    async fn charge_and_tell(&self, notify_id: &str, payment_no: &str) {
        self.bank.charge(payment_no);
        assert_eq!(self.notify(notify_id, payment_no).await.0, 200);
    }

    /// An order that is paid and delivered; answers its number and its payment's.
    async fn sold(&self, key: &str) -> (String, String) {
        let order_no = self.caller.ordered(key).await;
        let payment_no = self.caller.paying(&order_no).await;
        self.charge_and_tell(key, &payment_no).await;
        self.caller.until(&order_no, "DELIVERED").await;
        (order_no, payment_no)
    }

    /// An order whose first payment was closed and whose second one waits for the payer; answers all numbers.
    async fn paying_again(&self, key: &str) -> (String, String, String) {
        let order_no = self.caller.ordered(key).await;
        let first = self.caller.paying(&order_no).await;
        self.caller.closed(&order_no, &first).await;
        let second = self.caller.paying(&order_no).await;
        (order_no, first, second)
    }

    /// Where the order service listens.
    pub(crate) fn base(&self) -> &str {
        &self.caller.base
    }

    /// The data folder of the order service.
    pub(crate) fn data(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn bank(&self) -> &Bank {
        &self.bank
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Checks both services and ends them.
    pub(crate) async fn close(self) {
        self.caller.assert_sound().await;
        let (_, _, answer) = ask(&Client::new(), Method::GET, &format!("{}/admin/invariants", self.keys)).await;
        assert_eq!(answer, json!({ "violations": [] }));
        drop(self.caller);
        self.services.iter().for_each(Running::stop);
        for service in self.services {
            service.wait().await;
        }
        drop(self.folder);
    }
}

/// A card-key service with `stock` keys of `card` at 4900 fen.
async fn sell_keys(folder: &Path, stock: usize) -> (Running, String) {
    let settings = card_key::Settings {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data_dir: folder.to_owned(),
        key: KeySource::DataDir,
        seed_demo: false,
        hook_secret: None,
        admin_token: None,
        sweep_every: Duration::from_millis(50),
    };
    let running = card_key::start(settings).await.expect("the service starts");
    let base = format!("http://{}", running.address);
    let client = Client::new();
    let product = json!({ "sku": "card", "name_zh": "卡", "name_en": "card", "price": 4_900, "currency": "CNY" });
    let sent = client.post(format!("{base}/admin/products")).json(&product).send().await.expect("an answer");
    assert_eq!(sent.status(), StatusCode::OK);
    let text: String = (0..stock).map(|n| format!("CARD-{n:06}\n")).collect();
    let import = client.post(format!("{base}/admin/skus/card/keys:import")).body(text).send().await;
    import.expect("an answer").text().await.expect("reports");
    (running, base)
}

async fn ask(client: &Client, method: Method, url: &str) -> Answer {
    answer(client.request(method, url)).await.expect("an answer")
}

async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let answer = request.send().await?;
    let (status, again) = (answer.status().as_u16(), answer.headers().contains_key("idempotent-replayed"));
    Ok((status, again, serde_json::from_slice(&answer.bytes().await?).unwrap_or(Value::Null)))
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.0, answer.2["code"].as_str().unwrap_or(""))
}

/// A buyer.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) base: String,
    client: Client,
    token: String,
}

impl Caller {
    async fn new(base: &str) -> Self {
        let client = Client::new();
        let (status, _, session) = ask(&client, Method::POST, &format!("{base}/api/session")).await;
        assert_eq!(status, 200);
        let token = session["token"].as_str().expect("a token").to_owned();
        Self { base: base.to_owned(), client, token }
    }

    async fn try_send(&self, method: Method, path: &str, key: &str, body: Value) -> reqwest::Result<Answer> {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        answer(request.json(&body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.try_send(Method::GET, path, "", Value::Null).await.expect("the service answers")
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.try_send(Method::POST, path, "", body).await.expect("the service answers")
    }

    async fn order(&self, key: &str, qty: u32) -> Answer {
        let body = json!({ "sku": "card", "qty": qty, "query_password": "secret-99" });
        self.try_send(Method::POST, "/api/orders", key, body).await.expect("the service answers")
    }

    /// Places an order that must succeed; answers its number.
    pub(crate) async fn ordered(&self, key: &str) -> String {
        let placed = self.order(key, 1).await;
        assert_eq!((placed.0, &placed.2["status"]), (201, &json!("PENDING_PAYMENT")), "{}", placed.2);
        placed.2["order_no"].as_str().expect("a number").to_owned()
    }

    async fn pay(&self, order_no: &str, channel: &str) -> Answer {
        self.post(&format!("/api/orders/{order_no}/payments"), json!({ "channel": channel })).await
    }

    /// Starts a payment that must wait for the payer; answers its number.
    pub(crate) async fn paying(&self, order_no: &str) -> String {
        let started = self.pay(order_no, "alipay").await;
        assert_eq!((started.0, &started.2["status"]), (201, &json!("PENDING")), "{}", started.2);
        started.2["payment_no"].as_str().expect("a number").to_owned()
    }

    /// Has a payment closed, which must succeed.
    async fn closed(&self, order_no: &str, payment_no: &str) {
        let close = format!("/api/orders/{order_no}/payments/{payment_no}/close");
        assert_eq!(self.post(&close, Value::Null).await.2["status"], "CLOSED");
    }

    async fn notify(&self, channel: &str, body: String, signature: &str) -> Answer {
        let request = self.client.post(format!("{}/notify/{channel}", self.base)).body(body);
        answer(request.header("x-channel-signature", signature)).await.expect("the service answers")
    }

    async fn keys(&self, order_no: &str, password: &str) -> Answer {
        self.post(&format!("/api/orders/{order_no}/keys"), json!({ "query_password": password })).await
    }

    /// Waits until the order is in this state; answers it.
    pub(crate) async fn until(&self, order_no: &str, status: &str) -> Value {
        let mut order = Value::Null;
        for _ in 0..400 {
            order = self.get(&format!("/api/orders/{order_no}")).await.2;
            if order["status"] == status {
                return order;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(order["status"], status, "not in time: {order}");
        order
    }

    pub(crate) async fn check(&self) -> Value {
        self.get("/admin/check").await.2
    }

    async fn assert_sound(&self) {
        assert_eq!(self.check().await["violations"], json!([]));
    }
}

/// The kinds of events in an order's history.
fn history(order: &Value) -> Vec<&str> {
    order["events"].as_array().expect("a list").iter().filter_map(|event| event["kind"].as_str()).collect()
}
