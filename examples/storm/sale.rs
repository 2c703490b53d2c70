//! Ten minutes of a sale: buyers come whatever has become of those before, shelves are filled when they are empty, and
//! money moves between accounts beside it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::{EncodingKey, Header, encode};
use parking_lot::Mutex;
use rand::Rng;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::Failure;
use crate::buyer::{Buyer, Ending, Habit, SALE};
use crate::processes::{CHANNELS, Processes};

/// The bundled shop's own.
const SECRET: &str = "development-only-secret-of-the-bundled-shop";
/// Longest anybody tries.
const PATIENCE: Duration = Duration::from_secs(150);
/// Keys that are put on the shelf when it is empty, and how often somebody looks. Buyers meet an empty shelf meanwhile.
const RESTOCK: u32 = 100;
const RESTOCK_EVERY: Duration = Duration::from_secs(2);
/// Accounts, what each is given, and how many transfers are under way.
const ACCOUNTS: usize = 12;
const DEPOSIT: i64 = 10_000;
const MOVERS: usize = 3;
/// Pause between two transfers, and before something is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// What the buyers were told, which is what the books are compared with.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) arrived: u64,
    pub(crate) endings: BTreeMap<Ending, u64>,
    /// Acknowledged orders and whose they are.
    pub(crate) orders: Vec<(String, Arc<Buyer>)>,
    last_order: Option<Instant>,
    longest_pause: Duration,
}

impl Told {
    /// The longest time in which nobody ordered, of the sale that ended at `end`.
    pub(crate) fn longest_pause(&self, end: Instant) -> Duration {
        let last = self.last_order.map_or(Duration::MAX, |last| end.saturating_duration_since(last));
        self.longest_pause.max(last)
    }

    fn ordered(&mut self, order: String, buyer: Arc<Buyer>) {
        let now = Instant::now();
        let pause = self.last_order.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.longest_pause = self.longest_pause.max(pause);
        self.orders.push((order, buyer));
    }
}

/// What is moved between accounts.
#[derive(Default)]
pub(crate) struct Moved {
    pub(crate) accounts: Vec<String>,
    pub(crate) deposited: i64,
    pub(crate) confirmed: u64,
    pub(crate) refused: u64,
}

/// A client with as many connections as are needed at once.
pub(crate) fn client() -> Result<Client, Failure> {
    Ok(Client::builder().no_proxy().timeout(Duration::from_secs(20)).pool_max_idle_per_host(200).build()?)
}

/// How much earlier than the last moment somebody agrees who pays late.
const SOONER: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_millis(1_500)];

/// Lets buyers come this far apart for a while, who have so long to pay; ends when all have left.
pub(crate) async fn sell(
    processes: &Arc<Processes>,
    client: &Client,
    [apart, lasts, pay_within]: [Duration; 3],
    told: &Arc<Mutex<Told>>,
) -> Result<(), Failure> {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let begun = Instant::now();
    let mut buyers = JoinSet::new();
    for number in 0_u32.. {
        let due = begun + apart * number;
        if due >= begun + lasts {
            break;
        }
        sleep_until(due.into()).await;
        let claims = json!({ "sub": format!("storm-{number}"), "exp": 4_102_444_800_u64 });
        let buyer = Buyer {
            client: client.clone(),
            base: processes.url("gateway"),
            wallets: CHANNELS.iter().map(|name| processes.url(name)).collect(),
            token: encode(&Header::default(), &claims, &key)?,
            key: format!("storm-{number}-order"),
            ticket: Mutex::default(),
            habit: Habit::of(number.into()),
            agrees_after: pay_within.saturating_sub(SOONER[number as usize / 20 % SOONER.len()]),
            until: Instant::now() + PATIENCE,
        };
        told.lock().arrived += 1;
        buyers.spawn(visit(Arc::new(buyer), Arc::clone(told)));
    }
    while let Some(ended) = buyers.join_next().await {
        ended?;
    }
    Ok(())
}

async fn visit(buyer: Arc<Buyer>, told: Arc<Mutex<Told>>) {
    let ending = match buyer.order().await {
        Ok(order) => {
            told.lock().ordered(order.clone(), Arc::clone(&buyer));
            let ending = buyer.follow(&order).await;
            if ending == Ending::Order("DELIVERED".to_owned()) {
                // They are looked at once more when everything is over.
                buyer.keys(&order).await;
            }
            ending
        }
        Err(ending) => ending,
    };
    buyer.leave().await;
    *told.lock().endings.entry(ending).or_default() += 1;
}

/// Fills the shelf whenever it is empty, for ever.
pub(crate) async fn restock(processes: Arc<Processes>, client: Client) {
    let (shelf, shop) = (processes.url("card-key"), processes.url("gateway"));
    for batch in 0_u64.. {
        let keys: String = (0..RESTOCK).map(|n| format!("STORM-{batch:04}-{n:04}\n")).collect();
        while free(&client, &shelf).await != Some(0) {
            // Whoever reads the catalogue through the gateway makes the waiting room hear that there is something again.
            let _ = client.get(format!("{shop}/api/products")).send().await;
            sleep(RESTOCK_EVERY).await;
        }
        loop {
            // The same keys until they are all there, whoever is killed meanwhile.
            let url = format!("{shelf}/admin/skus/{SALE}/keys:import?batch=storm-{batch}&dedupe=skip");
            let report = async { client.post(url).body(keys.clone()).send().await?.text().await };
            let done = report.await.is_ok_and(|report| report.contains("\"done\":true") && !report.contains("aborted"));
            if done {
                break;
            }
            sleep(PAUSE).await;
        }
    }
}

async fn free(client: &Client, shelf: &str) -> Option<i64> {
    let answer = client.get(format!("{shelf}/admin/stock/{SALE}")).send().await.ok()?;
    answer.json::<Value>().await.ok()?["free"].as_i64()
}

/// Opens accounts with money in them, and moves it about until `until`; every transfer is pursued to its end.
pub(crate) async fn move_money(bank: String, client: Client, until: Instant) -> Moved {
    let mut moved = Moved::default();
    for number in 0..ACCOUNTS {
        let wanted = json!({ "user_id": format!("holder-{number}"), "currency": "CNY" });
        let (_, account) = insist(&client, &format!("{bank}/v1/accounts"), "open", &wanted).await;
        let id = account["id"].as_str().unwrap_or_default().to_owned();
        insist(&client, &format!("{bank}/v1/accounts/{id}/deposits"), "first", &json!({ "amount": DEPOSIT })).await;
        moved.deposited += DEPOSIT;
        moved.accounts.push(id);
    }
    let mut movers = JoinSet::new();
    for mover in 0..MOVERS {
        let (bank, client, accounts) = (bank.clone(), client.clone(), moved.accounts.clone());
        movers.spawn(async move {
            let (mut confirmed, mut refused) = (0, 0);
            for number in 0_u32.. {
                if Instant::now() > until {
                    break;
                }
                let (from, to, amount) = {
                    let mut rng = rand::rng();
                    let from = rng.random_range(0..ACCOUNTS);
                    (from, (from + rng.random_range(1..ACCOUNTS)) % ACCOUNTS, rng.random_range(1..DEPOSIT))
                };
                let wanted = json!({ "from": accounts[from], "to": accounts[to], "amount": amount });
                let key = format!("move-{mover}-{number}");
                let (status, _) = insist(&client, &format!("{bank}/v1/transfers"), &key, &wanted).await;
                *(if status.is_success() { &mut confirmed } else { &mut refused }) += 1;
                sleep(PAUSE).await;
            }
            (confirmed, refused)
        });
    }
    while let Some(ended) = movers.join_next().await {
        let (confirmed, refused) = ended.unwrap_or_default();
        moved.confirmed += confirmed;
        moved.refused += refused;
    }
    moved
}

/// The same request until its answer is final.
async fn insist(client: &Client, url: &str, key: &str, body: &Value) -> (StatusCode, Value) {
    loop {
        let sent = client.post(url).header("idempotency-key", key).json(body).send().await;
        if let Ok(answer) = sent {
            let status = answer.status();
            let body = answer.json().await;
            if let (Ok(body), false) = (body, status.is_server_error() || status == StatusCode::ACCEPTED) {
                return (status, body);
            }
        }
        sleep(PAUSE).await;
    }
}
