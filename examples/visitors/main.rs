//! Virtual visitors at a waiting room, a tenth of them bots without cookies, a fifth who leave: is the line fair, are the
//! limits kept, and were the waits that people were told true?
//!
//! Without `--target`, a hundred thousand come within a virtual minute to the machine that the gateway runs, in this
//! process; with it, fewer come over HTTP to a gateway that runs.

mod http;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use tidegate_filters::engine::TimeSpan;
use tidegate_filters::waiting_room::rules::Rules;
use tidegate_filters::waiting_room::simulation::{Arrival, simulate};

/// One in so many keeps no cookies.
const BOTS: u64 = 10;
/// One in so many of the others leaves without a word.
const LEAVERS: u64 = 5;

/// Sends visitors to a waiting room and judges how they were treated.
#[derive(Debug, Parser)]
#[command(name = "visitors", version)]
struct Args {
    /// A page behind a waiting room of a gateway that runs; without one, the room is in this process.
    #[arg(long)]
    target: Option<String>,
    /// How many come [default: 100000, over HTTP 500].
    #[arg(long)]
    count: Option<u64>,
    /// Within what time.
    #[arg(long, default_value = "60s")]
    within: TimeSpan,
    /// How long they stay inside.
    #[arg(long, default_value = "20s")]
    stay: TimeSpan,
    /// In this process: people inside at once.
    #[arg(long, default_value_t = 20_000)]
    total_active_users: u32,
    /// In this process: people admitted in a minute.
    #[arg(long, default_value_t = 12_000)]
    new_users_per_minute: u32,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What came out, in the same words for both.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    pub(crate) admitted: u64,
    pub(crate) left: u64,
    pub(crate) numbers_of_bots: u64,
    /// Turns that came before a lower number's.
    pub(crate) inversions: u64,
    pub(crate) most_in_a_minute: u64,
    pub(crate) wait_p50: Duration,
    pub(crate) wait_p99: Duration,
    /// Median of the relative errors of the waits that visitors were told; `None` when nobody was told one.
    pub(crate) eta_error: Option<f64>,
    pub(crate) polls: u64,
    pub(crate) failures: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let began = Instant::now();
    let fairness = match &args.target {
        Some(target) => {
            let count = args.count.unwrap_or(500);
            http::visit(target, count, args.within.0, args.stay.0).await
        }
        None => here(&args),
    };
    let passed = fairness.inversions == 0 && fairness.numbers_of_bots == 0 && fairness.failures == 0;
    // A closed stdout is nobody to tell.
    let _ = print(&fairness, args.json, began.elapsed());
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn here(args: &Args) -> Fairness {
    let count = args.count.unwrap_or(100_000).max(1);
    let millis = |span: TimeSpan| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
    let (within, stay) = (millis(args.within), millis(args.stay));
    let visitor = |at: u64| Arrival {
        at: at * within / count,
        leave: 1.0 / LEAVERS as f64,
        think: stay + at * 7_919 % stay.max(1),
        keeps_cookies: !at.is_multiple_of(BOTS),
    };
    let arrivals: Vec<Arrival> = (0..count).map(visitor).collect();
    let rules = Rules::new(args.total_active_users, args.new_users_per_minute, 60_000);
    let report = simulate(&rules, &arrivals, 1);
    Fairness {
        admitted: report.admitted,
        left: report.left,
        numbers_of_bots: report.numbers_of_bots,
        inversions: report.inversions,
        most_in_a_minute: report.most_in_a_minute,
        wait_p50: Duration::from_millis(report.wait_p50),
        wait_p99: Duration::from_millis(report.wait_p99),
        eta_error: Some(report.eta_error),
        polls: report.polls,
        failures: 0,
    }
}

fn print(fairness: &Fairness, as_json: bool, took: Duration) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        return writeln!(out, "{}", report(fairness));
    }
    let seconds = |span: Duration| format!("{:.1} s", span.as_secs_f64());
    writeln!(out, "admitted                    {}", fairness.admitted)?;
    writeln!(out, "left without a word         {}", fairness.left)?;
    writeln!(out, "most admitted in 60 s       {}", fairness.most_in_a_minute)?;
    writeln!(out, "numbers taken by bots       {}", fairness.numbers_of_bots)?;
    writeln!(out, "turns out of order          {}", fairness.inversions)?;
    writeln!(
        out,
        "wait                        p50 {}, p99 {}",
        seconds(fairness.wait_p50),
        seconds(fairness.wait_p99)
    )?;
    let told = fairness.eta_error.map_or("nobody was told one".to_owned(), |error| format!("{:.0} %", error * 100.0));
    writeln!(out, "error of the wait told      {told} (median)")?;
    writeln!(out, "looks                       {}", fairness.polls)?;
    writeln!(out, "requests that failed        {}", fairness.failures)?;
    writeln!(out, "took                        {}", seconds(took))
}

fn report(fairness: &Fairness) -> Value {
    json!({
        "admitted": fairness.admitted,
        "left": fairness.left,
        "most_in_a_minute": fairness.most_in_a_minute,
        "numbers_of_bots": fairness.numbers_of_bots,
        "inversions": fairness.inversions,
        "wait_p50_ms": fairness.wait_p50.as_millis() as u64,
        "wait_p99_ms": fairness.wait_p99.as_millis() as u64,
        "eta_error": fairness.eta_error,
        "polls": fairness.polls,
        "failures": fairness.failures,
    })
}
