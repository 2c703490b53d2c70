//! How long it takes to compare a day of a million payments, and how much memory that takes beside a tenth of it.
//!
//! ```sh
//! cargo run --release -p tidegate-services --example reconciliation_load
//! ```
//!
//! Real bills in both formats, real order files as a service has made them, differences of every kind seeded in both.
//! Ends with an error when not exactly those are found, when a million need more than ten seconds of the processor, or
//! more memory than a tenth of them. All is done by one thread, so where a core is free that is the time it takes; the
//! clock's own time is printed beside it. One order file: the numbers of the seeded day carry no shard.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use rusqlite::{Connection, params};
use tidegate_services::order;
use tidegate_services::reconciliation::seeded::{FEE_BASIS_POINTS, Seeded};
use tidegate_services::reconciliation::{Category, Channel, Job, OurPayment, Rules, Runs, bill};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Payments of a day.
const SIZES: [u32; 2] = [100_000, 1_000_000];

/// Time of the processor that the larger day may take.
const LONGEST: Duration = Duration::from_secs(10);

/// What its memory may differ by from the smaller one's: what the allocator and SQLite's caches have kept.
const MORE_MIB: u64 = 16;

/// The order service's own arguments.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    order: order::cli::Args,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for channel in Channel::ALL {
        let [(_, small), (took, large)] = [compare(channel, SIZES[0]).await?, compare(channel, SIZES[1]).await?];
        if took > LONGEST {
            wrong.push(format!("{channel}: more than {} s of the processor", LONGEST.as_secs()));
        }
        if large > small + MORE_MIB {
            wrong.push(format!("{channel}: {large} MiB after {small} MiB is not flat"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ").into()) }
}

/// How much time of the processor it took, and the most memory in MiB.
async fn compare(channel: Channel, payments: u32) -> Result<(Duration, u64), Failure> {
    let folder = tempfile::tempdir()?;
    let seeded = Seeded { day: "2026-11-20".parse()?, payments };
    make_books(folder.path()).await?;
    fill_books(folder.path(), channel, seeded.ours())?;
    let path = folder.path().join("bill");
    bill::write(channel, seeded.day, seeded.bill(), File::create(&path)?)?;
    let megabytes = std::fs::metadata(&path)?.len() / 1_000_000;
    let runs = Runs::open(folder.path())?;
    let rules = Rules { fee_basis_points: Some(FEE_BASIS_POINTS), ..Rules::default() };
    // From here on the most that the process has held is counted anew.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let (begun, worked) = (Instant::now(), processor_time()?);
    let done = runs.run(Job { channel, day: seeded.day, bill: path, rules }).await?;
    let (took, worked) = (begun.elapsed(), processor_time()? - worked);
    let report: serde_json::Value = serde_json::from_str(&done.report)?;
    for category in Category::ALL {
        let (found, wanted) = (report["categories"][category.as_str()]["count"].as_u64(), seeded.expected());
        if found.unwrap_or(0) != wanted.get(&category).copied().unwrap_or(0) {
            return Err(format!("{}: {found:?} found, seeded were {wanted:?}", category.as_str()).into());
        }
    }
    let (seconds, work, peak) = (took.as_secs_f64(), worked.as_secs_f64(), peak_kib()? / 1_024);
    writeln!(
        std::io::stdout(),
        "{channel}: {payments} payments, a bill of {megabytes} MB: {seconds:.1} s, {work:.1} s of the processor, at most {peak} MiB, {} differences, all of them seeded",
        done.differences
    )?;
    Ok((worked, peak))
}

/// The files of an order service that was started and stopped.
async fn make_books(folder: &Path) -> Result<(), Failure> {
    let folder = folder.to_str().ok_or("a folder without a readable name")?;
    let line = Line::try_parse_from(["order", "--listen", "127.0.0.1:0", "--data-dir", folder])?;
    let running = order::start(line.order.into_settings()).await?;
    running.stop();
    running.wait().await;
    Ok(())
}

fn fill_books(folder: &Path, channel: Channel, rows: impl Iterator<Item = OurPayment>) -> Result<(), Failure> {
    let mut file = Connection::open(folder.join("order-0-of-1.sqlite"))?;
    let books = file.transaction()?;
    let mut order = books.prepare(
        "INSERT INTO orders (order_no, user_id, idem_key, fingerprint, sku, qty, amount, currency, status, created_ms,
         expires_ms, updated_ms) VALUES (?1, 'u', ?1, x'00', 'card', 1, ?2, 'CNY', 'EXPIRED', 0, 0, 0)
         ON CONFLICT DO NOTHING",
    )?;
    let mut payment = books.prepare(
        "INSERT INTO payments (payment_no, order_no, attempt, method, channel, amount, currency, status, trade_no, refund,
         next_ms, created_ms, updated_ms) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8, ?9, 9000000000000000, 0, ?10)",
    )?;
    let mut event =
        books.prepare("INSERT INTO order_events (order_no, at_ms, kind, detail) VALUES (?1, ?2, 'REFUND_DONE', ?3)")?;
    for row in rows {
        let attempt: i64 = row.out_trade_no.rsplit('-').next().ok_or("no attempt")?.parse()?;
        let refund = row.refund.as_ref().map(|_| "DONE");
        order.execute(params![row.intent, row.amount])?;
        payment.execute(params![
            row.out_trade_no,
            row.intent,
            attempt,
            channel.as_str(),
            row.amount,
            row.currency,
            row.status,
            row.trade_no,
            refund,
            row.at_ms
        ])?;
        if let Some(done_ms) = row.refund.and_then(|refund| refund.done_ms) {
            event.execute(params![row.intent, done_ms, row.out_trade_no])?;
        }
    }
    drop((order, payment, event));
    books.commit()?;
    Ok(())
}

/// What the process has had of the processor, in user and kernel mode.
fn processor_time() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name in the second field may hold blanks; the clock ticks a hundred times a second on every Linux.
    let fields = stat.rsplit_once(") ").ok_or("no name")?.1;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// The most memory that the process has held since it was counted anew.
fn peak_kib() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
