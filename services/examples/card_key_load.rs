//! How fast one product sells, and what an import of a million keys does to buyers meanwhile.
//!
//! ```sh
//! cargo run --release -p tidegate-services --example card_key_load
//! cargo run --release -p tidegate-services --example card_key_load -- 100000   # a smaller import
//! ```
//!
//! A real service on a free port with a real file in a temporary folder, and clients over HTTP in the same process, so
//! the figures hold the clients' share of the processor too. Ends with an error when the report of the import is not
//! exact or the books do not add up; figures are printed and never judged.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use tidegate_services::card_key::{self, KeySource, Settings};
use tidegate_services::support::Running;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Clients that issue as fast as they are answered, and for how long.
const RUSHING: u32 = 64;
const RUSH: Duration = Duration::from_secs(10);

/// Buyers around the import, each with a pause between two purchases: a busy shop, not a flood.
const BUYERS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(10);

/// How long buyers are watched without an import.
const CALM: Duration = Duration::from_secs(10);

/// Keys in stock before anything is measured.
const STOCK: u32 = 200_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let lines: u32 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let running = start(folder.path()).await?;
    let shop = Shop { base: format!("http://{}", running.address), client: Client::new() };
    shop.product("hot").await?;
    let stocked = shop.import("hot", (0..STOCK).map(|n| format!("HOT-{n:07}\n")).collect()).await?;
    say(&format!(
        "stocked {} keys at {:.0} a second",
        stocked.0["imported"],
        f64::from(STOCK) / stocked.1.as_secs_f64()
    ));

    let (sold, took) = shop.rush().await?;
    say(&format!(
        "one hot product: {:.0} keys issued a second, {RUSHING} clients",
        f64::from(sold) / took.as_secs_f64()
    ));

    let over = Arc::new(AtomicBool::new(false));
    let buyers = shop.buyers("calm", &over);
    tokio::time::sleep(CALM).await;
    show("purchases without an import", buyers.end(&over).await?);

    shop.product("filled").await?;
    let text = (0..lines).map(|n| format!("K-{:07}\n", if n % 100 == 99 { n - 1 } else { n })).collect();
    let over = Arc::new(AtomicBool::new(false));
    let buyers = shop.buyers("busy", &over);
    let (report, took) = shop.import("filled", text).await?;
    show("purchases during the import", buyers.end(&over).await?);
    let rate = f64::from(lines) / took.as_secs_f64();
    say(&format!(
        "imported {} of {lines} lines, {} duplicates, {rate:.0} a second",
        report["imported"], report["duplicates"]
    ));
    if report["duplicates"] != lines / 100 || report["imported"] != lines - lines / 100 {
        return Err(format!("the report is not exact: {report}").into());
    }
    let books: Value = shop.client.get(format!("{}/admin/invariants", shop.base)).send().await?.json().await?;
    if books != json!({ "violations": [] }) {
        return Err(format!("the books do not add up: {books}").into());
    }
    say("the books add up");
    drop(shop);
    running.stop();
    running.wait().await;
    Ok(())
}

async fn start(folder: &Path) -> Result<Running, Failure> {
    let settings = Settings {
        listen: "127.0.0.1:0".parse()?,
        data_dir: folder.to_owned(),
        key: KeySource::DataDir,
        seed_demo: false,
        hook_secret: None,
        admin_token: None,
        sweep_every: Duration::from_millis(500),
    };
    Ok(card_key::start(settings).await?)
}

#[derive(Clone)]
struct Shop {
    base: String,
    client: Client,
}

impl Shop {
    async fn product(&self, sku: &str) -> Result<(), Failure> {
        let product = json!({ "sku": sku, "name_zh": sku, "name_en": sku, "price": 100, "currency": "CNY" });
        self.post("/admin/products", &product).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<(), Failure> {
        let answer = self.client.post(format!("{}{path}", self.base)).json(body).send().await?;
        let answer = answer.error_for_status()?;
        answer.bytes().await?;
        Ok(())
    }

    /// The last report, and how long it took.
    async fn import(&self, sku: &str, text: String) -> Result<(Value, Duration), Failure> {
        let started = Instant::now();
        let url = format!("{}/admin/skus/{sku}/keys:import?dedupe=skip", self.base);
        let text = self.client.post(url).body(text).send().await?.text().await?;
        let last = text.lines().last().ok_or("no report")?;
        Ok((serde_json::from_str(last)?, started.elapsed()))
    }

    /// Issues keys of one product as fast as it goes; answers how many.
    async fn rush(&self) -> Result<(u32, Duration), Failure> {
        let started = Instant::now();
        let clients: Vec<_> = (0..RUSHING)
            .map(|client| {
                let shop = self.clone();
                tokio::spawn(async move {
                    let mut sold = 0;
                    while started.elapsed() < RUSH {
                        let order = json!({ "order_no": format!("r{client}-{sold}"), "sku": "hot", "qty": 1 });
                        shop.post("/v1/allocations", &order).await?;
                        sold += 1;
                    }
                    Ok::<_, Failure>(sold)
                })
            })
            .collect();
        let mut sold = 0;
        for client in clients {
            sold += client.await??;
        }
        Ok((sold, started.elapsed()))
    }

    /// Buyers that reserve and pay until it is over.
    fn buyers(&self, name: &'static str, over: &Arc<AtomicBool>) -> Buyers {
        let buyers = (0..BUYERS).map(|buyer| {
            let (shop, over) = (self.clone(), Arc::clone(over));
            tokio::spawn(async move {
                let mut times = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let order = json!({ "order_no": format!("{name}{buyer}-{}", times.len()), "sku": "hot", "qty": 1 });
                    let started = Instant::now();
                    shop.post("/v1/reservations", &order).await?;
                    shop.post("/v1/allocations", &order).await?;
                    times.push(started.elapsed());
                    tokio::time::sleep(PAUSE).await;
                }
                Ok::<_, Failure>(times)
            })
        });
        Buyers(buyers.collect())
    }
}

struct Buyers(Vec<tokio::task::JoinHandle<Result<Vec<Duration>, Failure>>>);

impl Buyers {
    /// Stops them; answers how long each purchase took, the shortest first.
    async fn end(self, over: &AtomicBool) -> Result<Vec<Duration>, Failure> {
        over.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        for buyer in self.0 {
            times.extend(buyer.await??);
        }
        times.sort_unstable();
        Ok(times)
    }
}

fn show(what: &str, times: Vec<Duration>) {
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1_000.0);
    say(&format!("{what}: {} of them, half within {:.1} ms, 99 % within {:.1} ms", times.len(), at(50), at(99)));
}

fn say(text: &str) {
    // Nobody is left to tell when stdout is closed.
    let _ = writeln!(std::io::stdout(), "{text}");
}
