//! The command line of reconciliation: one run, or one a day.
//!
//! A run ends with code 0 when both sides agree (apart from what is carried over), 2 when there are differences, and 1
//! when it could not be made.

use std::convert::Infallible;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Client, Method};
use serde_json::Value;

use super::daily::{self, Plan, TimeOfDay};
use super::day::Day;
use super::model::Channel;
use super::repair::{Redrive, repair};
use super::run::{Done, Job, Rules, Runs};
use crate::order::Bills;

/// What can go wrong; each error brings its own sentence.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Ending is no success of a loop that has no end.
pub(super) type Failure = Infallible;

/// Exit code for differences.
const DIFFERENCES: u8 = 2;

/// Longest the order service may take to answer; it asks a channel meanwhile.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Arguments of `reconcile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose bill: alipay or wechat.
    #[arg(long, required_unless_present = "daily")]
    channel: Option<Channel>,
    /// The day it is about, as 2026-11-20.
    #[arg(long, required_unless_present = "daily")]
    date: Option<Day>,
    /// The bill: for wechat the CSV file, plain or GZIP; for alipay the ZIP file.
    #[arg(long, required_unless_present_any = ["daily", "merchants"])]
    bill: Option<PathBuf>,
    /// File that says who we are at the channels, as for the order service: bills that are not there are fetched with it.
    #[arg(long)]
    merchants: Option<PathBuf>,
    /// Folder with the order service's files; reconciliation.sqlite is made there.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// How close to midnight something may be missing and be carried over to the next run, in minutes.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=720))]
    window_minutes: u64,
    /// The agreed fee in hundredths of a percent (60 is 0.6 %). Without it, fees are not compared.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    fee_basis_points: Option<u32>,
    /// Folder for the report (JSON) and its items (CSV), made when absent. Without it only the report is printed.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Repair what can be repaired: ask for payments that only the bill has, propose refunds of double charges.
    #[arg(long)]
    apply: bool,
    /// Where the order service listens, for --apply and --daily.
    #[arg(long, default_value = "http://127.0.0.1:7001")]
    order: String,
    /// Go on for ever: check our own books and compare the bills of every day.
    #[arg(long, conflicts_with_all = ["channel", "date", "bill", "out"])]
    daily: bool,
    /// With --daily: when our own books are checked, in China Standard Time.
    #[arg(long, default_value = "02:00")]
    internal_at: TimeOfDay,
    /// With --daily: when the bills of the day before are looked for.
    #[arg(long, default_value = "10:30")]
    channel_at: TimeOfDay,
    /// Folder in which bills appear, or into which they are fetched, as wechat-2026-11-20.csv(.gz) and alipay-2026-11-20.zip.
    #[arg(long, default_value = "data/bills")]
    bills: PathBuf,
}

/// Runs it.
///
/// # Errors
/// When the bill is not to be believed or one of the sides cannot be read.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let rules =
        Rules { window: Duration::from_secs(args.window_minutes * 60), fee_basis_points: args.fee_basis_points };
    let runs = Runs::open(&args.data_dir)?;
    let service = OrderService::new(&args.order)?;
    let source = args.merchants.as_deref().map(Bills::open).transpose()?;
    let (Some(channel), Some(day)) = (args.channel, args.date) else {
        let Args { internal_at, channel_at, bills, apply, .. } = args;
        let plan = Plan { internal_at, channel_at, bills, source, rules, apply };
        match daily::every_day(&runs, &plan, &service).await {}
    };
    let bill = match (args.bill, source) {
        (Some(bill), _) => bill,
        (None, Some(source)) => source.fetch(channel, day, &args.bills).await?,
        (None, None) => return Err("--bill or --merchants is needed".into()),
    };
    let done = runs.run(Job { channel, day, bill, rules }).await?;
    if let Some(folder) = &args.out {
        write_out(&runs, &done, folder).await?;
    }
    std::io::stdout().write_all(done.report.as_bytes())?;
    if args.apply {
        let repaired = repair(&runs, &done.id, &service).await?;
        writeln!(std::io::stderr(), "{}", serde_json::to_string(&repaired)?)?;
    }
    Ok(if done.differences == 0 { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENCES) })
}

async fn write_out(runs: &Runs, done: &Done, folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(format!("{}.json", done.id)), &done.report)?;
    runs.write_items(&done.id, &folder.join(format!("{}.csv", done.id))).await?;
    Ok(())
}

/// A running order service, over HTTP.
pub(super) struct OrderService {
    base: String,
    client: Client,
}

impl OrderService {
    fn new(base: &str) -> Result<Self, Error> {
        let client = Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), client })
    }

    async fn call(&self, method: Method, path: &str) -> Result<Value, String> {
        let sent = self.client.request(method, format!("{}{path}", self.base)).send().await;
        let answer = sent.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(|error| format!("status {status}: {error}"))?;
        // 500 with violations is an answer to the question.
        if status.is_success() || body["violations"].is_array() {
            return Ok(body);
        }
        Err(format!("status {status}: {}", body["detail"].as_str().unwrap_or("")))
    }

    /// Everything that does not add up in the order service's own books.
    pub(super) async fn check(&self) -> Result<Vec<Value>, String> {
        let answer = self.call(Method::GET, "/admin/invariants").await?;
        Ok(answer["violations"].as_array().cloned().unwrap_or_default())
    }
}

impl Redrive for OrderService {
    fn redrive(&self, out_trade_no: String) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let path = format!("/admin/payments/{out_trade_no}/resolve");
            let answer = self.call(Method::POST, &path).await?;
            let status = answer["status"].as_str().map(str::to_owned);
            status.ok_or_else(|| "an answer without a status".to_owned())
        })
    }
}
