//! How many orders a second the bundled set-up takes, each durable before it is answered, and how many go all the way:
//! ordered, paid at a channel through the gateway's journal, delivered. Once for every layout of the order service's files,
//! with shared commits and with one commit for each operation.
//!
//! ```sh
//! cargo build --release --workspace --bins --example orders
//! target/release/examples/orders
//! ```
//!
//! Real processes, real files, a real disk; the buyers' share of the processor is in the figures. A user's limits do not
//! matter (every order is somebody else's), those of the whole are raised: this is about the disk.

#[path = "../../tests/it/support/ports.rs"]
mod ports;
#[path = "../storm/processes.rs"]
mod processes;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Parser;
use jsonwebtoken::{EncodingKey, Header, encode};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tidegate_filters::engine::TimeSpan;
use tokio::task::JoinSet;

use processes::{CHANNELS, PROCESSES, Processes, Setup};

/// What can go wrong; each error brings its own sentence.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The bundled shop's own.
const SECRET: &str = "development-only-secret-of-the-bundled-shop";

/// What is bought: enough of it for every run.
const SKU: &str = "orders";

/// Limits that are not what is measured.
const EDITS: [(&str, &str); 2] = [
    ("{name: api, key: route, rate: 1000/s}", "{name: api, key: route, rate: 100000/s}"),
    ("{name: system, key: global, rate: 10000/s}", "{name: system, key: global, rate: 100000/s}"),
];

/// Files, and the most operations that share a commit.
const LAYOUTS: [(u8, u16); 5] = [(1, 1), (1, 512), (4, 1), (4, 512), (16, 512)];

/// Measures orders and purchases a second.
#[derive(Debug, Parser)]
#[command(name = "orders", version)]
struct Args {
    /// Buyers who order as fast as they are answered.
    #[arg(long, default_value_t = 64)]
    clients: u32,
    /// How long each figure is measured.
    #[arg(long, default_value = "10s")]
    duration: TimeSpan,
    /// Folder with `tidegate` and `tidegate-services`; default: beside this program.
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// The gateway's configuration.
    #[arg(long, default_value = "config/tidegate.yaml")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(std::io::stderr(), "orders: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    let beside = std::env::current_exe()?.ancestors().nth(2).map(Path::to_owned);
    let binaries = args.binaries.clone().or(beside).ok_or("--binaries is needed")?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:>5} {:>6}  {:>9} {:>7} {:>9}  {:>12} {:>9} {:>9}",
        "files", "shared", "orders/s", "p99 ms", "fsyncs/o.", "purchases/s", "fsyncs/p.", "all/p."
    )?;
    for (files, batch) in LAYOUTS {
        let folder = tempfile::tempdir()?;
        let own = ["--shards", &files.to_string(), "--max-batch", &batch.to_string()].map(str::to_owned);
        let mut arguments = BTreeMap::from([("order", own.to_vec())]);
        for channel in CHANNELS {
            arguments.insert(channel, vec!["--auto-confirm".to_owned()]);
        }
        let setup = Setup { binaries: &binaries, config: &args.config, edits: &EDITS, arguments };
        let processes = Processes::start(folder.path(), setup)?;
        let crowd = Crowd::new(&processes, &args)?;
        crowd.stock(&processes).await?;
        let before = commits(&crowd.client, &processes, &["order"]).await?;
        let orders = crowd.rush(Errand::Order).await?;
        let ordered = commits(&crowd.client, &processes, &["order"]).await? - before;
        let before = [
            commits(&crowd.client, &processes, &["order"]).await?,
            commits(&crowd.client, &processes, &SERVICES).await?,
        ];
        let bought = crowd.rush(Errand::Purchase).await?;
        let after = [
            commits(&crowd.client, &processes, &["order"]).await?,
            commits(&crowd.client, &processes, &SERVICES).await?,
        ];
        let each = |fsyncs: u64, done: &Done| fsyncs as f64 / done.count.max(1) as f64;
        writeln!(
            out,
            "{files:>5} {:>6}  {:>9.0} {:>7.0} {:>9.2}  {:>12.0} {:>9.2} {:>9.2}",
            if batch > 1 { "yes" } else { "no" },
            orders.rate(),
            orders.p99_ms(),
            each(ordered, &orders),
            bought.rate(),
            each(after[0] - before[0], &bought),
            each(after[1] - before[1], &bought),
        )?;
        for name in PROCESSES {
            processes.kill(name);
        }
    }
    Ok(())
}

/// The services that write.
const SERVICES: [&str; 5] = ["order", "card-key", "alipay", "wechat", "union"];

/// Commits of these services so far, one fsync each.
async fn commits(client: &Client, processes: &Processes, services: &[&str]) -> Result<u64, Failure> {
    let mut sum = 0;
    for name in services {
        let text = client.get(format!("{}/metrics", processes.url(name))).send().await?.text().await?;
        let line = text.lines().find(|line| line.contains("store_commits_total") && !line.starts_with('#'));
        let value = line.and_then(|line| line.rsplit(' ').next()).ok_or_else(|| format!("{name} counts no commits"))?;
        sum += value.parse::<f64>()? as u64;
    }
    Ok(sum)
}

/// What everybody does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Errand {
    Order,
    Purchase,
}

/// What was done within the time.
struct Done {
    count: u64,
    took: Duration,
    /// How long each took, the shortest first.
    times: Vec<Duration>,
}

impl Done {
    fn rate(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }

    fn p99_ms(&self) -> f64 {
        self.times.get(self.times.len() * 99 / 100).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
    }
}

/// Buyers, each order another one.
struct Crowd {
    client: Client,
    gateway: String,
    clients: u32,
    duration: Duration,
    key: Arc<EncodingKey>,
    number: Arc<AtomicU64>,
}

impl Crowd {
    fn new(processes: &Processes, args: &Args) -> Result<Self, Failure> {
        Ok(Self {
            client: Client::builder().no_proxy().pool_max_idle_per_host(args.clients as usize).build()?,
            gateway: processes.url("gateway"),
            clients: args.clients,
            duration: args.duration.0,
            key: Arc::new(EncodingKey::from_secret(SECRET.as_bytes())),
            number: Arc::default(),
        })
    }

    async fn stock(&self, processes: &Processes) -> Result<(), Failure> {
        let shelf = processes.url("card-key");
        let product = json!({ "sku": SKU, "name_zh": SKU, "name_en": SKU, "price": 4_900, "currency": "CNY" });
        let url = format!("{shelf}/admin/products");
        self.client.post(url).json(&product).send().await?.error_for_status()?.bytes().await?;
        let keys: String = (0..300_000).map(|n| format!("K-{n:07}\n")).collect();
        let url = format!("{shelf}/admin/skus/{SKU}/keys:import");
        let report = self.client.post(url).body(keys).send().await?.text().await?;
        if report.contains("aborted") { Err(report.into()) } else { Ok(()) }
    }

    /// Everybody does it as often as possible.
    async fn rush(&self, errand: Errand) -> Result<Done, Failure> {
        let begun = Instant::now();
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            let (client, gateway, key) = (self.client.clone(), self.gateway.clone(), self.key.clone());
            let (number, duration) = (self.number.clone(), self.duration);
            clients.spawn(async move {
                let mut times = Vec::new();
                while begun.elapsed() < duration {
                    let who = format!("buyer-{}", number.fetch_add(1, Relaxed));
                    let claims = json!({ "sub": who, "exp": 4_102_444_800_u64 });
                    let buyer =
                        Buyer { client: &client, gateway: &gateway, token: encode(&Header::default(), &claims, &key)? };
                    let started = Instant::now();
                    buyer.run(errand).await?;
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
struct Buyer<'a> {
    client: &'a Client,
    gateway: &'a str,
    token: String,
}

impl Buyer<'_> {
    async fn run(&self, errand: Errand) -> Result<(), Failure> {
        let wanted = json!({ "sku": SKU, "qty": 1, "query_password": "a-password" });
        let order = self.ask(Method::POST, "/api/orders", Some(wanted)).await?;
        let number = order["order_no"].as_str().ok_or_else(|| format!("not ordered: {order}"))?;
        if errand == Errand::Order {
            return Ok(());
        }
        let path = format!("/api/orders/{number}");
        let paid = self.ask(Method::POST, &format!("{path}/payments"), Some(json!({ "channel": "any" }))).await?;
        if paid["status"] != "SUCCESS" {
            return Err(format!("not paid: {paid}").into());
        }
        while self.ask(Method::GET, &path, None).await?["status"] != "DELIVERED" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let mut request = self.client.request(method, format!("{}{path}", self.gateway)).bearer_auth(&self.token);
        request = request.header("idempotency-key", "once");
        if let Some(body) = body {
            request = request.json(&body);
        }
        Ok(request.send().await?.error_for_status()?.json().await?)
    }
}
