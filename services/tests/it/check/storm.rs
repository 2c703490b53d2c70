//! A sale during which the order service, the card-key service and the channel are killed in turn, and the channel loses
//! answers and notifications. Afterwards all files are asked together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::check;
use crate::process::Process;

/// The services in the order in which they are killed.
const SERVICES: [&str; 3] = ["order", "card-key", "channel-simulator"];

/// Kills of each.
const KILLS: usize = 4;

/// The services, each at an address that it keeps.
struct Street {
    folder: PathBuf,
    addresses: [String; 3],
    processes: Vec<Option<Process>>,
}

impl Street {
    fn open(folder: &Path) -> Self {
        let plan = json!({ "seed": 11, "callback": { "drop_ratio": 0.3, "duplicate_ratio": 0.3, "bad_signature_ratio": 0.2 },
            "faults": [
                { "kind": "charge_then_rst", "on": "confirm", "ratio": 0.1 },
                { "kind": "charge_then_500", "on": "confirm", "ratio": 0.1 },
                { "kind": "rst_after_n_bytes", "ratio": 0.05, "bytes": 60 },
                { "kind": "truncate", "on": "create", "ratio": 0.1 },
                { "kind": "bad_json", "on": "create", "ratio": 0.1 },
                { "kind": "decline_hard", "on": "create", "ratio": 0.05 },
            ] });
        std::fs::write(folder.join("plan.json"), plan.to_string()).expect("written");
        let probes = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port"));
        let addresses = probes.map(|probe| probe.local_addr().expect("an address").to_string());
        let mut street = Self { folder: folder.to_owned(), addresses, processes: vec![None, None, None] };
        for which in [2, 1, 0] {
            street.start(which);
        }
        street
    }

    fn url(&self, which: usize) -> String {
        format!("http://{}", self.addresses[which])
    }

    fn start(&mut self, which: usize) {
        let (order, keys, channel) = (self.url(0), self.url(1), self.url(2));
        let plan = self.folder.join("plan.json").display().to_string();
        let more: Vec<&str> = match which {
            0 => vec![
                "--shards",
                "4",
                "--card-key",
                &keys,
                "--egress",
                &channel,
                "--public-url",
                &order,
                "--sweep-every-ms",
                "50",
                "--channel-timeout",
                "2",
                "--not-found-min-age",
                "2",
            ],
            1 => vec![],
            _ => vec!["--name", "alipay", "--plan", &plan, "--time-scale", "0.01"],
        };
        self.processes[which] = Some(Process::start_at(SERVICES[which], &self.addresses[which], &self.folder, &more));
    }

    fn kill(&mut self, which: usize) {
        self.processes[which].take().expect("it runs").kill();
        self.start(which);
    }
}

/// Sends a request; absent when nobody answers, or not with JSON.
async fn send(client: &Client, method: Method, url: &str, token: &str, key: &str, body: Value) -> Option<(u16, Value)> {
    let request = client.request(method, url).bearer_auth(token).header("idempotency-key", key).json(&body);
    let answer = request.timeout(Duration::from_secs(5)).send().await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.json().await.ok()?))
}

/// Orders and pays until it is over; answers the orders that were acknowledged.
async fn buy(order: String, over: Arc<AtomicBool>) -> Vec<String> {
    let client = Client::new();
    let (mut told, mut token) = (Vec::new(), String::new());
    let mut n = 0;
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if token.is_empty() {
            let session = send(&client, Method::POST, &format!("{order}/api/session"), "", "s", Value::Null).await;
            token = session.and_then(|(_, session)| Some(session["token"].as_str()?.to_owned())).unwrap_or_default();
            continue;
        }
        // The same key until it is acknowledged.
        let wanted = json!({ "sku": "card", "query_password": "secret-99" });
        let placed = send(&client, Method::POST, &format!("{order}/api/orders"), &token, &n.to_string(), wanted).await;
        let Some((201, placed)) = placed else { continue };
        n += 1;
        let order_no = placed["order_no"].as_str().expect("a number").to_owned();
        let path = format!("{order}/api/orders/{order_no}");
        told.push(order_no);
        let by = json!({ "channel": "alipay" });
        let paying = send(&client, Method::POST, &format!("{path}/payments"), &token, "p", by).await;
        let payment = paying.and_then(|(_, payment)| Some(payment["payment_no"].as_str()?.to_owned()));
        match (payment, n % 5) {
            // One gives up, one never pays.
            (_, 3) => drop(send(&client, Method::POST, &format!("{path}/cancel"), &token, "c", Value::Null).await),
            (Some(payment), 0..=2) => {
                let confirm = format!("{path}/payments/{payment}/confirm");
                drop(send(&client, Method::POST, &confirm, &token, "y", Value::Null).await);
            }
            _ => {}
        }
    }
    told
}

/// Waits until nothing is left to be done but what waits for payers; answers how things stand.
async fn settled(order: &str) -> Value {
    let client = Client::new();
    let mut seen = Value::Null;
    for _ in 0..600 {
        let check = send(&client, Method::GET, &format!("{order}/admin/check"), "", "", Value::Null).await;
        if let Some((_, check)) = check {
            let states = ["CREATING", "CLOSING", "PAID", "REFUNDING"].map(|state| check["orders"][state].as_i64());
            let open = ["CREATED", "UNKNOWN"].map(|state| check["payments"][state].as_i64());
            let idle = check["outbox"] == 0 && check["events"] == json!([0, 0, 0]);
            seen = check;
            if idle && states.iter().chain(&open).all(|count| *count == Some(0)) {
                return seen;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(seen.is_null(), "not settled: {seen}");
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_storm_of_kills_and_faults_all_books_agree() {
    let folder = TempDir::new().expect("a folder");
    let mut street = Street::open(folder.path());
    let keys = street.url(1);
    let product = json!({ "sku": "card", "name_zh": "卡", "name_en": "card", "price": 4_900, "currency": "CNY" });
    let client = Client::new();
    let put = send(&client, Method::POST, &format!("{keys}/admin/products"), "", "", product).await;
    assert_eq!(put.expect("an answer").0, 200);
    let text: String = (0..20_000).map(|n| format!("CARD-{n:06}\n")).collect();
    let import = client.post(format!("{keys}/admin/skus/card/keys:import")).body(text).send().await;
    import.expect("an answer").text().await.expect("a report");

    let over = Arc::new(AtomicBool::new(false));
    let buyers: Vec<_> = (0..8).map(|_| tokio::spawn(buy(street.url(0), Arc::clone(&over)))).collect();
    for kill in 0..SERVICES.len() * KILLS {
        tokio::time::sleep(Duration::from_millis(400)).await;
        street = tokio::task::spawn_blocking(move || {
            street.kill(kill % SERVICES.len());
            street
        })
        .await
        .expect("it starts again");
    }
    over.store(true, Ordering::Relaxed);
    let mut told = Vec::new();
    for buyer in buyers {
        told.extend(buyer.await.expect("no buyer panics"));
    }
    let stands = settled(&street.url(0)).await;
    assert_eq!(stands["violations"], json!([]));
    let delivered = stands["orders"]["DELIVERED"].as_i64().expect("a number");
    assert!(told.len() > 30 && delivered > 10, "{} orders, {delivered} delivered", told.len());
    for process in street.processes.iter_mut().filter_map(Option::take) {
        assert!(process.terminate().success());
    }
    let list = folder.path().join("told.txt");
    std::fs::write(&list, told.join("\n")).expect("written");
    let (code, text) = check(folder.path(), &["--acknowledged", list.to_str().expect("text")]);
    assert_eq!(code, 0, "{text}");
}
