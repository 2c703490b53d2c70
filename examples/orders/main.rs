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

mod crowd;
#[path = "../../tests/it/support/ports.rs"]
mod ports;
#[path = "../storm/processes.rs"]
mod processes;
mod soak;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use reqwest::Client;
use tidegate_filters::engine::TimeSpan;

use crowd::{Crowd, Done, Errand};
use processes::{CHANNELS, PROCESSES, Processes, Setup};

/// What can go wrong; each error brings its own sentence.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Limits that are not what is measured.
const EDITS: [(&str, &str); 2] = [
    ("{name: api, key: route, rate: 1000/s}", "{name: api, key: route, rate: 100000/s}"),
    ("{name: system, key: global, rate: 10000/s}", "{name: system, key: global, rate: 100000/s}"),
];

/// Keys on the shelf before anything is measured: more than are ordered until then.
const STOCK: u64 = 100_000;

/// Files, and the most operations that share a commit.
const LAYOUTS: [(u8, u16); 6] = [(1, 1), (4, 1), (16, 1), (1, 512), (4, 512), (16, 512)];

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
    /// How many people there are.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    people: u64,
    /// Instead of the table: so long at 70 % of what it takes, with one file. Ends with an error when an accepted order
    /// fails, when one in a hundred waits longer than 200 ms to be accepted, or when a process keeps growing.
    #[arg(long)]
    soak: Option<TimeSpan>,
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
    writeln!(out, "{}", machine()?)?;
    if let Some(duration) = args.soak {
        let folder = tempfile::tempdir()?;
        let processes = start(folder.path(), &binaries, &args, (1, 512))?;
        return soak::soak(&processes, folder.path(), &args, duration.0).await;
    }
    writeln!(
        out,
        "{:>5} {:>6}  {:>9} {:>7} {:>9} {:>7}  {:>12} {:>9} {:>7}",
        "files", "shared", "orders/s", "p99 ms", "fsyncs/o.", "all/o.", "purchases/s", "fsyncs/p.", "all/p."
    )?;
    for (files, batch) in LAYOUTS {
        let folder = tempfile::tempdir()?;
        let processes = start(folder.path(), &binaries, &args, (files, batch))?;
        let crowd = Crowd::new(&processes, &args)?;
        crowd.stock(&processes, 0..STOCK).await?;
        let before = commits(&crowd.client, &processes).await?;
        let orders = crowd.rush(Errand::Order).await?;
        let between = commits(&crowd.client, &processes).await?;
        let bought = crowd.rush(Errand::Purchase).await?;
        let after = commits(&crowd.client, &processes).await?;
        let each = |at: usize, from: [u64; 2], to: [u64; 2], done: &Done| {
            (to[at] - from[at]) as f64 / done.count.max(1) as f64
        };
        writeln!(
            out,
            "{files:>5} {:>6}  {:>9.0} {:>7.0} {:>9.2} {:>7.2}  {:>12.0} {:>9.2} {:>7.2}",
            if batch > 1 { "yes" } else { "no" },
            orders.rate(),
            orders.p99_ms(),
            each(0, before, between, &orders),
            each(1, before, between, &orders),
            bought.rate(),
            each(0, between, after, &bought),
            each(1, between, after, &bought),
        )?;
        for name in PROCESSES {
            processes.kill(name);
        }
    }
    Ok(())
}

/// Starts the set-up with so many files and so many operations in a commit; channels charge at once.
fn start(folder: &Path, binaries: &Path, args: &Args, (files, batch): (u8, u16)) -> Result<Processes, Failure> {
    let own = ["--shards", &files.to_string(), "--max-batch", &batch.to_string()].map(str::to_owned);
    let mut arguments = BTreeMap::from([("order", own.to_vec())]);
    for channel in CHANNELS {
        arguments.insert(channel, vec!["--auto-confirm".to_owned()]);
    }
    Processes::start(folder, Setup { binaries, config: &args.config, edits: &EDITS, arguments })
}

/// What the figures were measured on, and what else it had to do at the beginning.
fn machine() -> Result<String, Failure> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{cores} cores, {}, load {}", model.unwrap_or("unknown"), load.split(' ').next().unwrap_or_default()))
}

/// Who writes. The gateway's figures are at its admin side.
const WRITERS: [&str; 6] = ["order", "card-key", "alipay", "wechat", "union", "admin"];

/// Commits so far, one fsync each: the order service's, and all together. The gateway's are those of its records of
/// requests, of deferred ones, and of its journal of payments.
async fn commits(client: &Client, processes: &Processes) -> Result<[u64; 2], Failure> {
    let [mut own, mut all] = [0, 0];
    for name in WRITERS {
        let text = client.get(format!("{}/metrics", processes.url(name))).send().await?.text().await?;
        let lines = text.lines().filter(|line| line.contains("_commits_total") && !line.starts_with('#'));
        let values: Vec<f64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        if values.is_empty() {
            return Err(format!("{name} counts no commits").into());
        }
        let sum = values.iter().sum::<f64>() as u64;
        all += sum;
        own += if name == "order" { sum } else { 0 };
    }
    Ok([own, all])
}
