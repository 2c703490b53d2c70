//! A storm: a flash sale over the bundled set-up while every process is killed again and again, channels fail in every
//! way they can, and callbacks come twice, late, forged or not at all. When it is over, everything must have ended, all
//! books must agree, and the channels' bills with them.
//!
//! The buyers' own record of what they were told is the oracle, with the channels' ledgers and their bills; what the
//! services and the gateway wrote down is what is being examined.
//!
//! | File | What |
//! | --- | --- |
//! | `processes` | the gateway and the services, on free ports in a folder of their own |
//! | `weather`, `faults.json` | how the set-up is changed, and what goes wrong at every channel |
//! | `sale`, `buyer` | who buys, who fills the shelves, whose money moves |
//! | `killer` | kills |
//! | `books` | what is found when it is over |
//!
//! `./dev storm` runs it for ten minutes.

mod books;
mod buyer;
mod killer;
#[path = "../../tests/it/support/ports.rs"]
mod ports;
mod processes;
mod sale;
mod weather;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use clap::Parser;
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};
use parking_lot::Mutex;
use tidegate_filters::engine::{Rate, TimeSpan};

use buyer::Ending;
use killer::Havoc;
use processes::PROCESSES;
use sale::{Moved, Told};

/// When nobody has ordered for so long, the sale stands still: more than any one process needs to be back, and more than the
/// shelves stay empty.
const STILL: Duration = Duration::from_secs(90);

/// What can go wrong before there is anything to report; each error brings its own sentence.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sells under kills, faults and lost callbacks, and checks that all books agree in the end.
#[derive(Debug, Parser)]
#[command(name = "storm", version)]
struct Args {
    /// How long people come and processes are killed.
    #[arg(long, default_value = "10m")]
    duration: TimeSpan,
    /// Arrivals.
    #[arg(long, default_value = "4/s")]
    rate: Rate,
    /// How often each process is killed.
    #[arg(long, default_value = "20s")]
    kill_every: TimeSpan,
    /// Time to pay.
    #[arg(long, default_value = "30s")]
    pay_within: TimeSpan,
    /// Folder with `tidegate` and `tidegate-services`; default: beside this program.
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// The gateway's configuration.
    #[arg(long, default_value = "config/tidegate.yaml")]
    config: PathBuf,
    /// Folder for files and logs, which is kept; default: one that is thrown away unless something was wrong.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(std::io::stderr(), "storm: {error}");
            ExitCode::from(2)
        }
    }
}

/// `true` when every check passed.
async fn run(args: Args) -> Result<bool, Failure> {
    let folder = tempfile::Builder::new().prefix("storm-").tempdir()?;
    let path = args.keep.clone().unwrap_or_else(|| folder.path().to_owned());
    std::fs::create_dir_all(&path)?;
    if std::fs::read_dir(&path)?.next().is_some() {
        return Err(format!("{} is not empty", path.display()).into());
    }
    let passed = tokio::select! {
        passed = storm(&args, &path) => passed?,
        _ = tokio::signal::ctrl_c() => return Err("stopped".into()),
    };
    if !passed && args.keep.is_none() {
        let kept = folder.keep();
        writeln!(std::io::stderr(), "files and logs are kept in {}", kept.display())?;
    }
    Ok(passed)
}

/// Everything that was seen.
struct Seen {
    told: Told,
    moved: Moved,
    havoc: Havoc,
    open: Vec<String>,
    bought: books::Bought,
    balances: i64,
    check: (bool, String),
    bills: (u64, Vec<String>),
    quiet_after: Duration,
    pause: Duration,
}

async fn storm(args: &Args, folder: &Path) -> Result<bool, Failure> {
    let beside = std::env::current_exe()?.ancestors().nth(2).map(Path::to_owned);
    let binaries = args.binaries.clone().or(beside).ok_or("--binaries is needed")?;
    let first_day = today();
    let processes = Arc::new(weather::start(folder, &binaries, &args.config, args.pay_within.0)?);
    let client = sale::client()?;
    let (over, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let killer = tokio::spawn(killer::kill(processes.clone(), client.clone(), args.kill_every.0, over.clone()));
    let restock = tokio::spawn(sale::restock(processes.clone(), client.clone()));
    let movers = tokio::spawn(sale::move_money(processes.url("order"), client.clone(), begun + args.duration.0));
    let told = Arc::new(Mutex::new(Told::default()));
    let progress = tokio::spawn(progress(Arc::clone(&told), begun));
    let sale = {
        let (processes, client, told) = (processes.clone(), client.clone(), Arc::clone(&told));
        let times = [args.rate.interval(), args.duration.0, args.pay_within.0];
        tokio::spawn(async move { sale::sell(&processes, &client, times, &told).await })
    };
    tokio::time::sleep_until((begun + args.duration.0).into()).await;
    over.store(true, SeqCst);
    let havoc = killer.await??;
    restock.abort();
    let ended = Instant::now();
    let mut open = books::quiet(&processes, &client).await?;
    sale.await??;
    let moved = movers.await?;
    // The last visitors may have begun something since.
    open.extend(books::quiet(&processes, &client).await?);
    let quiet_after = ended.elapsed();
    progress.abort();
    let told = std::mem::take(&mut *told.lock());
    let pause = told.longest_pause(ended);
    let bought = books::bought(&told.orders).await;
    let balances = books::balances(&processes.url("order"), &client, &moved).await?;
    let mut days = vec![first_day, today()];
    days.dedup();
    books::bills(&processes, &client, &days, folder).await?;
    for name in PROCESSES {
        processes.kill(name);
    }
    let orders: Vec<String> = told.orders.iter().map(|(order, _)| order.clone()).collect();
    let check = books::check(&processes, &orders, folder)?;
    let bills = books::reconcile(&processes, &days, folder)?;
    Seen { told, moved, havoc, open, bought, balances, check, bills, quiet_after, pause }.report(args)
}

/// The channels' day, which is China's.
fn today() -> String {
    Timestamp::now().to_zoned(TimeZone::fixed(Offset::constant(8))).date().to_string()
}

/// A line now and then, on stderr.
async fn progress(told: Arc<Mutex<Told>>, begun: Instant) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let line = {
            let told = told.lock();
            let ended: u64 = told.endings.values().sum();
            let (arrived, ordered) = (told.arrived, told.orders.len());
            format!("{:>4}s  arrived {arrived}  ordered {ordered}  left {ended}", begun.elapsed().as_secs())
        };
        // It is only for people.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

impl Seen {
    /// Prints it; `true` when everything is as it must be.
    fn report(self, args: &Args) -> Result<bool, Failure> {
        let mut out = std::io::stdout().lock();
        let Self { told, moved, havoc, open, bought, balances, check, bills, quiet_after, pause } = self;
        let sold_out = told.endings.get(&Ending::SoldOut).copied().unwrap_or(0);
        writeln!(out, "{} came, {} ordered, {sold_out} found nothing left", told.arrived, told.orders.len())?;
        writeln!(out, "orders: {:?}", bought.endings)?;
        writeln!(out, "transfers: {} confirmed, {} refused", moved.confirmed, moved.refused)?;
        writeln!(
            out,
            "{} kills, {} faults, {} callbacks copied, {} forged; quiet {:.1} s after the last kill",
            havoc.kills,
            havoc.faults,
            havoc.copies,
            havoc.probes,
            quiet_after.as_secs_f64()
        )?;
        let unanswered: Vec<_> = told.endings.iter().filter(|(end, _)| matches!(end, Ending::NoAnswer(_))).collect();
        let rounds = args.duration.0.as_secs_f64() / args.kill_every.0.as_secs_f64();
        let least = (rounds * PROCESSES.len() as f64 / 2.0) as u64;
        let delivered = bought.endings.get("DELIVERED").copied().unwrap_or(0);
        let checks = [
            ("processes were killed, and channels failed", havoc.kills >= least && havoc.faults > 10, String::new()),
            ("no forged callback was believed", havoc.believed == 0, String::new()),
            ("callbacks were copied and forged", havoc.copies > 0 && havoc.probes > 0, String::new()),
            ("most of those who ordered got a key", delivered * 2 > told.orders.len() as u64, String::new()),
            ("the sale never stood still", pause < STILL, format!("longest pause {:.0} s", pause.as_secs_f64())),
            ("everybody was answered", unanswered.is_empty(), format!("{unanswered:?}")),
            ("everything has ended", open.is_empty(), open.join(", ")),
            (
                "who was told of an order has it, and one key of his own",
                bought.wrong.is_empty(),
                bought.wrong.join("\n"),
            ),
            (
                "no money was lost between accounts",
                balances == moved.deposited,
                format!("{balances} of {}", moved.deposited),
            ),
            ("money was moved between accounts", moved.confirmed > 0, String::new()),
            ("all invariants hold by the offline checker", check.0, check.1),
            (
                "the bills agree with the books",
                bills.0 > 0 && bills.1.is_empty(),
                format!("{} agree {:?}", bills.0, bills.1),
            ),
        ];
        for (what, passed, why) in &checks {
            writeln!(
                out,
                "{} {what}{}{why}",
                if *passed { "ok    " } else { "FAILED" },
                if why.is_empty() { "" } else { ": " }
            )?;
        }
        Ok(checks.iter().all(|(_, passed, _)| *passed))
    }
}
