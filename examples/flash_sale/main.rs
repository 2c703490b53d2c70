//! A flash sale: many buyers, few keys, a waiting room in front, and one user who floods.
//!
//! Every arrival is a whole purchase through the gateway: wait in line, order, pay, confirm in the wallet, wait for the delivery,
//! read the keys. The model is open: arrivals follow a schedule that does not care whether earlier ones were answered,
//! and latency counts from the scheduled moment. A gateway that stalls therefore looks as bad as it is to buyers,
//! where a loop that waits for each answer would simply ask less often (coordinated omission).
//!
//! | File | What |
//! | --- | --- |
//! | `load` | the schedule, and who comes |
//! | `buyer` | one purchase |
//! | `line` | waiting in the room in front of the sale |
//! | `shop` | the interface, and what an answer means |
//! | `tally`, `histogram` | what has happened so far, in bounded memory |
//! | `channels` | payment channels that misbehave, and their ledgers |
//! | `tiers` | which limits refused, as the gateway counted |
//! | `progress`, `report` | what people see: while it runs, at the end |
//!
//! `./dev flood` runs it against what `./dev run` has started.

mod buyer;
mod channels;
mod histogram;
mod line;
mod load;
mod progress;
mod report;
mod shop;
mod tally;
mod tiers;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tidegate_filters::engine::{Rate, TimeSpan};

use channels::Channels;
use load::Plan;
use report::Report;
use shop::Shop;
use tally::Tally;

/// What can go wrong before there is anything to report; each error brings its own sentence.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sends a crowd of buyers through the gateway and checks that nobody was cheated.
#[derive(Debug, Parser)]
#[command(name = "flash_sale", version)]
struct Args {
    /// The gateway.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    target: String,
    /// The gateway's admin listener, for its own count of refusals by limit; it may be out of reach.
    #[arg(long, default_value = "http://127.0.0.1:9901")]
    admin: String,
    /// How many different people come, each with a token of their own.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    users: u32,
    /// Arrivals, all people together.
    #[arg(long, default_value = "125/s")]
    rate: Rate,
    /// How long people keep arriving.
    #[arg(long, default_value = "10s")]
    duration: TimeSpan,
    /// What they want.
    #[arg(long, default_value = "flash-100")]
    sku: String,
    /// Share of the arrivals that is one single user, as in `20%`; `0%` for none.
    #[arg(long, default_value = "20%", value_parser = share)]
    flooder: f64,
    /// Share of the orders that is paid.
    #[arg(long, default_value = "1.0", value_parser = share)]
    pay_ratio: f64,
    /// Payment channels, taken in turn.
    #[arg(long, default_value = "alipay,wechat,union", value_delimiter = ',')]
    channels: Vec<String>,
    /// Whoever is told to come back later does so, as long as people arrive.
    #[arg(long)]
    patient: bool,
    /// Most requests under way at once, and so most connections.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// How long one answer may take.
    #[arg(long, default_value = "10s")]
    timeout: TimeSpan,
    /// How long paying and delivery of one order may take.
    #[arg(long, default_value = "60s")]
    settle: TimeSpan,
    #[command(flatten)]
    misbehaviour: channels::Faults,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// `20%` or `0.2`.
fn share(text: &str) -> Result<f64, String> {
    let (number, divisor) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.trim().parse::<f64>().map(|number| number / divisor).ok();
    let share = share.filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is no share; write it like `20%` or `0.2`"))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(std::io::stderr(), "flash_sale: {error}");
            ExitCode::from(2)
        }
    }
}

/// `true` when every check passed.
async fn run(args: Args) -> Result<bool, Failure> {
    let plan = Plan::new(&args)?;
    let shop = Arc::new(Shop::new(&args).await?);
    let stock = shop.stock(&args.sku).await?;
    let refused = tiers::refusals(&args.admin).await;
    let pace = if shop.is_behind_a_room(&args.sku) { tiers::pace(&args.admin).await } else { None };
    let misbehaving = match &args.misbehaviour.faults {
        Some(plan) => Some(Channels::misbehave(plan, &args.misbehaviour.simulators, &args.admin).await?),
        None => None,
    };
    let tally = Arc::new(Tally::new());
    let progress = tokio::spawn(progress::show(Arc::clone(&tally), args.duration.0));
    let ran = load::run(plan, shop, Arc::clone(&tally)).await;
    tally.end();
    // An error is a closed stderr; the result does not depend on it.
    let _ = progress.await;
    let refused = tiers::between(&refused, tiers::refusals(&args.admin).await);
    let money = match misbehaving {
        Some(channels) => Some(channels.settle(args.settle.0).await?),
        None => None,
    };
    let report = Report::new(&args, (stock, pace), ran, &tally, refused, money.as_ref());
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        report.print(&mut out)?;
    }
    out.flush()?;
    Ok(report.passed())
}
