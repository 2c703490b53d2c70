//! How fast one product sells, and what an import of a million keys does to buyers meanwhile.
//!
//! ```sh
//! cargo run --release -p tidegate-services --example card_key_load
//! cargo run --release -p tidegate-services --example card_key_load -- 100000   # a smaller import
//! ```
//!
//! A real service on a free port with a real file in a temporary folder, and clients over HTTP in the same process, so
//! the figures hold the clients' share of the processor too.
//!
//! The import is one call that is sent in parts, and between two of them it rests. So purchases with and without it are
//! of the same minutes, and what else the machine does meanwhile slows both. Ends with an error when the slowest purchase
//! in a hundred takes more than twice as long during the import, when its report is not exact, or when the books do not
//! add up.

use std::convert::Infallible;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Client};
use serde_json::{Value, json};
use tidegate_services::card_key::{self, KeySource, Settings};
use tidegate_services::support::Running;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Clients that issue as fast as they are answered, and for how long.
const RUSHING: u32 = 64;
const RUSH: Duration = Duration::from_secs(10);

/// Buyers around the import, each with a pause between two purchases: a busy shop, not a flood.
const BUYERS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(20);

/// Parts of the import, and how long buyers are left alone after each.
const PARTS: u32 = 20;
const REST: Duration = Duration::from_secs(4);

/// Lines that the service may hold back until more of them come: its longest batch.
const HELD_BACK: u64 = 2_000;

/// Purchases of which the slowest in a hundred can be told.
const FEWEST: usize = 1_000;

/// How much longer the slowest purchase in a hundred may take because of an import.
const MOST_SLOWER: f64 = 2.0;

/// Keys in stock before anything is measured.
const STOCK: u32 = 300_000;

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

    shop.product("filled").await?;
    let moment = Arc::new(AtomicU8::new(Moment::Rest as u8));
    let buyers = shop.buyers(&moment);
    let (report, took) = shop.import_in_parts("filled", lines, &moment).await?;
    let [resting, importing] = buyers.end(&moment).await?;
    if importing.len() < FEWEST {
        return Err(format!("only {} purchases during the import say nothing: import more", importing.len()).into());
    }
    let slower = show("purchases during the import", &importing) / show("purchases in its rests", &resting);
    let rate = f64::from(lines) / took.as_secs_f64();
    say(&format!(
        "imported {} of {lines} lines, {} duplicates, {rate:.0} a second while it did not rest",
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
    say(&format!("the slowest purchase in a hundred takes {slower:.1} times as long during an import"));
    if slower > MOST_SLOWER {
        return Err(format!("that is more than {MOST_SLOWER}").into());
    }
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

/// What the import does, as its buyers see it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Rest,
    Import,
    Over,
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

    /// Imports so many lines, one in a hundred of them twice, and rests after each part. The last report, and how long
    /// the parts took together.
    async fn import_in_parts(&self, sku: &str, lines: u32, moment: &AtomicU8) -> Result<(Value, Duration), Failure> {
        let (parts, queue) = tokio::sync::mpsc::channel::<String>(1);
        let body = stream::unfold(queue, |mut queue| async {
            let part = queue.recv().await?;
            Some((Ok::<_, Infallible>(Bytes::from(part)), queue))
        });
        let url = format!("{}/admin/skus/{sku}/keys:import?dedupe=skip", self.base);
        let mut reports = self.client.post(url).body(Body::wrap_stream(body)).send().await?;
        let (mut text, mut took) = (String::new(), Duration::ZERO);
        let each = lines.div_ceil(PARTS);
        for begin in (0..lines).step_by(each as usize) {
            let end = lines.min(begin + each);
            let part = (begin..end).map(|n| format!("K-{:07}\n", if n % 100 == 99 { n - 1 } else { n })).collect();
            let begun = Instant::now();
            moment.store(Moment::Import as u8, Ordering::Relaxed);
            parts.send(part).await?;
            while last(&text)["lines"].as_u64().unwrap_or(0) + HELD_BACK < u64::from(end) {
                let piece = reports.chunk().await?.ok_or("the import ended early")?;
                text.push_str(std::str::from_utf8(&piece)?);
            }
            moment.store(Moment::Rest as u8, Ordering::Relaxed);
            took += begun.elapsed();
            tokio::time::sleep(REST).await;
        }
        drop(parts);
        while let Some(piece) = reports.chunk().await? {
            text.push_str(std::str::from_utf8(&piece)?);
        }
        Ok((last(&text), took))
    }

    /// Buyers that reserve and pay until it is over.
    fn buyers(&self, moment: &Arc<AtomicU8>) -> Buyers {
        let buyers = (0..BUYERS).map(|buyer| {
            let (shop, moment) = (self.clone(), Arc::clone(moment));
            tokio::spawn(async move {
                let mut times = [Vec::new(), Vec::new()];
                for number in 0_u64.. {
                    let during = moment.load(Ordering::Relaxed);
                    if during == Moment::Over as u8 {
                        break;
                    }
                    let order = json!({ "order_no": format!("b{buyer}-{number}"), "sku": "hot", "qty": 1 });
                    let started = Instant::now();
                    shop.post("/v1/reservations", &order).await?;
                    shop.post("/v1/allocations", &order).await?;
                    let took = started.elapsed();
                    // One that began in a rest and ended after it belongs to neither.
                    if moment.load(Ordering::Relaxed) == during {
                        times[usize::from(during)].push(took);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Ok::<_, Failure>(times)
            })
        });
        Buyers(buyers.collect())
    }
}

struct Buyers(Vec<tokio::task::JoinHandle<Result<[Vec<Duration>; 2], Failure>>>);

impl Buyers {
    /// Stops them; answers how long each purchase took, the shortest first, in rests and during the import.
    async fn end(self, moment: &AtomicU8) -> Result<[Vec<Duration>; 2], Failure> {
        moment.store(Moment::Over as u8, Ordering::Relaxed);
        let mut all = [Vec::new(), Vec::new()];
        for buyer in self.0 {
            for (all, times) in all.iter_mut().zip(buyer.await??) {
                all.extend(times);
            }
        }
        all.iter_mut().for_each(|times| times.sort_unstable());
        Ok(all)
    }
}

/// The last whole line of an answer; null when there is none.
fn last(text: &str) -> Value {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null)
}

/// Prints how long these took; answers the 99th percentile in milliseconds.
fn show(what: &str, times: &[Duration]) -> f64 {
    let at = |part: usize| times.get(times.len() * part / 1_000).map_or(0.0, |time| time.as_secs_f64() * 1_000.0);
    let (half, most, nearly_all) = (at(500), at(990), at(999));
    let count = times.len();
    say(&format!(
        "{what}: {count} of them, half within {half:.1} ms, 99 % within {most:.1} ms, 99.9 % within {nearly_all:.1} ms"
    ));
    most
}

fn say(text: &str) {
    // Nobody is left to tell when stdout is closed.
    let _ = writeln!(std::io::stdout(), "{text}");
}
